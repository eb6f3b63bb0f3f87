"""What a check found: everything that is missing, what a run will make, and about what it will take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deepmmsearch.compose.estimate import Assumptions, Work
from deepmmsearch.errors import MissingExtra, UserError, all_of, need
from deepmmsearch.redaction import without_secrets


@dataclass
class RunPlan:
    """`problems`: everything without which it cannot run; `notes`: what is good to know. `makes`: what is where
    afterwards. `room`: bytes that are needed on the disk."""

    problems: list[UserError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    makes: dict[Path, str] = field(default_factory=dict)
    work: list[Work] = field(default_factory=list)
    assumed: Assumptions = field(default_factory=Assumptions)
    room: float = 0

    @property
    def missing(self) -> list[str]:
        return [without_secrets(str(problem)) for problem in self.problems]

    def lacks(self, problem: str | UserError) -> None:
        if without_secrets(str(problem)) not in self.missing:
            self.problems.append(UserError(problem) if isinstance(problem, str) else problem)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def does(self, work: Work) -> None:
        """One more part; parts of one name are one."""
        before = next((number for number, known in enumerate(self.work) if known.name == work.name), None)
        if before is None:
            self.work.append(work)
        else:
            self.work[before] = self.work[before].plus(work)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """What the user would be told is kept, and the check goes on."""
        try:
            yield
        except UserError as error:
            self.lacks(error)

    def has(self, feature: str, *extras: str) -> bool:
        """Are the extras installed?"""
        try:
            need(feature, *extras)
        except MissingExtra as error:
            self.lacks(error)
            return False
        return True

    def refuse(self) -> None:
        """Raises what is missing, if anything."""
        if self.problems:
            raise all_of(self.problems)
