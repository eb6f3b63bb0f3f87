"""Rows of files as they are published: JSON, JSON Lines, CSV, TSV, Parquet, and data sets on the Hugging Face Hub."""

from __future__ import annotations

import csv
import json
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from deepmmsearch.errors import MissingExtra, UserError

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".pq")


class Rows(Protocol):
    """Rows by number; those of big files are read when they are asked for, cheapest in ascending order."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Row: ...


@dataclass(frozen=True)
class Local:
    """What was found on the disk: the rows, and the folders in which their pictures are looked for."""

    rows: Rows
    folders: tuple[Path, ...] = ()


def read_table(path: Path) -> Rows:
    """The rows of one file, or of all Parquet files of a folder, in the order of their names.

    Raises UserError for a file that is missing, broken or of no known kind.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.parquet"))
        if not files:
            raise UserError(f"There are no Parquet files in {path}. Name the file to read.")
        return ParquetRows(files)
    if not path.is_file():
        raise UserError(f"There is no file {path}. Give the path of the data.")
    match path.suffix.lower():
        case ".parquet" | ".pq":
            return ParquetRows([path])
        case ".jsonl":
            return list(read_json_lines(path))
        case ".json":
            return _json_rows(path)
        case ".csv" | ".tsv":
            return list(_delimited(path))
    raise UserError(f"{path} is of no kind read here. Expected one of {', '.join(SUFFIXES)}.")


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}, line {number} is not JSON: {error}.") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number} is a {type(row).__name__}, not an object. Expected {{...}}.")
            yield row


def read_json(path: Path) -> Any:
    """Raises UserError when the file is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError:
        raise UserError(f"There is no file {path}. Give the path of the data.") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from None


def _json_rows(path: Path) -> list[dict[str, Any]]:
    """A list of objects, or an object that holds one such list (`data`, `questions`, `annotations`, `samples`)."""
    found = read_json(path)
    if isinstance(found, dict):
        lists = [found[key] for key in ("data", "questions", "annotations", "samples") if key in found]
        found = lists[0] if lists else found
    if isinstance(found, dict) and all(isinstance(value, dict) for value in found.values()):
        found = [{"id": key, **value} for key, value in found.items()]
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise UserError(f"{path} holds no list of objects. Expected [{{...}}, ...].")
    return found


def _delimited(path: Path) -> Iterator[dict[str, Any]]:
    # pictures in base64 (MMBench) are longer than Python's default bound of a field
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            for row in reader:
                yield {name: value for name, value in row.items() if name is not None}
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num} cannot be read: {error}.") from None


class ParquetRows:
    """Parquet files as one list of rows; a row group is read when one of its rows is asked for, and the last two are
    kept. Raises UserError for files that are no Parquet."""

    def __init__(self, files: Sequence[Path]) -> None:
        parquet = pyarrow_parquet()
        self._groups: list[tuple[Any, int]] = []
        counts = []
        for path in files:
            try:
                file = parquet.ParquetFile(path)
            except Exception as error:
                raise UserError(f"{path} is no Parquet file: {' '.join(str(error).split())}") from None
            for number in range(file.num_row_groups):
                self._groups.append((file, number))
                counts.append(file.metadata.row_group(number).num_rows)
        self._starts = [0, *accumulate(counts)]
        self._read = lru_cache(maxsize=2)(self._read_group)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int, /) -> Row:
        if not 0 <= index < len(self):
            raise IndexError(index)
        group = bisect_right(self._starts, index) - 1
        row: Row = self._read(group).slice(index - self._starts[group], 1).to_pylist()[0]
        return row

    def _read_group(self, group: int) -> Any:
        file, number = self._groups[group]
        return file.read_row_group(number)


class MappedRows:
    """Rows with something done to each when it is asked for."""

    def __init__(self, rows: Rows, numbers: Iterable[int], change: Callable[[Row], Row]) -> None:
        self._rows, self._numbers, self._change = rows, list(numbers), change

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int, /) -> Row:
        return self._change(self._rows[self._numbers[index]])


def hub_rows(repository: str, config: str | None, split: str) -> Rows:
    """A data set on the Hub (or a local copy of its folder) through the `datasets` library, pictures undecoded.

    Raises UserError when it cannot be had: unknown, gated, or no network.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtra("Reading data sets from the Hub", "data") from error
    try:
        found = datasets.load_dataset(repository, config, split=split)
    # one border: the library raises a dozen kinds, from its own to those of its HTTP client
    except Exception as error:
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{repository} cannot be loaded from the Hugging Face Hub ({cause}). Log in where it is gated, "
            "or download its files and give their folder."
        ) from None
    for name, feature in found.features.items():
        if isinstance(feature, datasets.Image):
            found = found.cast_column(name, datasets.Image(decode=False))
    rows: Rows = found
    return rows


def pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("Reading Parquet files", "data") from error
    return parquet
