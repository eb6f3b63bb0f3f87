"""DeepEyesV2-7B, read as its environment and `evaluation/inference_demo/inference_demo.py` read: an answer before code,
code before a call, of several the last; a turn without any ends the episode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepmmsearch.agent.dialect import CallResult
from deepmmsearch.dialects.calls import (
    CallDialect,
    PlainEnd,
    Read,
    WrittenCall,
    after_thoughts,
    call_of,
    computed,
    last_between,
    searched,
)
from deepmmsearch.prompt_sources import PromptSource, SourceFile, python_value
from deepmmsearch.types import Action, Answer, ImageSearch, Limits, Malformed

_NULL = re.compile(r'(?<="arguments":)\s*null(?=\s*\})')
_PYTHON = re.compile(r"```python[^\S\n]*\n")


@dataclass(frozen=True)
class DeepEyesV2(CallDialect):
    def read(self, text: str) -> Read:
        answer = last_between(text, "answer")
        if answer:
            return Answer(answer.strip())
        end = PlainEnd(after_thoughts(text).strip())
        if "<code>" in text:
            code = _last_python(last_between(text, "code") or "")
            return WrittenCall("python", {"code": code}) if code else end
        if "<tool_call>" not in text:
            return end
        said = last_between(text, "tool_call")
        if not said:
            return end
        call = call_of(_NULL.sub("{}", said))
        if call is None:
            return Malformed('The call is not JSON with "name" and "arguments".')
        if call.name == "image_search" and '"arguments"' in said and not _NULL.search(said):
            return Malformed("The image_search takes no arguments.")
        return call

    def place(self, reply: CallResult) -> tuple[str | None, ...]:
        if reply.state == "malformed":
            return (reply.text, *(None,) * reply.pictures)
        if reply.titles:
            count = len(reply.titles)
            opening = f"{self.opens}A Google image search for the image found {count} results:\n\n## Web Results\n"
            parts: list[str | None] = []
            for number, title in enumerate(reply.titles, 1):
                parts += [f"{opening}{number}. ", None]
                opening = f"\n[{title}] \n\n\n"
            return (*parts, f"{opening.rstrip(chr(10))}\n{self.closes}")
        if reply.state == "text" and reply.passages:
            numbered = enumerate(reply.passages, 1)
            found = "\n\n".join(f"{n}. [{p.title}]({p.url})\n\n{p.text}" for n, p in numbered)
            head = f"A Google search for '{reply.call}' found {len(reply.passages)} results:\n\n## Web Results\n"
            return (self.observation(head + found),)
        return super().place(reply)

    def _said_image_search(self) -> str:
        return '<tool_call>{"name": "image_search"}</tool_call>'


def _last_python(block: str) -> str:
    """Of the last fenced block in it."""
    found, at = "", 0
    while (opened := _PYTHON.search(block, at)) and (end := block.find("\n```", opened.end() - 1)) >= 0:
        found, at = block[opened.end() : end], end + 4
    return found


def _whole_picture(arguments: Mapping[str, Any]) -> Action:
    if arguments:
        raise ValueError("takes no arguments.")
    return ImageSearch()


def _make(texts: Mapping[str, Any]) -> Mapping[str, str]:
    return {"system.md": texts["system"], "user.md": texts["user"]}


_DEMO = "evaluation/inference_demo/inference_demo.py"
_DEMO_SHA256 = "e2f5a5f7a8241546d0d181e235d9e49f3d76b6c464a6a050de239c1dcc1dcb1d"
SOURCE = PromptSource(
    "Visual-Agent/DeepEyesV2",
    "0373e6e0c923110fd6ff807b30474d8184785562",
    "Apache-2.0",
    {
        "system": SourceFile(_DEMO, _DEMO_SHA256, python_value("SYSTEM_PROMPT")),
        "user": SourceFile(_DEMO, _DEMO_SHA256, python_value("USER_PROMPT")),
    },
    _make,
)

DIALECT = DeepEyesV2(
    "deepeyes-v2",
    Limits(calls=10, image_searches=1, tokens=65_536),
    {"search": searched("query"), "image_search": _whole_picture, "python": computed},
    SOURCE,
    image_call=WrittenCall("image_search", {}),
)
