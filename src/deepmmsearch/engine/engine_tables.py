"""What an index needs of an engine that exists: tables whose rows are found by exact values, by words, by vectors.

An engine knows nothing of our analysis of text, so it is given terms that are parted by blanks. Everything else of
an index (what a page is, how it is ranked, who may write) is the same for all of them: table_store.py, table_writer.py.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from deepmmsearch.errors import Failed, UserError
from deepmmsearch.redaction import without_secrets

Row = dict[str, Any]
Kind = Literal["key", "number", "list", "text", "bytes", "terms", "vector"]
"""key, number and list are filtered by; text and bytes only kept; terms ranked by BM25; vector by cosine."""

MOST_BYTES = 32_000_000
"""Of what was compressed."""
NAME = re.compile(r"[a-z][a-z_]{0,30}")
SUFFIX = ".lance"


class Is(NamedTuple):
    """The column has one of the values."""

    column: str
    values: Sequence[str | int]


class Has(NamedTuple):
    """The list in the column has one of the values."""

    column: str
    values: Sequence[str]


class Between(NamedTuple):
    """From `low` on, and before `high`."""

    column: str
    low: str | int
    high: str | int


class NotAll(NamedTuple):
    """One of the conditions at least does not hold."""

    conditions: Sequence[Condition]


Condition = Is | Has | Between | NotAll
Where = Sequence[Condition]
"""All of them hold."""

Weights = Mapping[str, Mapping[str, float]]
"""Of each column of terms the terms that are asked for, and how much each counts."""


@dataclass(frozen=True)
class TableShape:
    """A table's name, its columns, and of columns of vectors how long those are."""

    name: str
    columns: Mapping[str, Kind]
    lengths: Mapping[str, int]


class TermStatistics(Protocol):
    """What BM25 needs to know of all passages; for engines that do not know it themselves."""

    def idf(self, column: str, term: str) -> float: ...

    def mean_length(self, column: str) -> float: ...


class TableEngine(Protocol):
    """The tables of one index. Every name in a condition is quoted, whatever it is made of.

    Rows have an `id`. What other processes change is seen from the next `TableRows.renewed` on at the latest. Several
    changes are not one: table_writer.py says what follows. Raises Failed where the engine cannot be reached or refuses.
    """

    address: str
    """Without what is secret."""
    folder: Path | None
    """Where the tables lie, if that is a disk of this machine; each in a folder whose name ends with SUFFIX."""

    def exists(self, name: str) -> bool: ...

    def create(self, table: TableShape) -> None:
        """One that may exist already."""

    def open(self, table: TableShape, statistics: TermStatistics) -> TableRows: ...

    def drop(self, name: str) -> None: ...

    def bytes(self) -> int | None:
        """On disk, where that can be told."""

    def intact(self) -> AbstractContextManager[None]:
        """A border: what the engine raises is a UserError or Failed here."""

    def close(self) -> None: ...


class TableRows(Protocol):
    """The rows of one table."""

    def renewed(self) -> bool:
        """Takes in what was changed since the last time; whether something may have been."""

    def add(self, rows: Sequence[Row]) -> None:
        """Rows that the table does not have."""

    def replace(self, rows: Sequence[Row]) -> None:
        """In place of those with the same ids, if there are any."""

    def delete(self, where: Where) -> None: ...

    def claim(self, identity: str, column: str, old: str, new: str) -> bool:
        """Changes a value if it is still the old one; gives whether it was."""

    def find(self, where: Where, columns: Sequence[str], limit: int | None = None) -> list[Row]: ...

    def count(self, where: Where) -> int: ...

    def rank(self, weights: Weights, limit: int, columns: Sequence[str], where: Where = ()) -> list[tuple[float, Row]]:
        """By BM25, the best first; rows that have none of the terms are not among them."""

    def nearest(
        self, column: str, vector: np.ndarray, limit: int, columns: Sequence[str], where: Where = ()
    ) -> list[tuple[float, Row]]:
        """By the cosine, the nearest first."""

    def compact(self) -> bool:
        """Brings many small files together, and what was added since the last time into the engine's own indexes, where
        that is worth it; whether it was."""


@dataclass(frozen=True)
class ConditionDialect:
    """How an engine writes conditions: a string as `quoted` gives it, whether a list has one of some strings (`has`),
    the brackets of the values of which a column has one (`among`)."""

    quoted: Callable[[str], str]
    has: str
    among: str

    def written(self, where: Where) -> str:
        return " and ".join(map(self._condition, where))

    def _condition(self, condition: Condition) -> str:
        match condition:
            case Is(column, values) if values:
                return f"{_named(column)} in {self._among(self._listed(values))}"
            case Has(column, values) if values:
                return f"{self.has}({_named(column)}, [{self._listed(values)}])"
            case Between(column, low, high):
                return f"({_named(column)} >= {self._value(low)} and {_named(column)} < {self._value(high)})"
            case NotAll(conditions) if conditions:
                return f"(not ({self.written(conditions)}))"
        return f"id in {self._among(self.quoted(''))}"  # of nothing: no row has an empty id

    def _among(self, listed: str) -> str:
        return f"{self.among[0]}{listed}{self.among[1]}"

    def _listed(self, values: Sequence[str | int]) -> str:
        return ", ".join(map(self._value, values))

    def _value(self, value: str | int) -> str:
        return self.quoted(value) if isinstance(value, str) else str(int(value))


def _named(column: str) -> str:
    if not NAME.fullmatch(column):
        raise ValueError(f"{column!r} is not the name of a column")
    return column


def unzipped(content: bytes) -> bytes:
    """At most MOST_BYTES: a few bytes may unpack to gigabytes. ValueError for what is no such thing."""
    try:
        return zlib.decompressobj().decompress(content, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"not compressed as it should be: {error}") from error


def batches(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


_REASONS = re.compile(
    r'<Message>([^<]{1,200})</Message>|message: \\?"([^"\\]{1,200})|(Failed to get \w{1,20} credentials)'
    r"|message=([^<>]{1,200}?)\)?>"
)
"""Where the servers of object storage, the system and Milvus say what is wrong, among what their clients tell."""


@contextmanager
def told_of(engine: str, address: str, hint: str = "") -> Iterator[None]:
    """What an engine raises, in a sentence; `hint` follows it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # nearly anything, over an index that was damaged or made up
        found = _REASONS.search(str(error))
        said = found[found.lastindex or 0] if found else (str(error).splitlines() or [type(error).__name__])[0][:200]
        told = without_secrets(said.strip().rstrip("."))
        raise Failed(f"The index at {address} cannot be used: {engine} says: {told}.{hint}") from error
