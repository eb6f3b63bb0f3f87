"""Pieces of text on a page, by where they stand -> paragraphs in reading order.

Columns are found by the white strip between them: what stands on either side of it is read one after the other if both
sides are filled like prose, else row by row like a table; what crosses it comes between. Coordinates are in points, y
upwards, the text running to the right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

_BINS = 240
_MIDDLE = range(_BINS // 8, _BINS - _BINS // 8)
_MOST_CROSSING, _FEWEST_ROWS = 0.75, 3
_FILLED = 0.55
"""A column of prose has half its rows at least this long, of the column's width; cells of a table are shorter."""
_SHORTEST_CELL = 12
_DEEPEST = 4
_ITEM = re.compile(r"[•‣▪●◦–—*·]\s|\(?(\d{1,3}|[a-z]|[ivx]{1,4})[.)]\s|\[\d{1,3}\]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufefc]")
SENTENCE_END = tuple(".!?:;…。！？")


class Piece(NamedTuple):
    """Text on one line, without a gap as wide as one between columns. `split`: it ends within a word, by a hyphen that
    is not in the text. `cells`: pieces that it was joined of, side by side."""

    left: float
    bottom: float
    right: float
    top: float
    text: str
    split: bool = False
    cells: int = 1

    @property
    def height(self) -> float:
        return max(self.top - self.bottom, 0.1)


class Paragraph(NamedTuple):
    """`height` of its letters; `top` and `bottom` of all of it."""

    text: str
    height: float
    left: float
    bottom: float
    right: float
    top: float


def rows(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces that stand side by side joined, from top to bottom."""
    found: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda p: -(p.top + p.bottom)):
        middle = (piece.top + piece.bottom) / 2
        if found and found[-1][0].bottom < middle < found[-1][0].top:
            found[-1].append(piece)
        else:
            found.append([piece])
    return [_row(sorted(row)) for row in found]


def _row(row: list[Piece]) -> Piece:
    if len(row) == 1:
        return row[0]
    text = [piece.text for piece in row]
    if sum(bool(_RIGHT_TO_LEFT.search(part)) for part in text) * 2 > len(text):
        text.reverse()
    return Piece(
        row[0].left,
        min(p.bottom for p in row),
        max(p.right for p in row),
        max(p.top for p in row),
        " ".join(text),
        row[-1].split,
        len(row),
    )


def ordered(pieces: Sequence[Piece], depth: int = 0) -> list[list[Piece]]:
    """The rows of each block, in reading order."""
    gutter = _gutter(pieces) if depth < _DEEPEST else None
    if gutter is None:
        return [rows(pieces)] if pieces else []
    widths = [_width([p for p in pieces if p.right <= gutter]), _width([p for p in pieces if p.left >= gutter])]
    blocks: list[list[Piece]] = []
    zone: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: -(p.top + p.bottom)):
        if piece.left < gutter < piece.right:
            blocks += _zone(zone, gutter, widths, depth)
            zone = []
            blocks.append([piece])
        else:
            zone.append(piece)
    return _joined([*blocks, *_zone(zone, gutter, widths, depth)])


def _joined(blocks: list[list[Piece]]) -> list[list[Piece]]:
    """Lines that follow each other below the same edge are one block again."""
    found: list[list[Piece]] = []
    for block in blocks:
        last = found[-1][-1] if found else None
        if last is not None and len(block) == 1 and abs(last.left - block[0].left) < 3 * block[0].height:
            found[-1] += block
        else:
            found.append(list(block))
    return found


def _zone(zone: list[Piece], gutter: float, widths: list[float], depth: int) -> list[list[Piece]]:
    sides = [[p for p in zone if p.right <= gutter], [p for p in zone if p.right > gutter]]
    if all(sides) and all(_prose(side, width) for side, width in zip(sides, widths, strict=True)):
        return [block for side in sides for block in ordered(side, depth + 1)]
    if not all(sides):
        return ordered([*sides[0], *sides[1]], depth + 1)
    return [rows(zone)]


def _width(pieces: Sequence[Piece]) -> float:
    return max(p.right for p in pieces) - min(p.left for p in pieces) if pieces else 0.0


def _prose(side: Sequence[Piece], width: float) -> bool:
    lines = rows(side)
    long = [r for r in lines if r.right - r.left >= _FILLED * width and len(r.text) >= _SHORTEST_CELL]
    return 2 * len(long) >= len(lines)


def _gutter(pieces: Sequence[Piece]) -> float | None:
    """The x of the emptiest strip in the middle, where enough stands on both of its sides."""
    if len(pieces) < 2 * _FEWEST_ROWS:
        return None
    left, width = min(p.left for p in pieces), _width(pieces)
    if width <= 0:
        return None
    covered = [0] * (_BINS + 1)
    for piece in pieces:
        covered[int((piece.left - left) / width * _BINS)] += 1
        covered[min(_BINS, int((piece.right - left) / width * _BINS) + 1)] -= 1
    for number in range(1, _BINS):
        covered[number] += covered[number - 1]
    least = min(covered[number] for number in _MIDDLE)
    if least > _MOST_CROSSING * len(rows(pieces)):
        return None
    strips = _runs([number for number in _MIDDLE if covered[number] == least])
    first, last = max(strips, key=lambda strip: strip[1] - strip[0])
    gutter = left + (first + last + 1) / 2 / _BINS * width
    before = len(rows([p for p in pieces if p.right <= gutter]))
    after = len(rows([p for p in pieces if p.left >= gutter]))
    return gutter if min(before, after) >= _FEWEST_ROWS else None


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    starts = [numbers[0]] + [b for a, b in pairwise(numbers) if b != a + 1]
    ends = [a for a, b in pairwise(numbers) if b != a + 1] + [numbers[-1]]
    return list(zip(starts, ends, strict=True))


def paragraphs(block: Sequence[Piece]) -> list[Paragraph]:
    """The rows of a block joined where a sentence runs on."""
    if not block:
        return []
    left, right = min(p.left for p in block), max(p.right for p in block)
    steps = [a.bottom - b.bottom for a, b in pairwise(block) if a.bottom > b.bottom]
    step = median(steps) if steps else 0.0
    found: list[list[Piece]] = [[block[0]]]
    for above, row in pairwise(block):
        if _runs_on(above, row, left, right, step):
            found[-1].append(row)
        else:
            found.append([row])
    return [_paragraph(lines) for lines in found]


def _runs_on(above: Piece, row: Piece, left: float, right: float, step: float) -> bool:
    if not 0.8 < row.height / above.height < 1.25 or above.bottom - row.bottom > max(1.35 * step, 1.1 * row.height):
        return False
    if above.cells > 1 or row.cells > 1 or _ITEM.match(row.text):
        return False
    if above.split:
        return True
    # the next word would have found room: the line was ended, not full
    first = row.text.partition(" ")[0]
    room = right - above.right
    needed = (row.right - row.left) * (len(first) + 1) / max(1, len(row.text))
    ended = room > 1.2 * needed + 0.02 * (right - left)
    if above.text.endswith(SENTENCE_END):
        return not ended and row.left - left < 0.8 * row.height
    return not ended or row.text[:1].islower()


def _paragraph(lines: list[Piece]) -> Paragraph:
    text = lines[0].text
    for above, row in pairwise(lines):
        # the soft hyphen marks where a word was cut; who knows the document's words decides (`pdf`)
        text += ("\u00ad" if above.split else " ") + row.text
    text += "\u00ad" * lines[-1].split  # it goes on elsewhere
    heights = [row.height for row in lines]
    return Paragraph(
        text,
        median(heights),
        min(row.left for row in lines),
        lines[-1].bottom,
        max(row.right for row in lines),
        lines[0].top,
    )
