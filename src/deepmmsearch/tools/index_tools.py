"""Search and reading over a local index, behind the tool protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from PIL.Image import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.protocols import Page
from deepmmsearch.engine import Index
from deepmmsearch.engine.text_ranking import PER_PAGE
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.tools.summarizer import ExtractiveSummarizer
from deepmmsearch.tools.threads import ToolThreads
from deepmmsearch.types import Hit

T = TypeVar("T")


class LocalTextSearch:
    """TextSearchTool: passages of the index, with their whole text as snippet."""

    def __init__(self, index: Index, per_page: int = PER_PAGE) -> None:
        self.index, self.per_page = index, per_page
        self._threads = ToolThreads("index-text")

    async def search(self, query: str, k: int) -> list[Hit]:
        return await _run(self._threads, self.index.search_text, query, k, self.per_page)


class LocalImageSearch:
    """ImageSearchTool: pictures of the index, described by the pages that show them."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._threads = ToolThreads("index-pictures")

    async def search(self, image: Image, k: int) -> list[Hit]:
        return await _run(self._threads, self.index.search_image, image, k)


class LocalReader:
    """PageReader: the text of pages in the index."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._threads = ToolThreads("index-pages")

    async def read(self, url: str) -> Page:
        return await _run(self._threads, self.index.read, url)


def local_tools(index: Index) -> Toolbox:
    """Both searches of an index and the extractive summariser, without reader and grounder."""
    return Toolbox(LocalTextSearch(index), LocalImageSearch(index), summarizer=ExtractiveSummarizer())


async def _run(threads: ToolThreads, call: Callable[..., T], *arguments: object) -> T:
    try:
        return await threads.run(call, *arguments)
    except (UserError, OSError) as error:
        raise ToolError(f"The local index could not be searched: {error}") from error
