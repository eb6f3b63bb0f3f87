"""A few places that many want: shared between the sites they come from, so that none keeps the others waiting."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from deepmmsearch.errors import ToolError

AT_MOST, OF_A_SITE = 64, 16
"""How many may wait, in all and of one site."""


class Turns:
    """`places` in one event loop, of which one site may have `share` at once. Of those that wait, the site goes first
    that has had its places for the shortest time."""

    def __init__(self, places: int, share: int, at_most: int = AT_MOST, of_a_site: int = OF_A_SITE) -> None:
        self._free, self._share = places, share
        self._at_most, self._of_a_site = at_most, of_a_site
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._held: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}

    async def take(self, site: str) -> Callable[[], None]:
        """Waits for a place; what it gives is to be called once, in this loop, when the place is free again.

        Raises ToolError where too many wait already.
        """
        own, all_of_them = len(self._waiting.get(site, ())), sum(map(len, self._waiting.values()))
        if own >= self._of_a_site or all_of_them >= self._at_most:
            whose = f" of {site}" if own >= self._of_a_site else ""
            raise ToolError(f"Too many pages{whose} are waiting to be read.")
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.setdefault(site, deque()).append(turn)
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            # it may have come with the turn
            if turn.cancelled():
                self._forget(site)
            else:
                self._give_back(site, 0.0)
            raise
        began = loop.time()
        return lambda: self._give_back(site, loop.time() - began)

    def _grant(self) -> None:
        while self._free:
            ready = [site for site in self._waiting if self._held[site] < self._share]
            if not ready:
                return
            site = min(ready, key=lambda s: self._seconds.get(s, 0.0) + self._held[s])
            turn = self._waiting[site].popleft()
            if not turn.done():
                self._free -= 1
                self._held[site] += 1
                turn.set_result(None)
            self._forget(site)

    def _give_back(self, site: str, seconds: float) -> None:
        self._free += 1
        self._held[site] -= 1
        self._seconds[site] = self._seconds.get(site, 0.0) + seconds
        self._grant()
        if not self._waiting and not self._held.total():
            self._seconds.clear()
            self._held.clear()

    def _forget(self, site: str) -> None:
        """A site of which nobody waits any longer."""
        waiting = deque(turn for turn in self._waiting.get(site, ()) if not turn.done())
        if waiting:
            self._waiting[site] = waiting
        else:
            self._waiting.pop(site, None)
