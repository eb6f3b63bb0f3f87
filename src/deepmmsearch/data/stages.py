"""The folders of a build: one a stage, its parts and their counts, and what it was made with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepmmsearch.data.load_report import EXAMPLES
from deepmmsearch.data.records import read_rows, write_rows
from deepmmsearch.data.tables import Row, read_json
from deepmmsearch.errors import UserError
from deepmmsearch.files import write_json

MARK = "stage.json"


@dataclass
class Counts:
    """Rows that came in, those that stayed, why the others did not, what it cost (dollars) and took (seconds).
    `pending`: of the others, those that are tried again at the next start."""

    rows: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0
    seconds: float = 0.0
    pending: int = 0

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
        counters = {"dropped": dict(self.dropped.most_common()), "notes": dict(self.notes.most_common())}
        return {**vars(self), **counters}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Counts:
        return cls(**{**row, "dropped": Counter(row["dropped"]), "notes": Counter(row["notes"])})

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

    def has(self, part: str) -> bool:
        return self.counts_file(part).is_file()

    def forget(self, part: str) -> None:
        """It is to be made again, of what its journal holds and what is missing there."""
        self.counts_file(part).unlink(missing_ok=True)

    def finish(self, part: str, rows: Iterable[Row], counts: Counts) -> None:
        counts.kept = write_rows(rows, self.rows_file(part))
        write_json(self.counts_file(part), counts.to_dict(), durable=True)

    def read(self, part: str) -> Iterator[Row]:
        return read_rows(self.rows_file(part))

    def parts(self) -> list[str]:
        return sorted(p.stem for p in self.folder.glob("*.json") if p.name != MARK)

    def counts(self, parts: Iterable[str] | None = None) -> Counts:
        """The sum over these parts, of those that are finished; None is all."""
        total = Counts()
        for part in self.parts() if parts is None else filter(self.has, parts):
            total = total.plus(Counts.from_dict(read_json(self.counts_file(part))))
        return total

    def claim(self, settings: Mapping[str, Any], before: str, *, cheap: bool = False) -> str:
        """The key of what this stage is made with: its settings and those of the stages before.

        A folder made with another key is removed where the stage costs nothing (`cheap`), else UserError says what
        differs.
        """
        plain = json.loads(json.dumps(settings, default=str, sort_keys=True))
        key = hashlib.sha256(json.dumps([self.name, plain, before]).encode()).hexdigest()[:16]
        mark = self.folder / MARK
        if mark.is_file():
            found = read_json(mark)
            if found.get("key") == key:
                return key
            if not cheap:
                raise UserError(_explain(self.folder, found.get("settings", {}), plain))
        if cheap and self.folder.exists():
            shutil.rmtree(self.folder)
        write_json(mark, {"key": key, "settings": plain}, durable=True)
        return key


def _explain(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    changed = sorted(name for name in {**old, **new} if old.get(name) != new.get(name))
    what = f"with other settings ({', '.join(changed)})" if changed else "from other data of the stage before"
    return (
        f"{folder} was made {what}. Give another output, or remove {folder} and what comes after it to make it again."
    )
