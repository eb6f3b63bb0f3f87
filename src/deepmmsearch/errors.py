"""The errors a user can meet. Each message says what was found, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

LISTED = 40
"""How many names a message lists."""


class UserError(Exception):
    """Something the user gave cannot be used; the command line prints the message alone and exits with `exit_code`."""

    exit_code = 2


class Failed(UserError):
    """Nothing is wrong with what the user gave, but something that it needs is down or refuses."""

    exit_code = 1


class MissingExtra(UserError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, *extras: str) -> None:
        named = f"the extra {extras[0]}" if len(extras) == 1 else f"the extras {' and '.join(extras)}"
        super().__init__(f"{feature} needs {named}. Install with: {self.line(*extras)}")

    @staticmethod
    def line(*extras: str) -> str:
        """The command that installs them."""
        return f"pip install 'deepmmsearch[{','.join(extras)}]'"


class MissingPackage(MissingExtra):
    """A package is not installed that no extra can bring, because its pins conflict with ours."""

    def __init__(self, feature: str, line: str) -> None:
        Exception.__init__(self, f"{feature} needs a package that no extra brings. Install with: {line}")


# a package that only this extra brings
_BROUGHT = {
    "data": "imagehash",
    "dense": "sentence_transformers",
    "engine": "tantivy",
    "local": "transformers",
    "ray": "ray",
    "serve": "starlette",
    "train": "trl",
    "vllm": "vllm",
}


def need(feature: str, *extras: str) -> None:
    """Raises MissingExtra, before any work, for what is not installed of `extras`."""
    missing = [extra for extra in extras if find_spec(_BROUGHT[extra]) is None]
    if missing:
        raise MissingExtra(feature, *missing)


def all_of(problems: Sequence[UserError]) -> UserError:
    """One error for several, which lists them; one alone is itself."""
    if len(problems) == 1:
        return problems[0]
    listed = "\n".join(f"- {problem}" for problem in problems)
    return UserError(f"{len(problems)} things have to be put right:\n{listed}")


class UnknownName(UserError):
    """A name that is not one of the known ones; the message offers the nearest. `within`: what stands before all of
    them, such as "trl."."""

    def __init__(self, kind: str, found: str, known: Iterable[str], within: str = "") -> None:
        names = sorted(known)
        close = difflib.get_close_matches(found, names, n=1)
        hint = f" Did you mean {within + close[0]!r}?" if close else ""
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        listed = ", ".join(names[:LISTED]) or "none"
        super().__init__(f"Unknown {kind} {within + found!r}.{hint} Known: {listed}{more}.")


class ToolError(Exception):
    """A tool could not do its work (down, refused, nothing readable). Becomes `Observation.error`, which the policy
    reads."""


class ToolMissing(ToolError):
    """What was asked for is not offered, or not equipped here: an observation of it is `unavailable`."""


class Unreadable(Exception):
    """What a process that reads strangers' files refuses. The message is the reason, in the words of a build's summary
    and of what the policy reads."""
