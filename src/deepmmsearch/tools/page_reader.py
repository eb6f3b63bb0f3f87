"""Reading web pages: fetched by the guarded client, taken apart in another process."""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import ThreadPoolExecutor

from deepmmsearch.agent.metering import calling
from deepmmsearch.agent.protocols import Page
from deepmmsearch.errors import ToolError, Unreadable
from deepmmsearch.reading.formats import page_origin
from deepmmsearch.reading.webpage import language_code
from deepmmsearch.reading.worker import Extractor
from deepmmsearch.tools.addresses import read_address
from deepmmsearch.tools.http import GuardedClient, Response

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

    `timeout`: seconds for fetching a page; `processor_seconds`: for taking it apart, after which it is given up;
    `max_bytes`: of a page, as sent and as decompressed; `longest`: characters of its text that are kept; `workers`:
    processes that take pages apart, started when they are needed.
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
        self._extractors: queue.SimpleQueue[Extractor] = queue.SimpleQueue()
        for _ in range(workers):
            self._extractors.put(Extractor(processor_seconds, 2.5 * processor_seconds, MEMORY))

    async def read(self, url: str) -> Page:
        """Raises ToolError with the reason: refused, not to be had, or nothing in it to read."""
        with calling("reader", self.name):
            response = await self.client.get(url, timeout=self.timeout, accept=ACCEPTED, max_bytes=self.max_bytes)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._taken_apart, response)

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
        return Page(response.url, found.title, found.text, found.date, language, found.url)
