"""The text of an HTML element as a reader sees it, a line for each block, with its structure kept.

A row of a table is a line, each cell named by its column's head where the table has one; a definition stands behind
its term; lines of code stay lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from deepmmsearch.reading.document import SPACES

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
BLOCKS = frozenset(
    word
    for line in (
        "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure",
        "footer form frameset h1 h2 h3 h4 h5 h6 header hgroup hr legend li main menu nav noframes noscript ol optgroup",
        "p pre section summary search table tbody td tfoot th thead tr ul",
    )
    for word in line.split()
)
LONGEST_CELL = 300  # characters; a longer one is a column of a layout, whose lines stay lines
LONGEST_LABEL = 60
MAX_SPAN = 100

_APART = ("a", "time", "label", "abbr")  # inline, but two of them side by side are two words
_RAISED = {
    "sup": str.maketrans("0123456789+-−()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾ⁿ"),
    "sub": str.maketrans("0123456789+-−()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₍₎"),
}
_DIGITS = re.compile(r"[+\-−]?\d{1,4}[+\-−]?|n")
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff]")

Rendered = tuple[str, ...]


def lines_of(element: Any) -> list[str]:
    """Its lines, without empty ones."""
    writer = _Writer()
    writer.inside(element)
    return writer.lines()


def heading_of(element: Any) -> str:
    return " ".join(lines_of(element)).replace("\x00", "")


class _Writer:
    """Pieces of text in order; None between two pieces is the end of a line."""

    def __init__(self) -> None:
        self._pieces: list[str | None] = []

    def lines(self) -> list[str]:
        found, line = [], []
        for piece in [*self._pieces, None]:
            if piece is not None:
                line.append(piece)
                continue
            text = _UNSEEN.sub("", "".join(line))
            # a line of code begins with its indentation
            code = text.startswith("\x00")
            text = text.lstrip("\x00").rstrip() if code else SPACES.sub(" ", text.replace("\x00", "")).strip(" |")
            if text.strip(":| "):
                found.append(text)
            line = []
        return found

    def _end_line(self) -> None:
        if self._pieces and self._pieces[-1] is not None:
            self._pieces.append(None)

    def inside(self, element: Any) -> None:
        self._write(element.text)
        for child in element:
            if isinstance(child.tag, str):
                self._element(child)
            self._write(child.tail)

    def _write(self, text: str | None) -> None:
        if text:
            self._pieces.append(text)

    def _element(self, element: Any) -> None:
        tag = element.tag
        if tag in ("br", "hr"):
            self._end_line()
        elif tag == "pre":
            self._code(element)
        elif tag == "table":
            self._table(element)
        elif tag == "dd":
            self._definition(element)
        elif tag in HEADINGS:
            self._lines([heading_of(element)])
        elif tag == "cite" and any(above.tag == "blockquote" for above in islice(element.iterancestors(), 2)):
            self._lines(lines_of(element))  # forums write so whom they quote
        elif tag in BLOCKS:
            self._end_line()
            self.inside(element)
            if tag != "dt":
                self._end_line()
        elif tag in _RAISED:
            self._raised(element)
        else:
            before = element.getprevious()
            if before is not None and not before.tail and tag in _APART and before.tag in _APART:
                self._write(" ")
            self.inside(element)

    def _raised(self, element: Any) -> None:
        text = "".join(element.itertext())
        self._write(text.translate(_RAISED[element.tag]) if _DIGITS.fullmatch(text.strip()) else text)

    def _code(self, element: Any) -> None:
        self._end_line()
        for break_ in list(element.iter("br")):
            break_.tail = "\n" + (break_.tail or "")
        for line in str(element.xpath("string()")).splitlines():
            if line.strip():
                self._pieces += ["\x00" + line.expandtabs(4), None]

    def _definition(self, element: Any) -> None:
        before = element.getprevious()
        lines = lines_of(element)
        if lines and before is not None and before.tag == "dt" and not lines[0].startswith("\x00"):
            # Sphinx writes `Parameters:`
            self._pieces.append(" " if "".join(before.itertext()).rstrip().endswith((":", "：")) else ": ")
        else:
            self._end_line()
        for line in lines:
            self._pieces += [line, None]

    def _table(self, table: Any) -> None:
        self._end_line()
        labels: list[str] = []
        held: dict[int, tuple[int, str]] = {}  # of cells over several rows: rows left, text, by column
        for row in _rows(table):
            if row.tag == "caption":
                self._lines(lines_of(row))
                continue
            cells = [child for child in row if child.tag in ("td", "th")]
            texts = [lines_of(cell) for cell in cells]
            if any(
                (len(text) > 1 and (sum(map(len, text)) > LONGEST_CELL)) or cell.find(".//table") is not None
                for cell, text in zip(cells, texts, strict=True)
            ):
                for text in texts:
                    self._lines(text)
                continue
            placed = _placed(cells, ["; ".join(text) for text in texts], held)
            head = bool(cells) and len(cells) > 1 and all(cell.tag == "th" for cell in cells)
            if head:
                labels = [text if len(text) <= LONGEST_LABEL else "" for _, text, _ in placed]
            self._lines([_row(placed, [] if head else labels)])

    def _lines(self, lines: list[str]) -> None:
        self._end_line()
        for line in lines:
            self._pieces += [line, None]


def _rows(table: Any) -> Iterator[Any]:
    for child in table:
        if child.tag in ("tr", "caption"):
            yield child
        elif child.tag in ("thead", "tbody", "tfoot"):
            yield from (row for row in child if row.tag == "tr")


Cell = tuple[int, str, bool]  # column, text, is a head


def _placed(cells: list[Any], texts: list[str], held: dict[int, tuple[int, str]]) -> list[Cell]:
    """With the heads that reach down from rows above."""
    placed: list[Cell] = []
    column = 0
    waiting = iter(zip(cells, texts, strict=True))
    fresh: dict[int, tuple[int, str]] = {}
    while True:
        if column in held:
            left, text = held.pop(column)
            placed.append((column, text, True))
            if left > 1:
                fresh[column] = (left - 1, text)
            column += 1
            continue
        if (found := next(waiting, None)) is None:
            break
        cell, text = found
        placed.append((column, text, cell.tag == "th"))
        rows = _span(cell, "rowspan")
        if rows > 1 and (cell.tag == "th" or column == 0):
            fresh[column] = (rows - 1, text)
        column += _span(cell, "colspan")
    held.clear()
    held.update(fresh)
    return placed


def _span(cell: Any, name: str) -> int:
    value = (cell.get(name) or "").strip()
    return min(int(value), MAX_SPAN) if value.isascii() and value.isdecimal() and value != "0" else 1


def _row(cells: list[Cell], labels: list[str]) -> str:
    told = [(column, text, head) for column, text, head in cells if text]
    if labels:
        named = []
        for column, text, head in told:
            label = labels[column] if column < len(labels) and not head else ""
            named.append(f"{label}: {text}" if label and label != text else text)
        return " | ".join(named)
    if len(told) == 2 or (told and told[0][2] and not any(head for *_, head in told[1:])):
        return f"{told[0][1]}: " + " | ".join(text for _, text, _ in told[1:]) if len(told) > 1 else told[0][1]
    return " | ".join(text for _, text, _ in told)
