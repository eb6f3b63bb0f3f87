"""Reading web pages: fetched by the guarded client, taken apart in another process."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from deepmmsearch.agent.metering import calling
from deepmmsearch.agent.protocols import Page
from deepmmsearch.errors import ToolError, Unreadable
from deepmmsearch.reading.declared import language_code
from deepmmsearch.reading.file_kinds import page_origin
from deepmmsearch.reading.worker import Extractor
from deepmmsearch.tools.addresses import read_address, site_of
from deepmmsearch.tools.http import GuardedClient, Response, TimedOut
from deepmmsearch.tools.turns import Turns

ACCEPTED = (
    *("text/html", "application/xhtml+xml", "application/pdf", "text/plain", "text/markdown"),
    # some servers say so of PDF files; what is none is told by its first bytes
    "application/octet-stream",
)
LONGEST = 200_000
MAX_BYTES = 20_000_000
MEMORY = 1024**3


class WebReader:
    """PageReader: HTML, PDF and plain text, wherever it is public.

    `timeout`: seconds for fetching a page and for waiting for its turn; `processor_seconds`: for taking it apart, after
    which it is given up; `max_bytes`: of a page, as sent and as decompressed; `longest`: characters of its text that
    are kept; `workers`: processes that take pages apart, started when they are needed; the pages of one site have all
    but one of them at most.
    """

    name = "web-reader"

    def __init__(
        self,
        client: GuardedClient,
        *,
        timeout: float = 15.0,
        processor_seconds: float = 4.0,
        max_bytes: int = MAX_BYTES,
        longest: int = LONGEST,
        workers: int = 2,
    ) -> None:
        self.client = client
        self.timeout, self.max_bytes, self.longest = timeout, max_bytes, longest
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="reader")
        self._workers = workers
        self._turns: tuple[asyncio.AbstractEventLoop, Turns] | None = None
        self._extractors: queue.SimpleQueue[Extractor] = queue.SimpleQueue()
        for _ in range(workers):
            self._extractors.put(Extractor(processor_seconds, 2.5 * processor_seconds, MEMORY))

    async def read(self, url: str) -> Page:
        """Raises ToolError with the reason: refused, not to be had, or nothing in it to read."""
        with calling("reader", self.name):
            response = await self.client.get(url, timeout=self.timeout, accept=ACCEPTED, max_bytes=self.max_bytes)
            host = read_address(response.url).host
            try:
                async with asyncio.timeout(self.timeout - response.seconds):
                    give_back = await self._turn().take(site_of(host))
            except TimeoutError:
                raise TimedOut(f"The page of {host} had no turn to be read within {self.timeout:g} s.") from None
            loop = asyncio.get_running_loop()
            work = self._threads.submit(self._taken_apart, response)
            # when the process is free again, which is later where nobody waits any longer
            work.add_done_callback(lambda _: _in_loop(loop, give_back))
            return await asyncio.wrap_future(work)

    def _turn(self) -> Turns:
        """Those of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = loop, Turns(self._workers, max(1, self._workers - 1))
        return self._turns[1]

    def close(self) -> None:
        """Ends the processes; the reader cannot be used afterwards."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._extractors.empty():
            self._extractors.get().close()

    def _taken_apart(self, response: Response) -> Page:
        extractor = self._extractors.get()
        try:
            content, charset = response.content, response.charset or ""
            origin = page_origin(response.url, response.content_type, charset, content, self.longest)
            found = extractor.read(origin, content)
        except Unreadable as error:
            host = read_address(response.url).host
            raise ToolError(f"The page of {host} cannot be read: {error}.") from None
        finally:
            self._extractors.put(extractor)
        language = found.language or language_code(response.headers.get("content-language", ""))
        return Page(response.url, found.title, found.text, found.date, language, found.url, found.links)


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # it is closed, and nobody waits there
        loop.call_soon_threadsafe(call)
