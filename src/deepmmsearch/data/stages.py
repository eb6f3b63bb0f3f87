"""The folders of a build: one a stage, its parts and their counts, and what it was made with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepmmsearch.codec import PLAIN, no_picture
from deepmmsearch.data.load_report import EXAMPLES
from deepmmsearch.data.records import read_rows, write_rows
from deepmmsearch.data.tables import Row, read_json
from deepmmsearch.files import write_json
from deepmmsearch.outputs import Output, content
from deepmmsearch.progress import Step, Watch

COMMAND = "data build"
STAGES = ("1-seeds", "2-episodes", "3-correct", "4-labelled", "5-search", "6-unique", "7-balanced")
PLAYED = 5
"""So many of them work on a shard by itself; those after them look at all shards."""
RECIPE = "recipe.yaml"
"""What a build was made with, as a recipe, without secrets."""
ERROR = "error: "
SHARD = re.compile(r"part-\d{5,}|world-\d+")
"""How the sources of seeds call them."""


@dataclass
class Counts:
    """Rows that came in, those that stayed, why the others did not, what it cost (dollars) and took (seconds).
    `pending`: of the others, those that are tried again at the next start. `retries`: how often an episode, a verdict
    or a label was tried again; `recovered`: rows for which that helped."""

    rows: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0
    seconds: float = 0.0
    pending: int = 0
    retries: int = 0
    recovered: int = 0

    def tried(self, times: int, failed: bool) -> None:
        self.retries += max(0, times - 1)
        self.recovered += times > 1 and not failed

    @property
    def spoiled(self) -> int:
        """Rows whose episode ended in an error."""
        return sum(count for reason, count in self.dropped.items() if reason.startswith(ERROR))

    def postpone(self, error: str, name: str) -> None:
        """For the next start: a judge or a model failed, not the row."""
        self.pending += 1
        self.drop(f"left for the next start: {error.partition(': ')[0][:60]}", name)

    def drop(self, reason: str, name: str) -> None:
        self.dropped[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append(name)

    def to_dict(self) -> dict[str, Any]:
        """The most frequent first."""
        row: dict[str, Any] = PLAIN.encode(self, no_picture)
        return row | {name: dict(getattr(self, name).most_common()) for name in ("dropped", "notes")}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Counts:
        """Raises UserError for what another version counted."""
        counts: Counts = PLAIN.decode(row, cls, no_picture)
        return counts

    def plus(self, other: Counts) -> Counts:
        examples = {
            reason: [*self.examples.get(reason, []), *other.examples.get(reason, [])][:EXAMPLES]
            for reason in {**self.examples, **other.examples}
        }
        return Counts(
            self.rows + other.rows,
            self.kept + other.kept,
            self.dropped + other.dropped,
            examples,
            self.notes + other.notes,
            self.cost + other.cost,
            self.seconds + other.seconds,
            self.pending + other.pending,
            self.retries + other.retries,
            self.recovered + other.recovered,
        )


@dataclass(frozen=True)
class Stage:
    """One stage's folder. A part is finished when its counts are there; the Parquet file is written before them."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def rows_file(self, part: str) -> Path:
        return self.folder / f"{part}.parquet"

    def counts_file(self, part: str) -> Path:
        return self.folder / f"{part}.json"

    def journal_file(self, part: str) -> Path:
        return self.folder / "journal" / f"{part}.jsonl"

    def journal_store(self, part: str) -> Path:
        """Where the journal is of trajectories."""
        return self.folder / "journal" / part

    def has(self, part: str) -> bool:
        return self.counts_file(part).is_file()

    def forget(self, part: str) -> None:
        """It is to be made again, of what its journal holds and what is missing there."""
        self.counts_file(part).unlink(missing_ok=True)

    def finish(self, part: str, rows: Iterable[Row], counts: Counts) -> None:
        counts.kept = write_rows(rows, self.rows_file(part), private=True)
        write_json(self.counts_file(part), counts.to_dict(), durable=True, private=True)

    def read(self, part: str) -> Iterator[Row]:
        return read_rows(self.rows_file(part))

    def parts(self) -> list[str]:
        named = (path.stem for path in self.folder.glob("*.json") if SHARD.fullmatch(path.stem))
        return sorted(part for part in named if self.rows_file(part).is_file())

    def counts(self, parts: Iterable[str] | None = None) -> Counts:
        """The sum over these parts, of those that are finished; None is all."""
        total = Counts()
        for part in self.parts() if parts is None else filter(self.has, parts):
            total = total.plus(Counts.from_dict(read_json(self.counts_file(part))))
        return total

    def claim(self, settings: Mapping[str, Any], before: str, *, cheap: bool = False) -> str:
        """Takes the folder for what this stage is made with: its settings and the stage `before`, by its id. Gives its
        own.

        Rows that were made with others are removed where the stage costs nothing (`cheap`), else UserError says what
        differs.
        """
        output = Output(self.folder, COMMAND, private=True)
        made_with = {**settings, "before": content("the stage before", before)}
        # how often something is tried once counted as a setting
        output.claim(made_with, clear=self._clear if cheap else None, spare=("attempts",))
        return output.id

    def _clear(self) -> None:
        for part in self.parts():
            self.counts_file(part).unlink()
            self.rows_file(part).unlink()


def stages_of(output: Path) -> list[Stage]:
    """All of a build, in their order."""
    return [Stage(output / name) for name in STAGES]


def summaries(output: Path, shards: Sequence[str]) -> list[dict[str, Any]]:
    """What a card tells of each stage."""
    counted = [(stage.name, stage.counts(shards)) for stage in stages_of(output)]
    return [
        {"stage": name, **c.to_dict(), "seconds": round(c.seconds, 1), "cost": round(c.cost, 6)} for name, c in counted
    ]


def tell(watch: Watch, stage: Stage, done: int, kept: int, total: int | None, cost: float) -> None:
    share = f"kept {kept / done:.0%}" if done else ""
    money = f"${cost:,.2f}" if cost else ""
    watch(Step(stage.name, done, total, ", ".join(filter(None, (share, money)))))
