"""Vision-DeepResearch-8B, read as `rllm/eval/deepresearch_agent.py` reads: a call before an answer, JSON5 taken, Python
told by its name; a turn without both is told so and goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from deepmmsearch.agent.dialect import CallResult
from deepmmsearch.dialects import loose_json
from deepmmsearch.dialects.calls import (
    CallDialect,
    Read,
    WrittenCall,
    call_of,
    computed,
    numbers,
    searched,
    visited,
)
from deepmmsearch.prompt_sources import PromptSource, SourceFile, python_value
from deepmmsearch.types import Action, Answer, Limits, Malformed, Use

_MOST_BOXES = 5


@dataclass(frozen=True)
class VisionDeepResearch(CallDialect):
    def read(self, text: str) -> Read:
        said = text.partition("<tool_response>")[0]
        if "<tool_call>" in said and "</tool_call>" in said:
            called = said.split("<tool_call>", 2)[1].partition("</tool_call>")[0]
            if "python" in called.lower():
                return WrittenCall("PythonInterpreter", {"code": _code(called)})
            return call_of(called, loose_json.loads) or Malformed("The call is not valid JSON.")
        if "<answer>" in said and "</answer>" in said:
            return Answer(said.split("<answer>", 2)[1].partition("</answer>")[0].strip())
        return Malformed("The turn holds neither a call nor an answer. Write <tool_call> or <answer>.")

    def place(self, reply: CallResult) -> tuple[str | None, ...]:
        if reply.state == "malformed":
            return (f"{reply.text}", *(None,) * reply.pictures)
        if reply.state == "text" and reply.passages:
            found = "\n\n".join(f"{n}. [{p.title}]({p.url})\n   {p.text}" for n, p in enumerate(reply.passages, 1))
            asked = reply.call.replace("\n", "; ")
            return (self.observation(f"Search for '{asked}' returned {len(reply.passages)} results:\n\n{found}"),)
        return super().place(reply)

    def _query_arguments(self, queries: Any) -> Mapping[str, Any]:
        return {"query": list(queries)}


def _code(called: str) -> str:
    return called.partition("<code>")[2].partition("</code>")[0].strip()


def _regions(arguments: Mapping[str, Any]) -> Action:
    """Of the question's picture, whichever it names."""
    given = arguments.get("bbox")
    several = given if isinstance(given, list) and given and isinstance(given[0], list) else [given]
    boxes = [numbers(box) for box in several]
    if len(boxes) > _MOST_BOXES:
        raise ValueError(f"takes at most {_MOST_BOXES} boxes at once.")
    return Use("search_regions", {"picture": 1, "boxes": boxes})


def _make(texts: Mapping[str, Any]) -> Mapping[str, str]:
    # the day of fetching, so that every question of a run reads the same prompt
    return {"system.md": f"{texts['system']}{date.today():%Y-%m-%d}", "user.md": "{question}"}


SOURCE = PromptSource(
    "Osilly/Vision-DeepResearch",
    "bac38dc544bdf71230ba8beb1030f1435397317d",
    "MIT",
    {
        "system": SourceFile(
            "rllm/eval/deepresearch_agent.py",
            "9727924ae8ba5bebb77fdfcf756f2ea98253c8152e9f33d206725cea81c2741d",
            python_value("DEEPRESEARCH_SYSTEM_PROMPT"),
        ),
    },
    _make,
)

DIALECT = VisionDeepResearch(
    "vision-deepresearch",
    Limits(calls=49, image_searches=49, tokens=200_000),
    {
        "search": searched("query"),
        "crop_and_search": _regions,
        "visit": visited,
        "PythonInterpreter": computed,
    },
    SOURCE,
    pictures="after",
)
