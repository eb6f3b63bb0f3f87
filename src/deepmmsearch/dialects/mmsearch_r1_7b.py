"""MMSearch-R1-7B as released: tags, its own prompts, pictures and titles of hits in turns.

Read as `mmsearch_r1/workers/multimodal/rollout/vllm_rollout_spmd.py` reads: a call has to end the turn, whatever stands
before; all else ends the episode.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from deepmmsearch.agent.dialect import CallResult
from deepmmsearch.dialects.calls import CallDialect, PlainEnd, Read, WrittenCall, last_between, searched, whole_picture
from deepmmsearch.prompt_sources import PromptSource, SourceFile, pickled_text, python_value
from deepmmsearch.types import Answer, Limits

_IMAGE = re.compile(r"<search><img></search>\n?\Z")
_TEXT_END = "</text_search>"


@dataclass(frozen=True)
class MMSearchR1(CallDialect):
    thought: ClassVar[str] = "reason"
    opens: ClassVar[str] = "Searched results: <information>"
    closes: ClassVar[str] = "</information>"

    def read(self, text: str) -> Read:
        if _IMAGE.search(text):
            return WrittenCall("search", {})
        if (query := _query(text)) is not None:
            return WrittenCall("text_search", {"query": query}) if query.strip() else PlainEnd("")
        answer = last_between(text, "answer")
        if answer is not None:
            return Answer(answer.strip())
        return PlainEnd(text.rpartition("</reason>")[2].strip())

    def place(self, reply: CallResult) -> tuple[str | None, ...]:
        if reply.failed:
            # its tools' failures come back as they are
            return (reply.text, *(None,) * reply.pictures)
        asked = f"{self.closes}\nOriginal user's question: {reply.question}\n{reply.after}"
        opening = f"{self.opens}{reply.head}\n" if reply.head else self.opens
        if not reply.titles:
            lines = [f"{n}. ({p.url}) {p.text}\n" for n, p in enumerate(reply.passages, 1)]
            said = "".join(lines) if reply.state == "text" and lines else f"{reply.text}\n"
            return (opening + said + asked, *(None,) * reply.pictures)
        parts: list[str | None] = []
        for number, title in enumerate(reply.titles, 1):
            parts += [f"{opening}{number}. image: ", None]
            opening = f"\ntitle: {title}\n"
        return (*parts, opening + asked)

    def numbering(self, pictures: int) -> str:
        return ""

    def _said_search(self, queries: Sequence[str]) -> str:
        return f"<text_search>{' '.join(queries)}</text_search>"

    def _said_image_search(self) -> str:
        return "<search><img></search>"


def _query(text: str) -> str | None:
    """Of the last text search, where one ends the turn within a line. "" where the search that ends it is the rest of
    another one."""
    said = text.removesuffix("\n")
    if not said.endswith(_TEXT_END) or "<text_search>" not in said[said.rfind("\n") + 1 :]:
        return None
    lasts = (last_between(line, "text_search") for line in reversed(said.split("\n")))
    return next((query for query in lasts if query is not None), "")


def _make(texts: Mapping[str, Any]) -> Mapping[str, str]:
    return {
        "user.md": texts["round_1"].replace("<image>", "{images}") + "{question}",
        "after_image.md": texts["after_image"],
        "after_text.md": texts["after_text"],
        "head_image.md": texts["head_image"].strip(),
        "head_text.md": texts["head_text"].partition("\n")[0],
    }


SOURCE = PromptSource(
    "EvolvingLMMs-Lab/multimodal-search-r1",
    "583c6b49bb6c99db81aab56f64dbbfb8c8e1a9a3",
    "Apache-2.0",
    {
        "round_1": SourceFile(
            "mmsearch_r1/prompts/round_1_user_prompt_qwenvl.pkl",
            "c1296c0d44e18f8367e4702d0bee66124db5e579108d5b35257595431113e41d",
            pickled_text,
        ),
        "after_image": SourceFile(
            "mmsearch_r1/prompts/after_image_search_prompt_qwenvl.pkl",
            "60b1c910cd2f80b2961bf15230a4f819f2c79b367080e8f5f6ab95a979281399",
            pickled_text,
        ),
        "after_text": SourceFile(
            "mmsearch_r1/prompts/after_text_search_prompt_qwenvl.pkl",
            "0a0490c2bab021a8d457934c27f90186de45fadfe530dc48c17444e4da137b04",
            pickled_text,
        ),
        "head_image": SourceFile(
            "mmsearch_r1/utils/tools/image_search.py",
            "91d4f843b638711e9dc4fc9dc8d5d2e329d354fb4fcf0542f1dc1ca81ba8f339",
            python_value("tool_returned_str"),
        ),
        "head_text": SourceFile(
            "mmsearch_r1/utils/tools/text_search.py",
            "4587ae40d48c5c126f4e8ad2b8d0d7da9662b6c6d0e44bea72813fe7ea361635",
            python_value("tool_returned_str"),
        ),
    },
    _make,
)

DIALECT = MMSearchR1(
    "mmsearch-r1-7b",
    Limits(calls=2, image_searches=1),
    {"search": whole_picture, "text_search": searched("query")},
    SOURCE,
    image_call=WrittenCall("search", {}),
)
