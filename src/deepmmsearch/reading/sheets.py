"""Tables: workbooks and values that are separated by a sign. Each row is a line with the names of its columns, so that
it says by itself what it says: `Country: Veld; Capital: Oru`."""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.charset import decode
from deepmmsearch.reading.composition import Composition
from deepmmsearch.reading.document import Document, Origin, clean
from deepmmsearch.reading.zipped import Zipped, encrypted

_SEPARATORS = ",;\t|"
_NUMBERED = re.compile(r"[^\W\d_]{1,12}\s?\d{1,3}")
"""A sheet that nobody named: Sheet1, Tabelle 2."""
_ABOVE = 10
"""Rows in which the names of the columns are looked for."""
_WIDEST = 1_000


def from_workbook(origin: Origin, content: bytes) -> Document:
    """XLSX, XLSM, XLSB, XLS and ODS: a part for each sheet. Raises Unreadable, MissingExtra."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError:
        raise MissingExtra("Reading spreadsheets", "documents") from None
    if content.startswith(b"PK"):
        _bounded(content)
    elif encrypted(content):
        raise Unreadable("an encrypted spreadsheet")
    text = Composition(origin.longest)
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(content))
        for name in workbook.sheet_names:
            text.mark(f"sheet={quote(name)}")
            _add(text, "" if _NUMBERED.fullmatch(name) else name, _sheet(workbook, name))
            if text.full:
                break
    except BaseException as error:
        # its panics are no Exceptions
        if not isinstance(error, CalamineError | ValueError | OSError) and type(error).__name__ != "PanicException":
            raise
        locked = re.search("password|encrypt", str(error), re.I)
        raise Unreadable(f"{'an encrypted' if locked else 'a damaged'} spreadsheet") from None
    return text.document(origin.name)


def _bounded(content: bytes) -> None:
    """Raises Unreadable for what would unpack to more than a reader of documents may."""
    archive = Zipped(content, "spreadsheet")
    if archive.size > 1_000_000_000:
        raise Unreadable("a spreadsheet that unpacks to too much")


def _sheet(workbook: Any, name: str) -> list[list[Any]]:
    from python_calamine import CalamineError

    try:
        return list(workbook.get_sheet_by_name(name).to_python(skip_empty_area=True))
    except CalamineError:  # a sheet of charts, or one that is damaged: the others may be sound
        return []


def from_separated(origin: Origin, content: bytes) -> Document:
    """CSV and TSV. Raises Unreadable."""
    written = decode(content, origin.charset).text.lstrip("\ufeff")
    separator = max(_SEPARATORS, key=lambda sign: _regular(written[:20_000], sign))
    text = Composition(origin.longest)
    try:
        _add(text, "", csv.reader(io.StringIO(written, newline=""), delimiter=separator))
    except csv.Error:
        raise Unreadable("not a table of values") from None
    return text.document(origin.name)


def _regular(sample: str, separator: str) -> tuple[float, int]:
    """How many of the rows are equally wide with this separator, and how wide."""
    rows = csv.reader(io.StringIO(sample, newline=""), delimiter=separator)
    try:
        widths = Counter(len(row) for row in islice(rows, 50) if row)
    except csv.Error:
        return 0.0, 0
    wide = {width: times for width, times in widths.items() if width > 1}
    if not wide:
        return 0.0, 0
    width = max(wide, key=lambda each: (wide[each], each))
    return wide[width] / widths.total(), width


def _add(text: Composition, name: str, rows: Iterable[Sequence[Any]]) -> None:
    waiting = iter(rows)
    above: list[list[str]] = []
    for row in waiting:
        above.append([shown(cell) for cell in row[:_WIDEST]])
        if len(above) == _ABOVE:
            break
    if name and any(map(any, above)):
        text.head(name)
    start = next((number for number, row in enumerate(above) if _names(row, above[number + 1 :])), None)
    names = above[start] if start is not None else []
    for number, cells in enumerate(above):
        if number != start:
            text.add(_line(names if start is not None and number > start else [], cells))
    for row in waiting:
        text.add(_line(names, [shown(cell) for cell in row[:_WIDEST]]))
        if text.full:
            return
    if start is not None and len(above) == 1:
        text.add(_line([], names))


def _names(row: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Are these the names of columns? Words, each another one, for nearly all columns that are filled below."""
    words = [cell for cell in row if cell]
    width = max((sum(map(bool, other)) for other in below), default=0)
    told = [cell for cell in words if any(sign.isalpha() for sign in cell) and len(cell) <= 100]
    return len(words) >= 2 and len(told) == len(words) == len(set(words)) and 4 * len(words) >= 3 * width


def _line(names: Sequence[str], cells: Sequence[str]) -> str:
    named = [*names, *([""] * (len(cells) - len(names)))]
    parts = (f"{name}: {cell}" if name else cell for name, cell in zip(named, cells, strict=False) if cell)
    return "; ".join(parts)


def shown(value: Any) -> str:
    """A cell as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.12g}"
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return clean(str(value)) if value is not None else ""
