"""Shards of work in this process or in several, each shard once, with progress told as it happens.

A worker that loses its parent stops at once, so that the next run never meets one of the last.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass
from queue import SimpleQueue
from typing import Protocol

from deepmmsearch.children import Child, ParentPipe


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


def run_shards(task: ShardTask, shards: Sequence[str], processes: int, keys: Iterable[str] = ()) -> Generator[Progress]:
    """Runs the task on every shard; with `processes` of 1 in this process, in a thread. `keys`: environment variables
    that the processes are handed.

    The first error ends all of it: UserError as it was raised, anything else as RuntimeError with its text. Once it is
    closed, nothing is worked on any more.
    """
    if processes <= 1 or len(shards) <= 1:
        yield from _run_here(task, shards)
        return
    left, told = deque(shards), SimpleQueue[Progress | BaseException | None]()
    with ExitStack() as stack:
        workers = [stack.enter_context(Child(_work, task, keys=keys)) for _ in range(min(processes, len(shards)))]
        for worker in workers:
            threading.Thread(target=_attend, args=(worker, left, told), daemon=True).start()
        for _ in workers:
            yield from _until_the_end(told)


def _until_the_end(told: SimpleQueue[Progress | BaseException | None]) -> Iterator[Progress]:
    while (news := told.get()) is not None:
        if isinstance(news, BaseException):
            raise news
        yield news


def _run_here(task: ShardTask, shards: Sequence[str]) -> Iterator[Progress]:
    """In a thread, so that progress is seen while a shard is under way. Whatever ends this ends the thread first: what
    it has written then is all that it writes."""
    told: SimpleQueue[Progress | BaseException | None] = SimpleQueue()
    loop = asyncio.new_event_loop()

    async def run_all() -> None:
        for shard in shards:
            await task(shard, told.put)

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(run_all())
            told.put(None)
        # carried over to the thread that waits
        except BaseException as error:
            told.put(error)

    def stop() -> None:
        for each in asyncio.all_tasks(loop):
            each.cancel()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield from _until_the_end(told)
    finally:
        with suppress(RuntimeError):  # the loop is closed: all is done
            loop.call_soon_threadsafe(stop)
        thread.join()


def _attend(worker: Child, left: deque[str], told: SimpleQueue[Progress | BaseException | None]) -> None:
    """Hands a worker one shard after another."""
    try:
        while True:
            try:
                shard = left.popleft()
            except IndexError:
                shard = None
            worker.send(json.dumps(shard).encode())
            while isinstance(news := worker.receive(), list):
                told.put(Progress(*news))
            if shard is None:
                told.put(None)
                return
    # carried over to the thread that waits
    except BaseException as error:
        told.put(error)


def _work(line: ParentPipe, task: ShardTask) -> None:
    def tell(progress: Progress) -> None:
        line.send(json.dumps(astuple(progress)).encode())

    async def run_all() -> None:
        while (shard := json.loads(line.receive())) is not None:
            await task(shard, tell)
            line.send(json.dumps({"done": shard}).encode())

    asyncio.run(run_all())
