"""Turns of models that were trained to call functions: the server makes calls of what the model writes, and takes what
comes back as the reply of a tool (`policies.chat`).

In the record a call is `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Qwen's and Hermes' templates
write it, and the answer stands in `<answer>`. What stands before is the reason; there may be none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deepmmsearch.agent.table import Tool, tool_of
from deepmmsearch.escaping import escape_tags
from deepmmsearch.thoughts import without_thoughts
from deepmmsearch.types import PAPER_LIMITS, Action, Answer, Limits, Malformed

_OPENS = re.compile(r"<(tool_call|answer)>", re.IGNORECASE)


@dataclass(frozen=True)
class FunctionDialect:
    """Calls of functions by the server's own form for them."""

    name: str = "functions"
    limits: Limits = PAPER_LIMITS
    pictures: Literal["before", "after"] = "before"
    boxes: str | None = None
    thinks: bool = False

    def parse(self, text: str, tools: Sequence[Tool], ended: bool) -> Action:
        choices = f"one function ({', '.join(tool.name for tool in tools)}), or answer"
        opened, content = self._parts(without_thoughts(text))
        if opened is None:
            return Malformed(f"The turn is neither a call nor an answer. Call {choices}.")
        name, close = opened[1].lower(), content.lower().find(f"</{opened[1].lower()}>")
        if close < 0 and not ended:
            return Malformed(f"The turn was cut off inside {name}. Write a shorter turn.")
        inside = (content[:close] if close >= 0 else content).strip()
        if close >= 0 and _OPENS.search(content, close):
            return Malformed(f"There are several calls in one turn. Call {choices}, then stop.")
        if name == "answer":
            return Answer(inside) if inside else Malformed("The answer is empty.")
        call = read_call(inside)
        if call is None:
            return Malformed('The call is not JSON with "name" and "arguments".')
        tool = next((tool for tool in tools if tool.name == call[0]), None)
        if tool is None:
            return Malformed(f"There is no function {call[0][:60]!r}. Call {choices}.")
        try:
            return tool.accept(call[1])
        except ValueError as problem:
            return Malformed(f"The {tool.name} {problem}")

    def reason(self, text: str) -> str:
        said = without_thoughts(text)
        opened, _ = self._parts(said)
        return said[: opened.start()].strip() if opened else ""

    def write(self, reason: str, action: Action, tools: Sequence[Tool]) -> str:
        tool = tool_of(action, tools)
        if tool is not None:
            turn = write_call(tool.name, tool.arguments_of(action))
        elif isinstance(action, Answer):
            turn = f"<answer>{action.text}</answer>"
        else:
            raise ValueError(f"{action!r} cannot be written as a turn.")
        text = f"{escape_tags(reason.strip(), ('tool_call',))}\n{turn}".strip()
        if (read := self.parse(text, tools, True)) != action:
            raise ValueError(f"{action!r} cannot be written in the dialect {self.name}: it would be read as {read!r}.")
        return text

    def observation(self, text: str) -> str:
        return text

    def about(self, tool: Tool) -> str:
        return ""  # the functions that are offered say it

    def numbering(self, pictures: int) -> str:
        return f"\nThe {pictures} pictures are numbered in their order." if pictures > 1 else ""

    def function(self, tool: Tool) -> Mapping[str, Any]:
        """The tool as OpenAI's form offers it."""
        about = tool.about or _ABOUT.get(tool.name, "")
        return {
            "type": "function",
            "function": {"name": tool.name, "description": about, "parameters": dict(tool.parameters)},
        }

    def _parts(self, text: str) -> tuple[re.Match[str] | None, str]:
        opened = _OPENS.search(text)
        return opened, text[opened.end() :] if opened else ""


_ABOUT = {
    "text_search": "Searches the web with text. For facts that you do not know for certain or that change with time.",
    "image_search": "Searches the web with a picture, or with the part of it that `region` names.",
}


def read_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments; arguments may be JSON within JSON, as servers hand them on."""
    try:
        row = json.loads(text)
        arguments = row.get("arguments", {}) if isinstance(row, dict) else None
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    # too deep, or numbers of thousands of digits
    except (ValueError, RecursionError):
        return None
    if not isinstance(arguments, dict) or not isinstance(row.get("name"), str):
        return None
    return row["name"], {str(key): value for key, value in arguments.items()}


def write_call(name: str, arguments: Mapping[str, Any] | str) -> str:
    given = arguments if isinstance(arguments, str) else dict(arguments)
    return f"<tool_call>{json.dumps({'name': name, 'arguments': given}, ensure_ascii=False)}</tool_call>"


DIALECT = FunctionDialect()
