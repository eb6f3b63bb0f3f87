"""OpenSearch-VL-8B, -30B-A3B and -32B, read as `opensearch_vl/opensearch_infer` reads: a response ends the episode,
whatever was called; calls may also stand in tags of their own names."""

from __future__ import annotations

import json
import re
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
    closeup,
    picture_number,
    searched,
    unavailable,
)
from deepmmsearch.notation import parse_json
from deepmmsearch.prompt_sources import PromptSource, SourceFile, python_value
from deepmmsearch.types import Action, Answer, ImageSearch, Limits, Use

# by the name that counts, in the order in which they are looked for
_TAGS = {
    "web_search": "web_search",
    "image_search": "image_search|local_image_search|lens_scan",
    "text_search": "text_search|local_search",
    "crop": "crop",
    "layout_parsing": "layout_parsing|ocr",
    "perspective_correct": "perspective_correct",
    "super_resolution": "super_resolution",
    "sharpen": "sharpen",
}
_SEARCHES = ("text_search", "local_search", "web_search")
_SHOWN = re.compile(r"Picture (\d+):")
_RULE = "\n\n" + "=" * 60 + "\n\n"


@dataclass(frozen=True)
class OpenSearchVL(CallDialect):
    answered: ClassVar[str] = "response"
    opens: ClassVar[str] = "<observation>\n"
    closes: ClassVar[str] = "\n</observation>"

    def read(self, text: str) -> Read:
        if "<response>" in text and ("</response>" in text or "boxed{" in text):
            said = text.partition("<response>")[2].partition("</response>")[0].strip()
            return Answer(_boxed(text) or said)
        return _called(text) or PlainEnd(after_thoughts(text).strip())

    def place(self, reply: CallResult) -> tuple[str | None, ...]:
        if reply.failed:
            return (self.observation(f"Tool execution error:\n{reply.text}"), *(None,) * reply.pictures)
        if reply.state == "zoom" and (shown := _SHOWN.match(reply.text)):
            said = f"Image cropped successfully. New image ID: img_{shown[1]}."
            return (self.observation(said), *(None,) * reply.pictures)
        body = reply.text
        if reply.state == "text" and reply.passages:
            numbered = enumerate(reply.passages, 1)
            told = (f"[Passage {n}]\nTitle: {p.title}\nURL: {p.url}\nSummary:\n{p.text}" for n, p in numbered)
            body = _RULE.join(told)
        return (self.observation(f"Tool execution result:\n{body}"), *(None,) * reply.pictures)


def _called(text: str) -> WrittenCall | None:
    if (said := _object_in(text, "tool_call")) is not None and (call := _whole(said)) is not None:
        return call
    for name, tags in _TAGS.items():
        if (said := _object_in(text, tags)) is not None:
            row = _json(said)
            if row is None:
                row = {"q" if name in ("text_search", "web_search") else "url": said}
            return WrittenCall(name, _named(name, row if isinstance(row, dict) else {"value": row}))
    return None


def _named(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a search by the names that count."""
    found = dict(given)
    for other, own in (("query", "q"), ("lang", "hl")) if name in _SEARCHES else ():
        if other in found and own not in found:
            found[own] = found.pop(other)
    return found


def _object_in(text: str, tags: str) -> str | None:
    """The object in the first of the tags that begins with one: up to the first end of a tag that a brace precedes."""
    opened = re.search(rf"<(?:{tags})>\s*(?=\{{)", text)
    if opened is not None:
        for closed in re.finditer(rf"</(?:{tags})>", text[opened.end() :]):
            # looked at from its end, so that no blank is looked at twice
            said = text[opened.end() : opened.end() + closed.start()].rstrip()
            if said.endswith("}"):
                return said
    return None


def _whole(said: str) -> WrittenCall | None:
    row = _json(said)
    name = row.get("name") if isinstance(row, dict) else None
    given = (row.get("arguments", row.get("parameters", {})) or {}) if name else None
    return WrittenCall(name, _named(name, given)) if isinstance(name, str) and isinstance(given, dict) else None


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except (ValueError, RecursionError):
        return None


def _boxed(text: str) -> str:
    r"""What stands in the first \boxed{}, braces within it paired."""
    at = text.find("\\boxed{")
    depth, start = 0, at + len("\\boxed{")
    for place in range(start, len(text)) if at >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth < 0:
            return text[start:place].strip()
    return ""


def _image_search(arguments: Mapping[str, Any]) -> Action:
    return ImageSearch(picture=picture_number(arguments.get("url") or arguments.get("image")))


def _cropped(arguments: Mapping[str, Any]) -> Action:
    picture = picture_number(arguments.get("image"))
    try:
        x, y, width, height = (int(arguments.get(name, 0)) for name in ("x", "y", "width", "height"))
    except (TypeError, ValueError, OverflowError):
        raise ValueError("takes x, y, width and height as whole numbers.") from None
    if width <= 0 or height <= 0 or max(abs(x), abs(y), width, height) > 10**8:
        raise ValueError("takes a width and a height above 0.")
    return closeup(picture, (x, y, x + width, y + height), "pixels")


def _read_text(arguments: Mapping[str, Any]) -> Action:
    return Use("read_text", {"picture": picture_number(arguments.get("image"))}, search=False)


def _make(texts: Mapping[str, Any]) -> Mapping[str, str]:
    # its runner puts the system text before the pictures of the first message
    tools = json.dumps(texts["tools"], indent=2, ensure_ascii=False)
    return {"user.md": f"{texts['system']}\n\n{{images}}<tools>\n{tools}\n</tools>\n\n{{question}}"}


SOURCE = PromptSource(
    "shawn0728/OpenSearch-VL",
    "c5c02a49780e26ae9cb6f1fb56731d1e594d59f0",
    "Apache-2.0",
    {
        "system": SourceFile(
            "opensearch_vl/opensearch_infer/prompts.py",
            "6cf35bf771a4e7d286685c9327389f3554de704afe64d834206b8eba31bc0c54",
            python_value("SYSTEM_PROMPT"),
        ),
        "tools": SourceFile(
            "opensearch_vl/opensearch_infer/tools.py",
            "8edf438f56a11760979bf21405104a7a31b56c48411e1dbdec41ad09198a50a8",
            python_value("tools"),
        ),
    },
    _make,
)

_SEARCH = searched("q", "query")

DIALECT = OpenSearchVL(
    "opensearch-vl",
    Limits(calls=49, image_searches=49, tokens=200_000),
    {
        "text_search": _SEARCH,
        "web_search": _SEARCH,
        "local_search": _SEARCH,
        "image_search": _image_search,
        "local_image_search": _image_search,
        "lens_scan": _image_search,
        "crop": _cropped,
        "layout_parsing": _read_text,
        "perspective_correct": unavailable("perspective_correct"),
        "super_resolution": unavailable("super_resolution"),
        "sharpen": unavailable("sharpen"),
    },
    SOURCE,
    query_argument="q",
    search_name="text_search",
    image_call=WrittenCall("image_search", {"url": "img_1"}),
)
