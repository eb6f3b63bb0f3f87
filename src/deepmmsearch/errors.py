"""The errors a user can meet. Each message says what was found, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave cannot be used; the command line prints the message alone and exits with `exit_code`."""

    exit_code = 2


class Failed(UserError):
    """Nothing is wrong with what the user gave, but something that it needs is down or refuses."""

    exit_code = 1


class MissingExtra(UserError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}'. Install it with: {self.line(extra)}")

    @staticmethod
    def line(extra: str) -> str:
        """The command that installs it."""
        return f"pip install 'deepmmsearch[{extra}]'"


class UnknownName(UserError):
    """A name that is not one of the known ones; the message offers the nearest. `within`: what stands before all of
    them, such as "trl."."""

    def __init__(self, kind: str, found: str, known: Iterable[str], within: str = "") -> None:
        names = sorted(known)
        close = difflib.get_close_matches(found, names, n=1)
        hint = f" Did you mean {within + close[0]!r}?" if close else ""
        super().__init__(f"Unknown {kind} {within + found!r}.{hint} Known: {', '.join(names) or 'none'}.")


class ToolError(Exception):
    """A tool could not do its work (down, refused, nothing readable). Becomes `Observation.error`, which the policy
    reads."""
