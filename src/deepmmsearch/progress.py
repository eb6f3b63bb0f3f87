"""What long work tells of itself while it is under way: sentences, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Step:
    """`done` of `total` of a stage, None where the total is not known; `note` says in some words how it goes."""

    stage: str
    done: int
    total: int | None = None
    note: str = ""

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total is not None else ""
        return f"{self.stage}: {self.done:,}{of}{', ' if self.note else ''}{self.note}"


Watch = Callable[[str | Step], None]


def silent(said: str | Step) -> None:
    """Shows nothing."""


def tracked(rows: Iterable[Row], stage: str, total: int | None, watch: Watch) -> Iterator[Row]:
    """The rows, each told of once it has been dealt with."""
    watch(Step(stage, 0, total))
    for done, row in enumerate(rows, 1):
        yield row
        watch(Step(stage, done, total))
