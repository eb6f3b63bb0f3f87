"""Shards of work in this process or in several, each shard once, with progress told as it happens.

A worker that loses its parent stops at once, so that the next run never meets one of the last.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from deepmmsearch.errors import UserError


@dataclass(frozen=True)
class Progress:
    """What one step of a shard added: rows `done`, of them `kept`, and what it cost in dollars."""

    done: int = 0
    kept: int = 0
    cost: float = 0.0


Tell = Callable[[Progress], None]


class ShardTask(Protocol):
    """Work on one shard. It is sent to other processes, so it holds plain values only. All shards of a process run in
    one event loop: what it makes for the first may serve the others."""

    async def __call__(self, shard: str, tell: Tell, /) -> None: ...


def run_shards(task: ShardTask, shards: Sequence[str], processes: int) -> Iterator[Progress]:
    """Runs the task on every shard; with `processes` of 1 in this process, in a thread.

    The first error ends all of it: UserError as it was raised, anything else as RuntimeError with its text.
    """
    if processes <= 1 or len(shards) <= 1:
        yield from _run_here(task, shards)
        return
    context = multiprocessing.get_context("spawn")
    jobs: Any = context.Queue()
    events: Any = context.Queue()
    for shard in shards:
        jobs.put(shard)
    count = min(processes, len(shards))
    for _ in range(count):
        jobs.put(None)
    workers = [context.Process(target=_work, args=(task, jobs, events), daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    try:
        yield from _listen(events, workers)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _run_here(task: ShardTask, shards: Sequence[str]) -> Iterator[Progress]:
    """In a thread, so that progress is seen while a shard is under way."""
    told: SimpleQueue[Progress | BaseException | None] = SimpleQueue()

    async def run_all() -> None:
        for shard in shards:
            await task(shard, told.put)

    def work() -> None:
        try:
            asyncio.run(run_all())
            told.put(None)
        # carried over to the thread that waits
        except BaseException as error:
            told.put(error)

    threading.Thread(target=work, daemon=True).start()
    while (news := told.get()) is not None:
        if isinstance(news, BaseException):
            raise news
        yield news


def _listen(events: Any, workers: Sequence[Any]) -> Iterator[Progress]:
    running = len(workers)
    while running:
        try:
            kind, value = events.get(timeout=1.0)
        except Empty:
            broken = [w for w in workers if w.exitcode not in (None, 0)]
            if broken:
                raise RuntimeError(
                    f"A worker process ended with code {broken[0].exitcode}, perhaps for want of memory. "
                    "Run again with fewer processes; nothing that was finished is lost."
                ) from None
            continue
        if kind == "progress":
            yield value
        elif kind == "end":
            running -= 1
        elif kind == "user error":
            raise UserError(value)
        else:
            raise RuntimeError(value)


def _work(task: ShardTask, jobs: Any, events: Any) -> None:
    _die_with_parent()

    def tell(progress: Progress) -> None:
        events.put(("progress", progress))

    async def run_all() -> None:
        while (shard := jobs.get()) is not None:
            await task(shard, tell)

    try:
        asyncio.run(run_all())
        events.put(("end", None))
    except UserError as error:
        events.put(("user error", str(error)))
    # the border of the process: whatever it is, the parent has to hear of it
    except Exception as error:
        events.put(("error", f"{type(error).__name__}: {error}"))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
