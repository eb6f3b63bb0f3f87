"""Addresses of names. Nothing can end a lookup, and a name may be made so that it takes minutes: so each has a thread
of its own, which ends with the process, and none of those that the rest of this program works with."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from weakref import WeakValueDictionary

import httpcore2

from deepmmsearch.tools.addresses import site_of

Look = Callable[[str, int], list[str]]

AT_ONCE, OF_A_SITE = 128, 8


class Lookups:
    """Resolves names in one event loop: at most `at_once`, and `of_a_site` of those below one domain; the others wait
    for their turn. Who asks for a name that is looked up already waits for the same answer."""

    def __init__(self, look: Look | None = None, at_once: int = AT_ONCE, of_a_site: int = OF_A_SITE) -> None:
        self._look, self._of_a_site = look or addresses_of, of_a_site
        self._all = asyncio.Semaphore(at_once)
        self._sites: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._running: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        """The addresses the system knows for a name, best first. Raises httpcore's ConnectError."""
        running = self._running.get(host) or await self._started(host, port)
        try:
            # who gives up waiting must not end it for the others
            return await asyncio.shield(running)
        except (OSError, UnicodeError):
            raise httpcore2.ConnectError("there is no such host") from None

    async def _started(self, host: str, port: int) -> asyncio.Future[list[str]]:
        site = self._sites.setdefault(site_of(host), asyncio.Semaphore(self._of_a_site))
        await site.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            site.release()
            raise
        if (running := self._running.get(host)) is not None:
            self._release(site)
            return running
        found = asyncio.wrap_future(_in_a_thread(self._look, host, port))
        self._running[host] = found
        found.add_done_callback(lambda done: self._ended(host, site, done))
        return found

    def _ended(self, host: str, site: asyncio.Semaphore, done: asyncio.Future[list[str]]) -> None:
        del self._running[host]
        self._release(site)
        if not done.cancelled():
            done.exception()  # nobody may be left to hear of it

    def _release(self, site: asyncio.Semaphore) -> None:
        self._all.release()
        site.release()


def addresses_of(host: str, port: int) -> list[str]:
    return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _in_a_thread(look: Look, host: str, port: int) -> Future[list[str]]:
    answer: Future[list[str]] = Future()

    def work() -> None:
        # the loop that asked may be closed by now
        with contextlib.suppress(RuntimeError):
            try:
                found = look(host, port)
            except Exception as error:
                answer.set_exception(error)
            else:
                answer.set_result(found)

    # not one of an executor: those are waited for when the process ends
    threading.Thread(target=work, name="lookup", daemon=True).start()
    return answer
