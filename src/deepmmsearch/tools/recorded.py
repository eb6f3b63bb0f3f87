"""Any tool with a recorder around it; each is what the tool is, and the recorder does the rest.

Toolbox(text_search=RecordedTextSearch(Serper(client, key), recorder))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, Literal, TypeVar

from PIL.Image import Image

from deepmmsearch.agent import metering
from deepmmsearch.agent.protocols import (
    Grounder,
    ImageSearchTool,
    Interpreter,
    LanguageModel,
    Matcher,
    ObservationSummarizer,
    OfferedTool,
    Page,
    PageReader,
    PictureReader,
    Summarizer,
    TextSearchTool,
    ToolReply,
    ToolServer,
)
from deepmmsearch.codec import PLAIN
from deepmmsearch.errors import UserError
from deepmmsearch.images import digest
from deepmmsearch.redaction import public_settings
from deepmmsearch.tools.recorder import RecordedTool, Recorder, canonical, quoted
from deepmmsearch.types import Box, Cited, Completion, Hit

T = TypeVar("T")


class _Recorded(Generic[T]):
    """`tool` may be missing in replay. `identity`: what its answers depend on beside the arguments, without keys
    (default: the tool's own attribute `identity`, else its name)."""

    # it may know the answer without a call, so `metering.using` leaves the paying to it
    pays_itself = True
    tool: ClassVar[str]
    answer: ClassVar[Any]

    def __init__(self, tool: T | None, recorder: Recorder, identity: Mapping[str, Any] | None = None) -> None:
        if tool is None and identity is None:
            raise UserError("A recorded tool needs the tool or its identity.")
        if tool is None and recorder.mode != "replay":
            raise UserError(f"Mode {recorder.mode} needs the tool itself; only replay goes without.")
        self._upstream, self._recorder = tool, recorder
        self.identity = public_settings(dict(identity_of(tool) if identity is None else identity))
        self._source = RecordedTool(self.tool, self.identity, self.answer, tool)

    @property
    def name(self) -> str:
        return self._source.provider

    @property
    def _tool(self) -> T:
        assert self._upstream is not None, "replay never asks"
        return self._upstream

    async def _recall(self, arguments: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        return await self._recorder.recall(self._source, arguments, ask)


def identity_of(tool: object) -> Mapping[str, Any]:
    known = getattr(tool, "identity", None)
    return known if isinstance(known, Mapping) else {"provider": metering.provider_name(tool)}


class RecordedTextSearch(_Recorded[TextSearchTool]):
    tool = "text_search"
    answer = list[Hit]

    async def search(self, query: str, k: int) -> list[Hit]:
        # what `canonical` gives, a good deal faster: most calls are this one
        asked = f'{{"k":{k:d},"query":{quoted(query)}}}'
        hits: list[Hit] = await self._recall(asked, lambda: self._tool.search(query, k))
        return hits


class RecordedImageSearch(_Recorded[ImageSearchTool]):
    tool = "image_search"
    answer = list[Hit]

    async def search(self, image: Image, k: int) -> list[Hit]:
        asked = canonical({"image": await self._recorder.picture(image), "k": k})
        hits: list[Hit] = await self._recall(asked, lambda: self._tool.search(image, k))
        return hits


class RecordedGrounder(_Recorded[Grounder]):
    tool = "grounder"
    answer = list[Box]

    async def locate(self, image: Image, phrase: str) -> list[Box]:
        asked = canonical({"image": await self._recorder.picture(image), "phrase": phrase})
        boxes: list[Box] = await self._recall(asked, lambda: self._tool.locate(image, phrase))
        return boxes


class RecordedReader(_Recorded[PageReader]):
    tool = "reader"
    answer = Page

    async def read(self, url: str) -> Page:
        page: Page = await self._recall(canonical({"url": url}), lambda: self._tool.read(url))
        return page


class RecordedPictureReader(_Recorded[PictureReader]):
    tool = "ocr"
    answer = str

    async def transcribe(self, image: Image) -> str:
        asked = canonical({"image": await self._recorder.picture(image)})
        text: str = await self._recall(asked, lambda: self._tool.transcribe(image))
        return text


class RecordedInterpreter(_Recorded[Interpreter]):
    tool = "python"
    answer = str

    async def run(self, program: str, seconds: int) -> str:
        asked = canonical({"program": program, "seconds": seconds})
        text: str = await self._recall(asked, lambda: self._tool.run(program, seconds))
        return text


class RecordedToolServer(_Recorded[ToolServer]):
    """Its descriptions are recorded beside its answers: a replay needs no server."""

    tool = "mcp"
    answer = ToolReply

    async def offered(self) -> list[OfferedTool]:
        source = replace(self._source, answer=list[OfferedTool])
        tools: list[OfferedTool] = await self._recorder.recall(
            source, canonical({"offered": True}), lambda: self._tool.offered()
        )
        return tools

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolReply:
        asked = canonical({"name": tool, "arguments": dict(arguments)})
        reply: ToolReply = await self._recall(asked, lambda: self._tool.call(tool, arguments))
        return reply


class RecordedSummarizer(_Recorded[Summarizer]):
    tool = "summarizer"
    answer = list[str]

    async def summarize(self, question: str, query: str, passages: Sequence[str]) -> list[str]:
        asked = canonical({"question": question, "query": query, "passages": list(passages)})
        texts: list[str] = await self._recall(asked, lambda: self._tool.summarize(question, query, passages))
        return texts


class RecordedCondenser(_Recorded[ObservationSummarizer]):
    tool = "summarizer"
    answer = list[Cited]

    async def condense(
        self, question: str, query: str, passages: Sequence[str], about: Literal["text", "image"]
    ) -> list[Cited]:
        asked = canonical({"question": question, "query": query, "passages": list(passages), "about": about})
        sentences: list[Cited] = await self._recall(
            asked, lambda: self._tool.condense(question, query, passages, about)
        )
        return sentences


class RecordedMatcher(_Recorded[Matcher]):
    tool = "matcher"
    answer = list[Hit]

    async def match(self, image: Image, hits: Sequence[Hit]) -> list[Hit]:
        asked = canonical({"image": await self._recorder.picture(image), "hits": PLAIN.encode(hits, digest)})
        marked: list[Hit] = await self._recall(asked, lambda: self._tool.match(image, hits))
        return marked


class RecordedModel(_Recorded[LanguageModel]):
    """A language model that a tool or a judge asks; `tool` says which ("summarizer", "judge")."""

    tool = "model"
    answer = Completion

    def __init__(
        self, model: LanguageModel | None, recorder: Recorder, tool: str, identity: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(model, recorder, identity)
        self._source = replace(self._source, tool=tool)

    async def complete(self, conversation: Sequence[dict[str, Any]], pictures: Sequence[Image] = ()) -> Completion:
        seen = [await self._recorder.picture(picture) for picture in pictures]
        asked = canonical({"conversation": list(conversation), "pictures": seen})
        completion: Completion = await self._recall(asked, lambda: self._tool.complete(conversation, pictures))
        return completion
