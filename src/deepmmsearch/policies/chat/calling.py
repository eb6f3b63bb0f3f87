"""A conversation in OpenAI's form for calls of functions: what the record holds as text (`dialects.functions`), a
server takes and gives as `tool_calls` and messages of the role `tool`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from deepmmsearch.dialects.functions import read_call, write_call
from deepmmsearch.renderer import Message

PICTURES = "These pictures came with the result."
_CALL = re.compile(r"(.*?)<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_ANSWER = re.compile(r"<answer>", re.IGNORECASE)


def with_calls(told: Sequence[Message]) -> list[dict[str, Any]]:
    """`told`: in OpenAI's form. What follows a call is its result; its pictures follow as the user's, because most
    servers take text alone from a tool."""
    made: list[dict[str, Any]] = []
    waiting: str | None = None
    for number, message in enumerate(told):
        content = message["content"]
        call = _CALL.match(content) if message["role"] == "assistant" and isinstance(content, str) else None
        read = read_call(call[2]) if call else None
        if call and read:
            waiting = f"call_{number}"
            function = {"name": read[0], "arguments": json.dumps(read[1], ensure_ascii=False)}
            calls = [{"id": waiting, "type": "function", "function": function}]
            made.append({**message, "content": call[1].strip() or None, "tool_calls": calls})
        elif waiting is not None and message["role"] == "user":
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            text = "".join(part["text"] for part in parts if part["type"] == "text")
            made.append({"role": "tool", "tool_call_id": waiting, "content": text})
            if pictures := [part for part in parts if part["type"] != "text"]:
                made.append({"role": "user", "content": [*pictures, {"type": "text", "text": PICTURES}]})
            waiting = None
        else:
            made.append(dict(message))
    return made


def turn_of(said: str, calls: Sequence[tuple[str, str]]) -> str:
    """What was said and called (name, arguments as JSON) as the text of a turn: the first call, or else the answer."""
    if calls:
        return f"{said.strip()}\n{write_call(*calls[0])}".strip()
    return said if not said.strip() or _ANSWER.search(said) else f"<answer>{said.strip()}</answer>"
