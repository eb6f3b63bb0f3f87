"""DR-MMSearchAgent, read as `inference/react_agent.py` reads: the turn ends at its first call, which need not be
closed; one without a call ends the episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepmmsearch.agent.dialect import CallResult
from deepmmsearch.dialects import loose_json
from deepmmsearch.dialects.calls import (
    CallDialect,
    PlainEnd,
    Read,
    WrittenCall,
    call_of,
    computed,
    searched,
    whole_picture,
)
from deepmmsearch.prompt_sources import PromptSource, SourceFile, python_value
from deepmmsearch.types import Answer, Limits, Malformed


@dataclass(frozen=True)
class DRMMSearch(CallDialect):
    def read(self, text: str) -> Read:
        said = text.partition("<tool_response>")[0]
        head, closed, _ = said.partition("</tool_call>")
        called = (head + closed).partition("<tool_call>")[2].partition("</tool_call>")[0]
        if called.strip():
            if "python" in called.lower():
                return WrittenCall("PythonInterpreter", {"code": called.strip()})
            return call_of(called, loose_json.loads) or Malformed('The call is not JSON with "name" and "arguments".')
        said = head + closed
        if "</answer>" in said.partition("<answer>")[2]:
            return Answer(said.split("<answer>", 2)[1].partition("</answer>")[0].strip())
        # one that is not closed counts all the same
        return PlainEnd(said.rpartition("<answer>")[2].strip())

    def place(self, reply: CallResult) -> tuple[str | None, ...]:
        """Pictures as its training laid them; its script prints a dictionary in their place."""
        if not reply.titles:
            return super().place(reply)
        opening, parts = f"{self.opens}[Image Search Results]: \n", list[str | None]()
        for number, title in enumerate(reply.titles, 1):
            parts += [f"{opening}{number}. title: {title}\n", None]
            opening = "\n"
        return (*parts, f"\n{self.closes}")

    def _query_arguments(self, queries: Any) -> Mapping[str, Any]:
        return {"query_list": list(queries)}


def _make(texts: Mapping[str, Any]) -> Mapping[str, str]:
    return {"user.md": f"{texts['system']}{texts['user']}".replace("<image>", "{images}") + "{question}"}


_PROMPTS = "inference/prompt.py"
SOURCE = PromptSource(
    "OrdinaryQin/DR-MMSearchAgent",
    "0059ffb8f27fd82eed10afdd8c84e2f1132682ca",
    "none named",
    {
        "system": SourceFile(
            _PROMPTS,
            "e685506e61c003a95624399442f79e4d9e26914f37931b994352245b363cbbfc",
            python_value("SYSTEM_PROMPT_IMAGE"),
            of_text=True,
        ),
        "user": SourceFile(
            _PROMPTS,
            "31de5ac69d0e4012020c82b7ef4db905452ee9d3b2c22fadc73e60680b31915c",
            python_value("USER_PROMPT_IMAGE_SHORT"),
            of_text=True,
        ),
    },
    _make,
)

DIALECT = DRMMSearch(
    "dr-mmsearch",
    Limits(calls=99, image_searches=1, tokens=110_000),
    {
        "search": searched("query", "queries", "query_list"),
        "web_image_to_image_search": whole_picture,
        "PythonInterpreter": computed,
    },
    SOURCE,
    query_argument="query_list",
    image_call=WrittenCall("web_image_to_image_search", {"img_idx": "0"}),
)
