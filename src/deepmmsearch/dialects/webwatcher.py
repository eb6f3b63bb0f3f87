"""WebWatcher-7B and -32B, read as `infer/scripts_eval/agent_eval.py` reads: the first call or answer; a turn without
one is told so and goes on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from deepmmsearch.agent.dialect import CallResult
from deepmmsearch.dialects.calls import (
    CallDialect,
    Read,
    WrittenCall,
    call_of,
    computed,
    searched,
    visited,
    whole_picture,
)
from deepmmsearch.prompt_sources import PromptSource, SourceFile, python_value
from deepmmsearch.types import Answer, Limits, Malformed

_OPENS = re.compile(r"<(tool_call|answer)>")
_OPENS_TWICE = re.compile(r'"\s*queries\s*"\s*:\s*\[\s*""')
_CLOSES_TWICE = re.compile(r'""\s*\]')
PICTURE = "img_1"
"""What stands for the address of the picture, which the model is told and repeats."""


@dataclass(frozen=True)
class WebWatcher(CallDialect):
    opens: ClassVar[str] = "<tool_response>"
    closes: ClassVar[str] = "</tool_response>"

    def read(self, text: str) -> Read:
        for opened in _OPENS.finditer(text):
            end = text.find(f"</{opened[1]}>", opened.end())
            if end < 0:
                continue
            said = text[opened.end() : end].strip()
            if opened[1] == "answer":
                return Answer(said)
            call = call_of(said, required=True) or call_of(_repaired(said), required=True)
            return call or Malformed("Use a valid tool or answer the question.")
        return Malformed("Use a valid tool or answer the question.")

    def place(self, reply: CallResult) -> tuple[str | None, ...]:
        if reply.state == "malformed":
            return (reply.text, *(None,) * reply.pictures)
        if reply.titles:
            lines = (f"Image: {n}, Text: {title}" for n, title in enumerate(reply.titles, 1))
            said = "```\n" + "\n\n".join(lines) + "\n```"
            return (self.opens, *(None,) * reply.pictures, said, self.closes)
        return super().place(reply)

    def _query_arguments(self, queries: Any) -> Mapping[str, Any]:
        return {"queries": list(queries)}


def _repaired(said: str) -> str:
    """With quotation marks that stand twice, as they often do around queries."""
    kept, at = "", 0
    while (start := _OPENS_TWICE.search(said, at)) is not None:
        line_end = len(said) if (found := said.find("\n", start.end())) < 0 else found
        end = _CLOSES_TWICE.search(said, start.end(), line_end)
        kept += said[at : start.start()] + (f'"queries": ["{said[start.end() : end.start()]}"]' if end else "")
        at = end.end() if end else line_end
        kept += "" if end else said[start.start() : at]
    return (kept + said[at:]).replace('""', '"')


def _make(texts: Mapping[str, Any]) -> Mapping[str, str]:
    user = texts["user"].replace("{Image_url}", PICTURE).replace("{Question}", "{question}")
    return {"system.md": texts["system"], "user.md": user}


_SCRIPT = "WebAgent/WebWatcher/infer/scripts_eval/agent_eval.py"
_SCRIPT_SHA256 = "c5582cded2bdd8cceddeab5b3c2b36c23a48fd74e6cc06fb1c74c4d1545916cc"
SOURCE = PromptSource(
    "Alibaba-NLP/DeepResearch",
    "f72f75d8c3eb842f2bbbab096a12206ff66e270f",
    "Apache-2.0",
    {
        "system": SourceFile(_SCRIPT, _SCRIPT_SHA256, python_value("sys_prompt")),
        "user": SourceFile(_SCRIPT, _SCRIPT_SHA256, python_value("prompt_ins")),
    },
    _make,
)

DIALECT = WebWatcher(
    "webwatcher",
    Limits(calls=12, image_searches=1, tokens=65_536),
    {
        "web_search": searched("queries", "query"),
        "VLSearchImage": whole_picture,
        "vlsearchimage": whole_picture,
        "visit": visited,
        "Visit": visited,
        "code_interpreter": computed,
        "Code_Interpreter": computed,
        "PythonInterpreter": computed,
    },
    SOURCE,
    pictures="after",
    search_name="web_search",
    image_call=WrittenCall("VLSearchImage", {"image_urls": [PICTURE]}),
)
