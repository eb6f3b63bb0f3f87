"""SenseNova-MARS-8B and -32B, read as `inference/eval.py` reads: the first call counts, wherever it stands; a turn
without one ends the episode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from deepmmsearch.agent.dialect import CallResult
from deepmmsearch.dialects.calls import (
    CallDialect,
    PlainEnd,
    Read,
    WrittenCall,
    after_thoughts,
    between,
    call_of,
    closeup,
    last_between,
    numbers,
    searched,
    whole_picture,
)
from deepmmsearch.notation import parse_json
from deepmmsearch.prompt_sources import PromptSource, SourceFile, python_value
from deepmmsearch.strict_yaml import read_yaml
from deepmmsearch.types import Action, Answer, Limits, Malformed


@dataclass(frozen=True)
class SenseNovaMars(CallDialect):
    thought: ClassVar[str] = "thinking"

    def read(self, text: str) -> Read:
        said = between(text, "tool_call")
        row = _json(said.strip()) if said is not None else None
        if row:
            return call_of(json.dumps(row)) or Malformed('The call is not JSON with "name" and "arguments".')
        rest = after_thoughts(text)
        answer = last_between(rest, "answer")
        return Answer(answer.strip()) if answer is not None else PlainEnd(rest.partition("<|im_end|>")[0].strip())

    def place(self, reply: CallResult) -> tuple[str | None, ...]:
        if reply.state == "zoom" and reply.pictures == 1:
            return (f"{self.opens}Here is the zoomed image:", None, self.closes)
        if reply.titles:
            opening, parts = f"{self.opens}Reverse Image Search Results:", list[str | None]()
            for number, title in enumerate(reply.titles, 1):
                parts += [f"{opening}\n\nTitle {number}: {title}\nThumbnail {number}: ", None]
                opening = ""
            return (*parts, self.closes)
        if reply.state == "text" and not reply.failed:
            asked = reply.call.replace("\n", "; ")
            return (self.observation(f"Final summary generated for query: {asked}\n{reply.text}"),)
        return super().place(reply)


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except (ValueError, RecursionError):
        return None


def _zoomed(arguments: Mapping[str, Any]) -> Action:
    """Always of the question's picture, whichever it names."""
    return closeup(1, numbers(arguments.get("bbox_2d") or arguments.get("bbox")), "thousandths")


def _make(texts: Mapping[str, Any]) -> Mapping[str, str]:
    sets = texts["datasets"].values()
    told = {each["input_template"]["arguments"]["system_prompt"] for each in sets}
    if len(told) != 1:
        raise ValueError("it holds several system prompts")
    tools = "\n".join(json.dumps(tool["tool_schema"], ensure_ascii=False) for tool in texts["tools"]["tools"])
    return {
        "system.md": f"{told.pop()}\n\n{texts['section'].replace('{tool_def_str}', tools)}",
        "user.md": "{question}",
    }


SOURCE = PromptSource(
    "OpenSenseNova/SenseNova-MARS",
    "ce052d7efe599bf3af0e2db2dcfdbda7d0183704",
    "MIT",
    {
        "datasets": SourceFile(
            "test_subset.json",
            "29b96abcc1153f98cc79573c87cfcdaa3711c6377227c1cc12b4e81de974d1e1",
            lambda data: parse_json(data.decode()),
        ),
        "tools": SourceFile(
            "inference/tools_eval.yaml",
            "2846a95dbd422f5ed96684c903bd3b9dbef68f3f0a688392f0b5a41dfd0dd019",
            lambda data: read_yaml(data.decode()),
        ),
        "section": SourceFile(
            "inference/eval.py",
            "ef94e030ffd282e939b22952ac5f4c1b1d947cb1c62efe4fb130e3eae3ec99aa",
            python_value("tools_section"),
        ),
    },
    _make,
)

DIALECT = SenseNovaMars(
    "sensenova-mars",
    Limits(calls=49, image_searches=49, tokens=200_000),
    {
        "text_search_tool": searched("query"),
        "image_search_tool": whole_picture,
        "image_zoom_in_tool": _zoomed,
    },
    SOURCE,
    search_name="text_search_tool",
    image_call=WrittenCall("image_search_tool", {}),
)
