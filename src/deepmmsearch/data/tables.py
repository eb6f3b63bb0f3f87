"""Rows of files as they are published: JSON, JSON Lines, CSV, TSV, Parquet, and data sets on the Hugging Face Hub."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import sys
from bisect import bisect_right
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from deepmmsearch.data.load_report import Skip
from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.files import lies_in
from deepmmsearch.notation import parse_json, without_halves

Row = Mapping[str, Any]
R = TypeVar("R", bound=Row)
BROKEN = "\0"
"""The one name in a row that could not be read; its value says why."""
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".pq")
WIDE = 100
"""Columns above which a row with less than half of them is no row of the table."""
_SEPARATORS = (",", ";", "\t", "|")
# what Excel reads as an order, above the header
_SEPARATOR = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_START = 4096
_SAMPLED = 65_536


class Rows(Protocol):
    """Rows by number; those of big files are read when they are asked for, cheapest in ascending order."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Row: ...


@dataclass(frozen=True)
class LocalRows:
    """What was found on the disk: the rows, and the folders in which their pictures are looked for."""

    rows: Rows
    folders: tuple[Path, ...] = ()


def whole_row(row: Row) -> Row:
    """The row. Raises Skip for one that could not be read."""
    if BROKEN in row:
        raise Skip("row that cannot be read", str(row[BROKEN]))
    return row


def refuse_link_out(path: Path, folder: Path) -> Path:
    """The path; UserError for a link that leads out of a folder that somebody else may have made."""
    if path.exists() and not lies_in(path, folder):
        raise UserError(f"{path} is a link out of {folder}, which is not followed. Give the file itself.")
    return path


def read_table(path: Path) -> Rows:
    """The rows of one file, or of all Parquet files of a folder, in the order of their names. A row that cannot be read
    is BROKEN (`whole_row`).

    Raises UserError for a file that is missing, of no known kind, or holds nothing that can be read.
    """
    if path.is_dir():
        files = [refuse_link_out(file, path) for file in sorted(path.rglob("*.parquet"))]
        if not files:
            raise UserError(f"There are no Parquet files in {path}. Name the file to read.")
        return ParquetRows(files)
    if not path.is_file():
        raise UserError(f"There is no file {path}. Give the path of the data.")
    match path.suffix.lower():
        case ".parquet" | ".pq":
            return ParquetRows([path])
        case ".jsonl":
            return read_json_lines(path)
        case ".json":
            return _json_rows(path)
        case ".csv" | ".tsv":
            return _delimited(path)
    raise UserError(f"{path} is of no kind read here. Expected one of {', '.join(SUFFIXES)}.")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Raises UserError where no line can be read."""
    with path.open("rb") as lines:
        start = lines.read(_START)
        lines.seek(0)
        wide = _wide(start) is not None
        return _any_whole(path, _objects(read_text(path).encode().splitlines() if wide else lines))


def _objects(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        try:
            rows.append(_object(_text_of(raw)))
        except UnicodeDecodeError as error:
            rows.append({BROKEN: f"line {number} is not UTF-8 (byte {error.start} of it). Save the file as UTF-8"})
        except ValueError as error:
            rows.append({BROKEN: f"line {number} is not {error}"})
    return rows


def _object(text: str) -> dict[str, Any]:
    """Raises ValueError, which says what it is not."""
    try:
        found = parse_json(text)
    except ValueError as error:
        raise ValueError(f"JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"an object but a {type(found).__name__}. Expected {{...}}")
    return _writable(found)


def _writable(value: Any) -> Any:
    """The JSON value with texts that a file can hold."""
    text = json.dumps(value, ensure_ascii=False)
    whole = without_halves(text)
    return value if whole == text else json.loads(whole)


def _any_whole(path: Path, rows: list[R]) -> list[R]:
    if rows and all(BROKEN in row for row in rows):
        raise UserError(f"{path}, {rows[0][BROKEN]}.")
    return rows


def _text_of(content: bytes) -> str:
    """Raises ValueError unless it is UTF-8, UTF-16 or UTF-32, with or without its mark."""
    return content.decode(_wide(content[:_START]) or "utf-8-sig")


def _wide(start: bytes) -> str | None:
    """The encoding of two or four bytes a letter that a file begins in, by its mark or by where its zeros stand."""
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
    marks |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    marked = next((name for mark, name in marks.items() if start.startswith(mark)), None)
    first, second = start[::2].count(0), start[1::2].count(0)
    if marked or 8 * (first + second) < len(start):
        return marked
    return "utf-16-le" if first * 4 < second else "utf-16-be" if second * 4 < first else None


def read_text(path: Path) -> str:
    """Raises UserError."""
    try:
        return _text_of(path.read_bytes())
    except UnicodeDecodeError as error:
        told = f"{error.encoding.upper()} (byte {error.start})"
        raise UserError(f"{path} is not {told}. Save it as UTF-8 (in Excel: CSV UTF-8).") from None
    except OSError:
        raise UserError(f"There is no file {path}. Give the path of the data.") from None


def read_json(path: Path) -> Any:
    """Raises UserError when the file is missing or not JSON."""
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from None


def _json_rows(path: Path) -> list[dict[str, Any]]:
    """A list of objects, or an object that holds one such list (`data`, `questions`, `annotations`, `samples`); or one
    object a line."""
    try:
        found = _writable(read_json(path))
    except UserError:
        lines = _objects(read_text(path).encode().splitlines())
        if len(lines) < 2 or BROKEN in lines[0]:
            raise
        return lines
    if isinstance(found, dict):
        lists = [found[key] for key in ("data", "questions", "annotations", "samples") if key in found]
        # whatever it is called, where it is the only one
        single = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if lists else single[0] if len(single) == 1 else found
    if isinstance(found, dict) and all(isinstance(value, dict) for value in found.values()):
        found = [{"id": key, **value} for key, value in found.items()]
    if not isinstance(found, list) or (found and not any(isinstance(row, dict) for row in found)):
        raise UserError(f"{path} holds no list of objects. Expected [{{...}}, ...].")
    return [row if isinstance(row, dict) else {BROKEN: f"it is a {type(row).__name__}"} for row in found]


def _delimited(path: Path) -> list[Row]:
    # pictures in base64 (MMBench) are longer than Python's default bound of a field
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    text = read_text(path)
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    if told := _SEPARATOR.match(text):
        separator, text = told[1], text[told.end() :]
    else:
        separator = max((separator, *_SEPARATORS), key=partial(_fits, text[:_SAMPLED]))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names: list[str] | None = None
    rows: list[Row] = []
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return _any_whole(path, rows)
        except csv.Error as error:
            rows.append({BROKEN: f"line {reader.line_num} cannot be read: {error}"})
            continue
        if names is None:
            names = distinct(cells)
            blank: dict[str, Any] = dict.fromkeys(names)
        elif len(cells) > len(names) and any(cells[len(names) :]):
            found = f"line {reader.line_num} has {len(cells)} cells, but the header {len(names)}"
            rows.append({BROKEN: f"{found}. Quote texts with {separator!r} in them"})
        elif len(names) > WIDE and 0 < len(cells) < len(names) / 2:
            rows.append({BROKEN: f"line {reader.line_num} has {len(cells)} cells, but the header {len(names)}"})
        elif cells:
            own: dict[str, Any] = dict(zip(names, cells, strict=False))
            # what a short row lacks is kept once for all of them: a file of 1 MB would fill the memory
            rows.append(own if len(own) == len(names) else ChainMap(own, blank))


def _fits(text: str, separator: str) -> tuple[float, int]:
    """How many of the first rows have as many cells as the header, if that has several; and how many."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        widths = [len(row) for row in islice(filter(None, reader), 20)]
    except csv.Error:
        return 0.0, 0
    # where the text is cut, so may be its last row
    rows = widths[1:-1] if len(text) == _SAMPLED and len(widths) > 2 else widths[1:]
    columns = widths[0] if widths else 0
    return (0.0 if columns < 2 else (1 + rows.count(columns)) / (1 + len(rows))), columns


def distinct(names: Sequence[str]) -> list[str]:
    """Columns of the same name are numbered, so that none hides another."""
    found: dict[str, None] = {}
    numbers: dict[str, int] = {}
    for name in names:
        number, free = numbers.get(name, 1), name
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found[free], numbers[name] = None, number
    return list(found)


class ParquetRows:
    """Parquet files as one list of rows; a row group is read when one of its rows is asked for, and the last two are
    kept. Raises UserError for files that are no Parquet."""

    def __init__(self, files: Sequence[Path]) -> None:
        parquet = pyarrow_parquet()
        self._groups: list[tuple[Any, int]] = []
        self.columns: tuple[str, ...] = ()
        counts = []
        for path in files:
            try:
                file = parquet.ParquetFile(path)
            except Exception as error:
                raise UserError(f"{path} is no Parquet file: {' '.join(str(error).split())}") from None
            self.columns = tuple(file.schema_arrow.names)
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
        try:
            row: Row = self._read(group).slice(index - self._starts[group], 1).to_pylist()[0]
        except Exception as error:  # of a damaged file, pyarrow raises nearly anything
            return {BROKEN: f"row {index + 1} cannot be read ({' '.join(str(error).split())[:120]})"}
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
        row = self._rows[self._numbers[index]]
        return row if BROKEN in row else self._change(row)


def hub_rows(repository: str, config: str | None, split: str) -> Rows:
    """A data set on the Hub (or a local copy of its folder) through the `datasets` library, pictures undecoded.

    Raises UserError when it cannot be had: unknown, gated, or no network.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtra("Reading data sets from the Hub", "data") from error
    try:
        found = _load_split(datasets, repository, config, split)
    # one border: the library raises a dozen kinds, from its own to those of its HTTP client
    except Exception as error:
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{repository} cannot be loaded from the Hugging Face Hub ({cause}). Log in where it is gated, "
            "or download its files and give their folder."
        ) from None
    return _HubRows(found.with_format("arrow"))


@dataclass(frozen=True)
class _HubRows:
    """As they are kept: otherwise the library decodes the pictures, here and with whatever Pillow knows."""

    table: Any

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int, /) -> Row:
        row: Row = self.table[index].to_pylist()[0]
        return row


def _load_split(datasets: Any, repository: str, config: str | None, split: str) -> Any:
    """Where there is but one split, it is the one that is meant, whatever it is called."""
    try:
        return datasets.load_dataset(repository, config, split=split)
    except ValueError as error:
        if "split" not in str(error):
            raise
        every = datasets.load_dataset(repository, config)
        if len(every) != 1:
            raise
        return next(iter(every.values()))


def pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("Reading Parquet files", "data") from error
    return parquet
