"""Turns in tags: a reason, then exactly one call of a tool or an answer; what comes back stands in `<information>`.

`docs/protocol.md` has the table of every odd case.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from deepmmsearch.agent.table import Tool, tool_of
from deepmmsearch.escaping import escape_tags
from deepmmsearch.thoughts import without_thoughts
from deepmmsearch.types import PAPER_LIMITS, Action, Answer, ImageSearch, Limits, Malformed

_REASON = re.compile(r"\s*<reason\s*>(.*?)(?:</reason\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[\w-]*[ \t]*$", re.MULTILINE)
_REASON_CLOSE = re.compile(r"</reason\s*>", re.IGNORECASE)
_CHAT_TOKEN_AT_END = re.compile(r"(?:<\|\w{1,40}\|>|</s>)\Z")


@dataclass(frozen=True)
class TagDialect:
    """`tags`: those of tools that have another one here. `regions`: may an image search name a part of the picture?"""

    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    regions: bool = True
    limits: Limits = PAPER_LIMITS
    pictures: Literal["before", "after"] = "before"
    boxes: str | None = None
    thinks: bool = False

    def tag(self, tool: Tool) -> str:
        return self.tags.get(tool.name, tool.tag)

    def parse(self, text: str, tools: Sequence[Tool], ended: bool) -> Action:
        choices = _either(self._names(tools))
        said = text if self.thinks else without_thoughts(text)
        body = _without_end_tokens(said)
        if not body and said != text.strip():
            return Malformed(f"The turn holds thoughts alone. After them, write a reason and exactly one of {choices}.")
        if not body:
            return Malformed(f"The turn is empty. Write a reason, then exactly one of {choices}.")
        reason = _REASON.match(body)
        if reason is None:
            if re.search(r"<reason\s*>", body, re.IGNORECASE):
                return Malformed("There is text before the reason. Start the turn with the reason tag.")
            return Malformed(f"The reason is missing. Write a reason first, then exactly one of {choices}.")
        if not _REASON_CLOSE.match(body, reason.end(1)):
            return Malformed(f"The reason is not closed. Close it, then write exactly one of {choices}.")
        if not reason.group(1).strip():
            return Malformed(f"The reason is empty. Say in a sentence why, then write exactly one of {choices}.")
        return self._parse_call(body[reason.end() :], tools, ended)

    def forgive(self, text: str, tools: Sequence[Tool]) -> Action | None:
        """The first call or answer, without what stands around the turn: a fence, a preface, words after its end. What
        stands before a call that has no reason is its reason."""
        said = _FENCE.sub("", _without_end_tokens(text if self.thinks else without_thoughts(text)))
        names = self._names(tools)
        if not _tag(names).search(said) and "&lt;" in said:
            said = html.unescape(said)
        called = next((tag for tag in _tag(names).finditer(said) if not tag[1]), None)
        if called is None:
            return None
        close = re.compile(rf"</{re.escape(called[2])}\s*>", re.IGNORECASE).search(said, called.end())
        reason = said[: called.start()]
        if marks := list(_tag(("reason",)).finditer(reason)):
            reason = reason[marks[0].end() : marks[-1].start() if marks[-1][1] else None]
        turn = f"<reason>{reason.strip() or '...'}</reason>{said[called.start() : close.end() if close else None]}"
        action = self.parse(turn, tools, ended=True)
        return None if isinstance(action, Malformed) else action

    def is_plain(self, text: str, tools: Sequence[Tool]) -> bool:
        return not _tag((*self._names(tools), "reason", "information")).search(html.unescape(text))

    def reason(self, text: str) -> str:
        found = _REASON.match(text if self.thinks else without_thoughts(text))
        return found.group(1).strip() if found else ""

    def write(self, reason: str, action: Action, tools: Sequence[Tool]) -> str:
        tool = tool_of(action, tools)
        if tool is not None:
            tag, content = self.tag(tool), tool.write(action)
        elif isinstance(action, Answer):
            tag, content = "answer", action.text
        else:
            raise ValueError(f"{action!r} cannot be written as a turn.")
        text = f"<reason>{escape_tags(reason.strip(), map(self.tag, tools))}</reason><{tag}>{content}</{tag}>"
        read = self.parse(text, tools, True)
        if read != action:
            raise ValueError(f"{action!r} cannot be written in the dialect {self.name}: it would be read as {read!r}.")
        return text

    def observation(self, text: str) -> str:
        return f"<information>{text}</information>"

    def about(self, tool: Tool) -> str:
        return f"<{self.tag(tool)}>...</{self.tag(tool)}>: {tool.about}" if tool.about else ""

    def numbering(self, pictures: int) -> str:
        if pictures < 2:
            return ""
        return f"\nThe {pictures} pictures are numbered in their order; <img 2> stands for the second."

    def _names(self, tools: Sequence[Tool]) -> tuple[str, ...]:
        """Image search first, as the papers list them."""
        ordered = sorted(tools, key=lambda tool: tool.name != "image_search")
        return (*map(self.tag, ordered), "answer")

    def _parse_call(self, rest: str, tools: Sequence[Tool], ended: bool) -> Action:
        """The action in what follows the reason."""
        names = self._names(tools)
        choices = _either(names)
        tags = list(_tag((*names, "information", "reason")).finditer(rest))
        opened = [t for t in tags if not t.group(1) and t.group(2).lower() in names]
        if not opened:
            return Malformed(f"There is no action after the reason. Write exactly one of {choices}.")
        if len(opened) > 1:
            return Malformed(f"There are {len(opened)} actions in one turn. Write exactly one of {choices}, then stop.")
        start, name = opened[0], opened[0].group(2).lower()
        if rest[: start.start()].strip():
            return Malformed("There is text between the reason and the action. Put all thoughts inside the reason.")
        close = next((t for t in tags if t.group(1) and t.group(2).lower() == name and t.start() >= start.end()), None)
        if close is None and not ended:
            return Malformed(f"The turn was cut off inside {name}. Write a shorter turn.")
        end = close.start() if close else len(rest)
        if any(start.end() <= t.start() < end for t in tags):
            return Malformed(f"There is another tag inside {name}. Write plain text in it.")
        if close and rest[close.end() :].strip():
            return Malformed(f"There is text after the action. End the turn right after closing {name}.")
        content = rest[start.end() : end]
        return self._interpret(name, (content if close else _without_half_close(content, name)).strip(), tools)

    def _interpret(self, name: str, content: str, tools: Sequence[Tool]) -> Action:
        if not content:
            return Malformed(f"The {name} is empty. Write its text between the tags.")
        if name == "answer":
            return Answer(content)
        tool = next(tool for tool in tools if self.tag(tool) == name)
        try:
            action = tool.read(content)
        except ValueError as problem:
            return Malformed(f"The {name} {problem}")
        if isinstance(action, ImageSearch) and action.region is not None and not self.regions:
            return Malformed(f"The {name} takes the whole image only. Write the img tag alone in it.")
        return action


@lru_cache
def _tag(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"<(/?)({'|'.join(map(re.escape, names))})\s*/?>", re.IGNORECASE)


def _without_end_tokens(text: str) -> str:
    """Some servers leave the end-of-turn token in the text; it is not part of what the model says."""
    text = text.strip()
    end = len(text)
    while found := _CHAT_TOKEN_AT_END.search(text, max(0, end - 48), end):
        end = found.start()
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]


def _without_half_close(content: str, name: str) -> str:
    """A turn may end within its close tag (`</text_sea`): the start of the tag is not part of the query."""
    at = content.rfind("</")
    return content[:at] if at >= 0 and f"</{name}".startswith(content[at:].strip().lower()) else content


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
