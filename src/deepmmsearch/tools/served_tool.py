"""A tool of a server as one that the policy may use. How it describes itself is untrusted text: it is bounded, escaped
and quoted, and of the schema of its arguments the plain part alone is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from deepmmsearch.agent.dialect import written_tags
from deepmmsearch.agent.lines import Line, cut, join, one_line, unnumbered
from deepmmsearch.agent.protocols import OfferedTool, ToolServer
from deepmmsearch.agent.table import SERVED
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.agent.use import ArgumentTool
from deepmmsearch.errors import UserError
from deepmmsearch.escaping import escape_observation
from deepmmsearch.types import Observation, Trajectory

LONGEST_ABOUT, LONGEST_NOTE, LONGEST_NAME = 800, 200, 64
MOST_ARGUMENTS, MOST_CHOICES, DEEPEST = 24, 40, 4
_NAME = re.compile(r"[\w.-]{1,64}")
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


class ServedTool(ArgumentTool[dict[str, Any]]):
    """`limit`: how often in an episode."""

    arguments = dict

    def __init__(self, offered: OfferedTool, server: ToolServer, limit: int | None = None) -> None:
        """Raises UserError for one that cannot be called from here."""
        self.name = served_name(server.name, offered.name)
        self.limit, self._called, self._server = limit, offered.name, server
        try:
            self._schema = _plain_schema(json.loads(offered.schema))
        except (ValueError, RecursionError) as error:
            raise UserError(f"The tool {offered.name[:100]!r} of {server.name} cannot be used: {error}.") from None
        said = clean(offered.about, LONGEST_ABOUT)
        told = f' It says of itself: "{said}"' if said else ""
        self.about = f"a tool of a server, which takes {self._described}.{told}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self._schema

    async def use(self, arguments: dict[str, Any], trajectory: Trajectory, tools: Toolbox) -> Observation:
        reply = await self._server.call(self._called, arguments)
        first = len(trajectory.pictures) + 1
        seen = [f"Picture {n}: {p.width} x {p.height} pixels." for n, p in enumerate(reply.images, first)]
        # each line of it begins with words of ours: it may say "Error:", or what passes for a hit
        said = filter(str.strip, reply.text[: 4 * tools.max_text].splitlines())
        lines = [Line(f"Result: {unnumbered(cut(text, tools.max_line))}") for text in said]
        if not lines and not seen:
            return Observation("The tool gave nothing back.")
        text = join(lines, tools.max_text - 40 * len(seen))[0] if lines else ""
        return Observation("\n".join(filter(None, [text, *seen])), reply.images)

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        known = self._schema["properties"]
        for name in given:
            if name not in known:
                raise ValueError(f"has no argument {str(name)[:60]}. It takes {self._known}.")
        for name in self._schema.get("required", ()):
            if name not in given:
                raise ValueError(f"takes {self._known}; {name} is missing.")
        for name, value in given.items():
            kinds = known[name].get("type", ())
            kinds = [kinds] if isinstance(kinds, str) else kinds
            if kinds and not any(_is_kind(value, kind) for kind in kinds):
                raise ValueError(f"takes {self._known}; {name} must be: {' or '.join(kinds)}.")
            if (choices := known[name].get("enum")) and value not in choices:
                raise ValueError(f"takes {self._known}; {name} must be one of {', '.join(map(str, choices))}.")
        return dict(given)

    @property
    def _known(self) -> str:
        return ", ".join(self._schema["properties"]) or "no arguments, {}"

    @cached_property
    def _alone(self) -> str | None:
        known = self._schema["properties"]
        return next(iter(known)) if len(known) == 1 and next(iter(known.values())).get("type") == "string" else None

    @property
    def _described(self) -> str:
        """The arguments in words, for dialects that offer no functions."""
        required = self._schema.get("required", ())
        each = [
            f'"{name}" ({_kind_of(schema)}{", needed" if name in required else ""})'
            + (f" {note}" if (note := schema.get("description")) else "")
            for name, schema in self._schema["properties"].items()
        ]
        if not each:
            return "an empty JSON object, {}"
        return f"the text alone: {each[0]}" if self._alone else f"a JSON object with {'; '.join(each)}"


def served_name(server: str, tool: str) -> str:
    """What the policy calls it: letters, digits and `_`."""
    said = re.sub(r"[^a-z0-9_]+", "_", tool.lower()).strip("_")
    return f"{SERVED}{server.removeprefix(SERVED)}_{said}"[:LONGEST_NAME]


def clean(text: str, longest: int) -> str:
    """What a server says, as a part of a prompt: one line, without tags, chat tokens and quotation marks."""
    # bounded first: what takes long to escape is not read to its end
    short = cut(one_line(text[: 4 * longest]), longest)
    return escape_observation(unnumbered(short), written_tags()).replace('"', "'")


def _is_kind(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return kind not in _KINDS or isinstance(value, _KINDS[kind])


def _kind_of(schema: Mapping[str, Any]) -> str:
    if choices := schema.get("enum"):
        return f"one of {', '.join(map(str, choices))}"
    kind = schema.get("type", "any")
    return kind if isinstance(kind, str) else " or ".join(kind)


def _plain_schema(given: Any) -> dict[str, Any]:
    """Raises ValueError where its arguments cannot be named here."""
    schema = _reduced(given if isinstance(given, dict) else {}, DEEPEST)
    return {"type": "object", "properties": {}, **{n: v for n, v in schema.items() if n in ("properties", "required")}}


def _reduced(given: Mapping[str, Any], levels: int) -> dict[str, Any]:
    """Kinds, choices, notes and what lies within; no patterns, references and conditions. Raises ValueError."""
    kept: dict[str, Any] = {}
    kind = given.get("type")
    kinds = [k for k in (kind if isinstance(kind, list) else [kind]) if isinstance(k, str) and k in _KINDS]
    if kinds:
        kept["type"] = kinds if isinstance(kind, list) else kinds[0]
    choices = given.get("enum")
    if isinstance(choices, list):
        said = [c for c in choices[:MOST_CHOICES] if _can_be_said(c)]
        kept |= {"enum": said} if said else {}
    if isinstance(note := given.get("description"), str) and levels < DEEPEST and note.strip():
        kept["description"] = clean(note, LONGEST_NOTE)
    within, required = given.get("properties"), given.get("required")
    if isinstance(within, dict) and levels:
        needed = [name for name in within if name in required] if isinstance(required, list) else []
        if len(within) > MOST_ARGUMENTS or any(not _NAME.fullmatch(str(name)) for name in within):
            raise ValueError(f"more than {MOST_ARGUMENTS} arguments, or names of arguments that are not words")
        kept["properties"] = {n: _reduced(v if isinstance(v, dict) else {}, levels - 1) for n, v in within.items()}
        kept |= {"required": needed} if needed else {}
    if isinstance(items := given.get("items"), dict) and levels:
        kept["items"] = _reduced(items, levels - 1)
    return kept


def _can_be_said(choice: Any) -> bool:
    if isinstance(choice, str):
        return clean(choice, 80) == choice
    # an endpoint takes no infinity, and a whole number may have thousands of digits
    return isinstance(choice, int | float) and abs(choice) < 2**63
