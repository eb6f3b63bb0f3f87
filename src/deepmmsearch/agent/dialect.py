"""Dialects: how a turn is written and read. Each is one file, found through the entry-point group
`deepmmsearch.dialects`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol, runtime_checkable

from deepmmsearch.agent.table import SERVED, Tool, extra_tags, installed_tools
from deepmmsearch.errors import UserError
from deepmmsearch.registry import Registry
from deepmmsearch.thoughts import part_thoughts
from deepmmsearch.types import Action, Answer, Completion, ImageSearch, Limits, TextSearch

DEFAULT = "deepmmsearch-r1"


@runtime_checkable
class Dialect(Protocol):
    """How a policy writes its turns and reads what comes back.

    `pictures`: where the question's pictures stand, before or after its text. `limits`: what holds where nobody says
    otherwise. `boxes`: the frame of its boxes (`tools.grounding`), None where the checkpoint decides. `thinks`: are
    thoughts, between marks, a part of its turns? Else they are parted from what is said.
    """

    @property
    def name(self) -> str: ...
    @property
    def pictures(self) -> Literal["before", "after"]: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def boxes(self) -> str | None: ...
    @property
    def thinks(self) -> bool: ...

    def parse(self, text: str, tools: Sequence[Tool], ended: bool) -> Action:
        """The one action of a turn, or `Malformed` with a problem that the policy can act upon. Never raises for a
        text. `ended`: the model stopped by itself; what it was cut off in is not guessed."""
        ...

    def reason(self, text: str) -> str:
        """What the turn gives as its reason; "" where there is none."""
        ...

    def write(self, reason: str, action: Action, tools: Sequence[Tool]) -> str:
        """The turn, so that `parse` gives the action back. Raises ValueError for what the dialect cannot say."""
        ...

    def observation(self, text: str) -> str:
        """What the policy reads after a call; `text` is harmless already."""
        ...

    def about(self, tool: Tool) -> str:
        """What the system text says of a tool that the prompt set does not know."""
        ...

    def numbering(self, pictures: int) -> str:
        """What is said after the question where it has several pictures, so that each can be named."""
        ...


@runtime_checkable
class Forgiving(Protocol):
    """A dialect that reads more than its form where somebody waits for an answer."""

    def forgive(self, text: str, tools: Sequence[Tool]) -> Action | None:
        """The action of a turn without the form, where it can be told; None where it cannot."""
        ...

    def is_plain(self, text: str, tools: Sequence[Tool]) -> bool:
        """Is the turn words alone, without anything of the form?"""
        ...


@dataclass(frozen=True)
class ToldHit:
    """What was said of one hit, in one line."""

    title: str
    url: str
    text: str


@dataclass(frozen=True)
class CallResult:
    """What came back for a call; all texts are harmless already. `state`: what it leaves ("text", "image", another
    tool's name, "malformed"). `call`: what was asked for, as it was written in the arguments of a search. `text`: what
    a dialect without places of its own shows. `pictures`: how many came; `titles`: one for each, where they are hits'.
    `passages`: the hits that something was said of. `head`, `after`: texts of the prompt set for this state.
    """

    state: str
    call: str
    text: str
    failed: bool
    question: str
    pictures: int = 0
    titles: tuple[str, ...] = ()
    passages: tuple[ToldHit, ...] = ()
    head: str = ""
    after: str = ""


@runtime_checkable
class Placing(Protocol):
    """A dialect with places of its own for what comes back."""

    def place(self, reply: CallResult) -> tuple[str | None, ...]:
        """The parts of the message; None where the next picture stands, as often as there are pictures."""
        ...


DIALECTS: Registry[Dialect] = Registry("deepmmsearch.dialects", "dialect", Dialect, "a dialect")


def find_dialect(name: str) -> Dialect:
    """Raises UnknownName, UserError."""
    return DIALECTS.find(name)


def written_tags() -> tuple[str, ...]:
    """The names of all tags that installed tools and dialects write, and how those of servers' tools begin."""
    return tuple(sorted({*extra_tags(), SERVED, *(tag for name in DIALECTS.names() for tag in _tags_of(name))}))


@cache
def _tags_of(name: str) -> frozenset[str]:
    try:
        return tags_of(find_dialect(name))
    except UserError:  # what cannot be loaded writes nothing
        return frozenset()


def tags_of(dialect: Dialect) -> frozenset[str]:
    """The names of the tags that a dialect writes around turns, the papers' calls and observations."""
    tools, written = installed_tools(), [dialect.observation("")]
    for action in (TextSearch("x"), ImageSearch(), Answer("x")):
        with suppress(ValueError):
            written.append(dialect.write("x", action, tools))
    return frozenset(re.findall(r"</?([A-Za-z][\w.:-]*)", "".join(written)))


def parse_action(
    text: str, dialect: str = DEFAULT, *, ended: bool = True, tools: Sequence[Tool] | None = None
) -> Action:
    """`Dialect.parse` with the tools that were offered; without, with all that are installed."""
    return find_dialect(dialect).parse(text, installed_tools() if tools is None else tools, ended)


def parse_reason(text: str, dialect: str = DEFAULT) -> str:
    """`Dialect.reason`; "" where the dialect of a stored turn is not installed here."""
    return find_dialect(dialect).reason(text) if dialect in DIALECTS.names() else ""


def thoughts_of(completion: Completion) -> str:
    """What was thought for a turn: apart from its text, or in it."""
    return completion.thoughts or part_thoughts(completion.text).thoughts


def write_turn(reason: str, action: Action, dialect: str = DEFAULT) -> str:
    """`Dialect.write` with all installed tools."""
    return find_dialect(dialect).write(reason, action, installed_tools())
