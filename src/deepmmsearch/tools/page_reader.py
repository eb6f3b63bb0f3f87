"""Reading web pages: fetched by the guarded client, taken apart in another process."""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from deepmmsearch.agent.metering import calling
from deepmmsearch.agent.protocols import Page
from deepmmsearch.errors import ToolError
from deepmmsearch.reading.document import Unreadable
from deepmmsearch.reading.worker import Worker
from deepmmsearch.tools.addresses import read_address
from deepmmsearch.tools.http import GuardedClient, Response

ACCEPTED = (
    *("text/html", "application/xhtml+xml", "application/pdf", "text/plain", "text/markdown"),
    # some servers say so of PDF files; what is none is told by its first bytes
    "application/octet-stream",
)
LONGEST = 200_000
MAX_BYTES = 20_000_000


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
        self._workers: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for _ in range(workers):
            self._workers.put(Worker("deepmmsearch.reading.readable", processor_seconds, 2.5 * processor_seconds))

    async def read(self, url: str) -> Page:
        """Raises ToolError with the reason: refused, not to be had, or nothing in it to read."""
        with calling("reader", self.name):
            response = await self.client.get(url, timeout=self.timeout, accept=ACCEPTED, max_bytes=self.max_bytes)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._taken_apart, response)

    def close(self) -> None:
        """Ends the processes; the reader cannot be used afterwards."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._workers.empty():
            self._workers.get().close()

    def _taken_apart(self, response: Response) -> Page:
        worker = self._workers.get()
        try:
            found = worker.ask(_request(response, self.longest), response.content)
        except Unreadable as error:
            host = read_address(response.url).host
            raise ToolError(f"The page of {host} cannot be read: {error}.") from None
        finally:
            self._workers.put(worker)
        return _page(response.url, found)


def _request(response: Response, longest: int) -> dict[str, str]:
    return {
        "url": response.url,
        "type": response.content_type,
        "charset": response.charset or "",
        "language": response.headers.get("content-language", ""),
        "longest": str(longest),
    }


def _page(url: str, found: dict[str, Any]) -> Page:
    return Page(
        url,
        found["title"],
        found["text"],
        date=found.get("date"),
        language=found.get("language"),
        canonical=found.get("canonical"),
    )
