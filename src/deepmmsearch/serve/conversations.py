"""Conversations as OpenAI-compatible programs send them, read as a question with its pictures and what went before."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepmmsearch.errors import UserError
from deepmmsearch.types import Exchange

# what Open WebUI puts before the words of its user
_ATTACHED = re.compile(r"\A\s*<attached_files>.{0,20000}?</attached_files>\s*", re.DOTALL)
_TASK = "### Task:"
MOST_MESSAGES = 2_000


@dataclass(frozen=True)
class Conversation:
    """`pictures`: those of the question, or the latest before it where it brings none, as data URIs or addresses.
    `task`: it asks for words about a conversation (a title, tags), which needs no search."""

    text: str
    pictures: tuple[str, ...] = ()
    history: tuple[Exchange, ...] = ()
    task: bool = False


@dataclass(frozen=True)
class _Said:
    role: str
    text: str
    pictures: tuple[str, ...]


def read_conversation(messages: Any) -> Conversation:
    """System and tool messages are left out: the agent has instructions and tools of its own. Raises UserError for what
    is not a conversation that ends with a question."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise UserError("messages holds no message. Give a list with at least one of role user.")
    if len(messages) > MOST_MESSAGES:
        raise UserError(f"messages holds {len(messages)} messages, at most {MOST_MESSAGES} are taken. Send fewer.")
    said = [_said(message, number) for number, message in enumerate(messages, 1)]
    spoken = [s for s in said if s.role in ("user", "assistant") and (s.text or s.pictures)]
    if not spoken or spoken[-1].role != "user":
        raise UserError("The last message is not of role user. Put the question last.")
    last = spoken[-1]
    text = _ATTACHED.sub("", last.text, count=1).strip()
    pictures = last.pictures or next((s.pictures for s in reversed(spoken) if s.pictures), ())
    return Conversation(
        text or ("What is this?" if last.pictures else ""), pictures, _exchanges(spoken[:-1]), text.startswith(_TASK)
    )


def read_input(given: Any) -> Conversation:
    """The input of a response: a text, or messages among items that are left out, such as earlier reasoning. Raises
    as `read_conversation`."""
    if isinstance(given, str):
        return read_conversation([{"role": "user", "content": given}])
    if not isinstance(given, list) or len(given) > MOST_MESSAGES:
        raise UserError(f"input is neither a text nor a list of at most {MOST_MESSAGES} messages.")
    items = [item for item in given if not isinstance(item, Mapping) or item.get("type", "message") == "message"]
    return read_conversation(items)


def _exchanges(spoken: Sequence[_Said]) -> tuple[Exchange, ...]:
    """Questions with the answers that follow them; several texts of one speaker in a row are one."""
    merged = [
        (role, "\n\n".join(each.text for each in several).strip())
        for role, several in itertools.groupby(spoken, key=lambda each: each.role)
    ]
    pairs = itertools.pairwise(merged)
    return tuple(
        Exchange(_ATTACHED.sub("", asked, count=1).strip(), answered)
        for (role, asked), (_, answered) in pairs
        if role == "user"
    )


def _said(message: Any, number: int) -> _Said:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise UserError(f"Message {number} is not an object with a role. Give role and content.")
    content = message.get("content")
    if content is None:
        return _Said(message["role"], "", ())
    if isinstance(content, str):
        return _Said(message["role"], content, ())
    if not isinstance(content, Sequence):
        raise UserError(f"The content of message {number} is neither a text nor a list of parts.")
    texts, pictures = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("text", "input_text", "output_text"):
            if not isinstance(part.get("text"), str):
                raise UserError(f"A part of message {number} is of type {kind} and has no text.")
            texts.append(part["text"])
        elif kind in ("image_url", "input_image"):
            pictures.append(_address(part, number))
        elif message["role"] == "user":
            raise UserError(
                f"Message {number} holds a part of type {str(kind)[:40]!r}. Texts and pictures (image_url) are taken."
            )
    return _Said(message["role"], "\n".join(texts), tuple(pictures))


def _address(part: Mapping[str, Any], number: int) -> str:
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, Mapping) else given
    if not isinstance(url, str) or not url:
        raise UserError(f"A picture of message {number} has no url. Give a data URI or a web address.")
    return url
