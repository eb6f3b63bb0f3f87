"""Threads of one tool alone: what takes long in it keeps no other tool waiting."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


class ToolThreads:
    """At most `most`, started when they are needed, named after the tool."""

    def __init__(self, name: str, most: int = 4) -> None:
        self._name, self._most = name, most
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    async def run(self, call: Callable[..., T], *arguments: object) -> T:
        """As `asyncio.to_thread`."""
        loop, context = asyncio.get_running_loop(), copy_context()
        # a forked process has none of its parent's threads
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(self._most, thread_name_prefix=self._name)
        return await loop.run_in_executor(self._pool[1], lambda: context.run(call, *arguments))
