"""What people who ask are told in the page's language: errors with the name of a sentence (`error NAME` in the page's
table of texts) and what stands in it. Programs get the English sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from deepmmsearch.agent.runner import LATE
from deepmmsearch.errors import Failed, UserError

STOPPED = "Stopped by whoever asked."
INTERRUPTED = "The server was stopped before it was answered."
UNSAVED = "The answer could not be kept: "
_LATE = re.compile(re.escape(LATE).replace(r"\{seconds:g\}", r"([\d.e+-]+)"))


class NamedRefusal(UserError):
    """`name` of the sentence, and what it says of this case."""

    def __init__(self, message: str, name: str, **given: str | float) -> None:
        super().__init__(message)
        self.name, self.given = name, given


class TooMuch(NamedRefusal):
    """More than the server takes."""


class NoKey(NamedRefusal):
    """A key is needed, or the one that was given is not known."""


class UnknownRun(NamedRefusal):
    """There is no such question, run or conversation, or it is somebody else's."""


class NoPlace(NamedRefusal, Failed):
    """No place is free, or the caller has as many questions in play as it may."""


class Spent(NamedRefusal, Failed):
    """The caller has used what it may for now. `wait`: seconds until it is worth trying again."""

    def __init__(self, message: str, wait: float, name: str, **given: str | float) -> None:
        super().__init__(message, name, wait=round(wait), **given)
        self.wait = wait


def named(error: UserError) -> dict[str, Any]:
    """What a reply holds beside the English sentence; empty where the page has no sentence of its own."""
    return {"code": error.name, "given": error.given} if isinstance(error, NamedRefusal) else {}


def why_ended(error: str | None) -> Mapping[str, Any] | None:
    """The name of the sentence for an episode that ended with this error, and what stands in it."""
    if error is None:
        return None
    if error in (STOPPED, INTERRUPTED):
        return {"code": "stopped" if error == STOPPED else "interrupted", "given": {}}
    if late := _LATE.fullmatch(error):
        return {"code": "late", "given": {"seconds": late[1]}}
    return {"code": "failed", "given": {"why": error}}
