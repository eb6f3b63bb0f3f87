"""What a build has done, file by file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["added", "changed", "removed", "skipped"]
Log = Callable[[Outcome, str, str], None]
"""Told of every file with which something is done: what, its id, and the reason where it is skipped."""


def unlogged(outcome: Outcome, file: str, reason: str) -> None:
    """Writes nothing."""


@dataclass
class Report:
    """`skipped` maps a reason to the files it held for, `guessed` an encoding to the files that it was guessed for."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
    guessed: dict[str, list[str]] = field(default_factory=dict)
    log: Log = unlogged

    def add(self, file: str, *, new: bool, charset: str = "") -> None:
        """`charset`: the encoding that was guessed, if one was."""
        self.added += new
        self.changed += not new
        if charset:
            self.guessed.setdefault(charset, []).append(file)
        self.log("added" if new else "changed", file, f"its encoding was guessed: {charset}" if charset else "")

    def remove(self, file: str) -> None:
        self.removed += 1
        self.log("removed", file, "")

    def skip(self, file: str, reason: str) -> None:
        self.skipped.setdefault(reason, []).append(file)
        self.log("skipped", file, reason)

    @property
    def sentence(self) -> str:
        parts = [
            f"{self.added} added",
            f"{self.changed} changed",
            f"{self.unchanged} unchanged",
            f"{self.removed} removed",
        ]
        for told, files_by in (("read in a guessed encoding", self.guessed), ("skipped", self.skipped)):
            if files_by:
                each = ", ".join(f"{len(files)} {why}" for why, files in sorted(files_by.items()))
                parts.append(f"{sum(map(len, files_by.values()))} {told} ({each})")
        return ", ".join(parts) + "."
