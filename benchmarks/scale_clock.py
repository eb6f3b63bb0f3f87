"""An event loop whose time is not that of the day, and what is shared in it by whoever is there.

Time passes only when nothing is left to do but wait, and then at once to the end of the nearest wait, so that a run
takes as long as it computes and gives the same figures every time.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from itertools import count
from typing import Any


class SimulatedClock(asyncio.SelectorEventLoop):
    """Nothing outside the process may be waited for in it, threads neither: RuntimeError then."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Skipping(self))

    def time(self) -> float:
        return self.now


class _Skipping(selectors.DefaultSelector):
    def __init__(self, loop: SimulatedClock) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("Every task waits for something that does not come under a simulated clock.")
        self._loop.now += max(0.0, timeout)
        return super().select(0)


class Shared:
    """Machines that serve whoever is there at once. Each job asks for a share of them, in machines; where all of them
    together ask for more than the `capacity`, all are served more slowly, by the same factor. `used`: machine seconds.
    """

    def __init__(self, capacity: float) -> None:
        self.capacity, self.used = capacity, 0.0
        # Seconds of service that a job which was always there has had: all advance alike, so ends keep their order.
        self._served, self._settled, self._demand = 0.0, 0.0, 0.0
        self._ends: list[tuple[float, int, float, asyncio.Future[None]]] = []
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None

    async def serve(self, seconds: float, demand: float = 1.0) -> None:
        """Returns when a job that takes so many seconds where there is room for all is done."""
        if seconds <= 0:
            return
        loop = asyncio.get_running_loop()
        self._settle(loop.time())
        done: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._ends, (self._served + seconds, next(self._numbers), demand, done))
        self._demand += demand
        self._wait(loop)
        try:
            await done
        finally:
            if done.cancelled():
                self._settle(loop.time())
                self._demand -= demand
                self._wait(loop)

    @property
    def _factor(self) -> float:
        return min(1.0, self.capacity / self._demand) if self._demand > 0 else 1.0

    def _settle(self, now: float) -> None:
        if self._ends:
            passed = now - self._settled
            self._served += passed * self._factor
            self.used += passed * min(self._demand, self.capacity)
        self._settled = now

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._ends:
            self._demand = 0.0  # what rounding left
            return
        left = max(0.0, self._ends[0][0] - self._served) / self._factor
        self._timer = loop.call_later(left, self._finish, loop)

    def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._settle(loop.time())
        while self._ends and self._ends[0][0] <= self._served + 1e-9:
            _, _, demand, done = heapq.heappop(self._ends)
            if not done.cancelled():
                self._demand -= demand
                done.set_result(None)
        self._wait(loop)
