"""The five tool protocols. A provider is one class in one file; nothing inherits from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image

from deepmmsearch.types import Box, Hit


@dataclass(frozen=True)
class Page:
    """The readable text of one page."""

    url: str
    title: str
    text: str


class TextSearchTool(Protocol):
    async def search(self, query: str, k: int) -> list[Hit]:
        """At most k hits, best first. Raises ToolError when the search could not be made."""
        ...


class ImageSearchTool(Protocol):
    async def search(self, image: Image, k: int) -> list[Hit]:
        """At most k hits, best first, each with `matched` where that is known. Raises ToolError."""
        ...


class Grounder(Protocol):
    async def locate(self, image: Image, phrase: str) -> list[Box]:
        """Boxes in pixels of `image`, best first; empty when nothing was found. Raises ToolError."""
        ...


class PageReader(Protocol):
    async def read(self, url: str) -> Page:
        """The page's main text. Raises ToolError with the reason when it cannot be read."""
        ...


class Summarizer(Protocol):
    async def summarize(self, question: str, query: str, passages: Sequence[str]) -> list[str]:
        """One short text per passage, in order: what of it serves the question ("" where nothing does)."""
        ...
