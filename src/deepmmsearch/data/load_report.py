"""What became of the rows of a source: nothing is dropped without being counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 3
KINDS = 40


class Skip(Exception):
    """A row cannot become a question. `reason` is counted: few words, the same for all rows of the kind; `detail` is
    shown for the first rows of each reason."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.detail = detail


@dataclass
class LoadReport:
    """Counts of one pass over a source.

    `rows` were looked at, `loaded` became questions, `dropped` counts the others by reason, `notes` counts what was
    corrected or not read in rows that were loaded, `examples` names the first of each reason and note.
    """

    rows: int = 0
    loaded: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    def drop(self, name: str, skip: Skip) -> None:
        self.dropped[skip.reason] += 1
        self._show(skip.reason, f"{name}: {skip.detail}" if skip.detail else name)

    def note(self, name: str, told: str) -> None:
        told = told if told in self.notes or len(self.notes) < KINDS else "something else"
        self.notes[told] += 1
        self._show(told, name)

    def _show(self, about: str, example: str) -> None:
        shown = self.examples.setdefault(about, [])
        if len(shown) < EXAMPLES:
            shown.append(example)

    @property
    def left_out(self) -> str:
        """What was dropped and why, in one line; "" where nothing was."""
        told = "; ".join(f"{n} x {why} ({self.examples[why][0]})" for why, n in self.dropped.most_common())
        return f"{self.dropped.total()} of {self.rows} rows left out: {told}" if told else ""

    @property
    def told(self) -> list[str]:
        """What whoever gave the rows should know, one line each."""
        notes = [f"{n} x {note} ({self.examples[note][0]})" for note, n in self.notes.most_common()]
        return [*filter(None, [self.left_out]), *notes]

    def add(self, other: LoadReport) -> None:
        vars(self).update(vars(self.plus(other)))

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "loaded": self.loaded,
            "dropped": dict(self.dropped.most_common()),
            "examples": self.examples,
            "notes": dict(self.notes.most_common()),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> LoadReport:
        return cls(row["rows"], row["loaded"], Counter(row["dropped"]), dict(row["examples"]), Counter(row["notes"]))

    def plus(self, other: LoadReport) -> LoadReport:
        examples = {
            reason: [*self.examples.get(reason, []), *other.examples.get(reason, [])][:EXAMPLES]
            for reason in {**self.examples, **other.examples}
        }
        return LoadReport(
            self.rows + other.rows,
            self.loaded + other.loaded,
            self.dropped + other.dropped,
            examples,
            self.notes + other.notes,
        )
