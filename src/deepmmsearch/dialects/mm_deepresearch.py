"""MM-DeepResearch-8B, read as `eval/eval.py` reads: the turn ends at its first call; one without a call ends the
episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from deepmmsearch.dialects.calls import (
    CallDialect,
    PlainEnd,
    Read,
    WrittenCall,
    after_thoughts,
    between,
    call_of,
    last_between,
    searched,
    unavailable,
    whole_picture,
)
from deepmmsearch.prompt_sources import PromptSource, SourceFile, python_value
from deepmmsearch.types import Answer, Limits, Malformed


@dataclass(frozen=True)
class MMDeepResearch(CallDialect):
    opens: ClassVar[str] = "<tool_response>"
    closes: ClassVar[str] = "</tool_response>"

    def read(self, text: str) -> Read:
        said, called, _ = text.partition("</tool_call>")
        if called:
            return _call(said + called) or Malformed('The call is not JSON with "name" and "arguments".')
        answer = last_between(text, "answer")
        return Answer(answer.strip()) if answer is not None else PlainEnd(after_thoughts(text).strip()[-4000:])

    def _query_arguments(self, queries: Any) -> Mapping[str, Any]:
        return {"query_list": list(queries)}


def _call(text: str) -> WrittenCall | None:
    said = between(text, "tool_call")
    return call_of(said, required=True) if said is not None else None


def _make(texts: Mapping[str, Any]) -> Mapping[str, str]:
    # the mark for the picture stands in the text as such; the picture follows
    return {"system.md": texts["system"], "user.md": texts["user"].rstrip("\n") + "<image>{question}"}


SOURCE = PromptSource(
    "HJYao00/MM-DeepResearch",
    "d7c8d82d2f57203dff2c4ae4019bab2100a2108f",
    "Apache-2.0",
    {
        "system": SourceFile(
            "eval/prompt.py",
            "5c8b4a2c0d11cd3dda059ee293c3460f7e339fd00a429554f771b63dc55176e5",
            python_value("SEARCH_SYS_PROMPT"),
        ),
        "user": SourceFile(
            "eval/data_preprocess/prompt.py",
            "7095566763b9f8c6d26af3a86643c825175ab4c0c12e34bc5fb143a97ed6d9f1",
            python_value("DEFAULT_USER_CONTENT_PREFIX"),
        ),
    },
    _make,
)

DIALECT = MMDeepResearch(
    "mm-deepresearch",
    Limits(calls=6, image_searches=1, tokens=32_768),
    {
        "text_search": searched("query_list"),
        "search": searched("query_list"),
        "image_search_by_lens": whole_picture,
        "image_search_by_text_query": unavailable("image_search_by_text_query"),
    },
    SOURCE,
    pictures="after",
    query_argument="query_list",
    search_name="text_search",
    image_call=WrittenCall("image_search_by_lens", {"query_list": ["the picture"]}),
)
