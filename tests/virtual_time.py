"""A clock for coroutines that does not depend on the machine."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Where nothing is ready, the time to wait for passes at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        self.now += timeout
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, but sleeping takes no time and all else takes none either: sleeps and timeouts end exactly when
    they should. For coroutines that wait for no thread, process or socket."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(coroutine)
