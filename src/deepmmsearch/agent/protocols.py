"""The five tool protocols, and six more that tools use. A provider is one class in one file; nothing inherits from
these.

What a call cost is not part of them. `Toolbox` times every use of a tool (`metering.using`); a provider that makes
requests puts each into

    with calling("text_search", "serper", self.price):   # from deepmmsearch.agent.metering
        reply = await self.client.get(...)          # the guarded client counts the bytes

which keeps one `Call` per request: seconds, bytes, the price (the recipe's for "serper" where it names one, or
`bill.cost = ...` once it is known), and the error when one passes through. It raises BudgetSpent, a ToolError, before
the request where the budget is used up; a list of providers must not go on to the next one then. A tool's attribute
`name` is what its calls are kept under (default: its class).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL.Image import Image

from deepmmsearch.types import Box, Cited, Completion, Hit, Link


@dataclass(frozen=True)
class Page:
    """The readable text of one page. `url`: where it was read, after redirects; `date`: when it was published
    (YYYY-MM-DD), `language`: such as "en", `canonical`: its own address on the same site, each where the page says so.
    `links`: of its main text, in order, where the reader tells.
    """

    url: str
    title: str
    text: str
    date: str | None = None
    language: str | None = None
    canonical: str | None = None
    links: tuple[Link, ...] = ()


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


class PictureReader(Protocol):
    async def transcribe(self, image: Image) -> str:
        """What is written in the picture, a line for each paragraph; "" for nothing. Raises ToolError."""
        ...


class Interpreter(Protocol):
    async def run(self, program: str, seconds: int) -> str:
        """What a Python program prints, with the error that ended it, if one did; `seconds`: of processor time. Raises
        ToolError where it was ended, or is not run."""
        ...


@dataclass(frozen=True)
class OfferedTool:
    """A tool as its server describes it, untrusted. `schema`: of its arguments, JSON."""

    name: str
    about: str
    schema: str


@dataclass(frozen=True)
class ToolReply:
    """What a tool of a server gave back, untrusted."""

    text: str
    images: tuple[Image, ...] = ()


class ToolServer(Protocol):
    @property
    def name(self) -> str: ...

    async def offered(self) -> list[OfferedTool]:
        """All its tools. Raises ToolError."""
        ...

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolReply:
        """Raises ToolError, also with what the server says of a failure."""
        ...


class Summarizer(Protocol):
    async def summarize(self, question: str, query: str, passages: Sequence[str]) -> list[str]:
        """One short text per passage, in order: what of it serves the question ("" where nothing does)."""
        ...


class ObservationSummarizer(Protocol):
    """Beside `Summarizer`: one summary of all that a search found (DeepMMSearch-R1, section 3.1)."""

    async def condense(
        self, question: str, query: str, passages: Sequence[str], about: Literal["text", "image"]
    ) -> list[Cited]:
        """Sentence by sentence, each with the passages it was taken from, counted from 1; () where it names none that
        exists. Empty when no passage serves the question. Raises ToolError."""
        ...


class Matcher(Protocol):
    async def match(self, image: Image, hits: Sequence[Hit]) -> list[Hit]:
        """The hits in order, each with `matched` told where the search left it open: does it show what `image` shows?
        Raises ToolError."""
        ...


class LanguageModel(Protocol):
    """What tools ask that need a model of their own; `ChatPolicy` and `LocalPolicy` (policies/) can be asked."""

    async def complete(self, conversation: Sequence[dict[str, Any]], pictures: Sequence[Image] = ()) -> Completion:
        """The reply to a conversation in transformers' format, whose `image` parts stand for `pictures` in order."""
        ...
