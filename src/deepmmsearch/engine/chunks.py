"""Pages cut into passages: whole sections where they fit, then paragraphs, then sentences."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from deepmmsearch.language.sentence_ends import cut, split_paragraph
from deepmmsearch.reading.document import Heading

SIZE = 900
# about 75 tokens: encoders read some 250, and the vector of a text about many things is near to none of them
PART = 300


@dataclass(frozen=True)
class Chunk:
    """`parts` are what an encoder reads: the text in pieces of one section each, every one below its heading. `path`:
    the headings above the text's beginning that it does not hold itself, the highest first."""

    text: str
    parts: tuple[str, ...]
    path: tuple[str, ...] = ()


class Outline:
    """The headings of a document, and below which of them a reader of its lines stands."""

    def __init__(self, headings: Sequence[Heading] = ()) -> None:
        self._headings = headings
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, heading in enumerate(headings):
            self._places[heading.text].append(place)
        self._next = 0
        self._open: list[Heading] = []

    def __contains__(self, line: str) -> bool:
        return line in self._places

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(heading.text for heading in self._open)

    def enter(self, line: str) -> tuple[str, ...]:
        """At a line that is a heading; the path above it."""
        places = self._places[line]
        found = bisect_left(places, self._next)
        place = places[min(found, len(places) - 1)]
        self._next = max(self._next, place + 1)
        heading = self._headings[place]
        while self._open and self._open[-1].level >= heading.level:
            self._open.pop()
        above = self.path
        self._open.append(heading)
        return above


@dataclass(frozen=True)
class _Section:
    """Lines below a heading, "" for an empty one; a heading straight below another one adds to it. Both may be empty.
    `before` is what stands between it and the section before: the end of a line, or an empty line too. `above`: the
    headings above it; `path`: with its own."""

    before: str
    heading: str
    lines: list[str]
    above: tuple[str, ...]
    path: tuple[str, ...]


@dataclass(frozen=True)
class _Unit:
    """A text that fits into a passage, with what stands before it, the parts that an encoder reads, and its path."""

    before: str
    text: str
    parts: list[str]
    path: tuple[str, ...]


def passages(text: str, size: int = SIZE, outline: Outline | None = None, part: int = PART) -> list[Chunk]:
    """Texts of at most `size` characters, in order; a page shorter than that is one passage.

    `outline`: of the document whose next lines these are. No heading is cut off from what follows it, and a section is
    cut only when it is longer than a passage: between paragraphs, else between lines (of code, of a table), else at
    sentence ends. Lines keep their indentation.
    """
    found: list[Chunk] = []
    current, parts, path = "", list[str](), tuple[str, ...]()
    for section in _sections(text, outline or Outline(), size):
        for unit in _units(section, size, part):
            if current and len(current) + len(unit.before) + len(unit.text) > size:
                found.append(Chunk(current, tuple(parts), path))
                current, parts = "", []
            path = path if current else unit.path
            current = f"{current}{unit.before}{unit.text}" if current else unit.text
            parts += unit.parts
    return [*found, Chunk(current, tuple(parts), path)] if current else found


def _sections(text: str, outline: Outline, size: int) -> list[_Section]:
    sections = [_Section("", "", [], outline.path, outline.path)]
    empty = False
    for raw in text.splitlines():
        line = raw.rstrip()
        if not line:
            empty = True
            continue
        last = sections[-1]
        before = "\n\n" if empty else "\n"
        # a "heading" that would fill the passage is text
        if line not in outline or 3 * len(line) > size:
            last.lines.extend(["", line] if empty and last.lines else [line])
            empty = False
            continue
        above = outline.enter(line)
        if last.lines or 3 * (len(last.heading) + len(line)) > size:
            sections.append(_Section(before, line, [], above, outline.path))
        else:
            above = last.above if last.heading else above
            sections[-1] = _Section(last.before, f"{last.heading}\n{line}".strip(), [], above, outline.path)
        empty = False
    return sections


def _units(section: _Section, size: int, part: int) -> list[_Unit]:
    whole = "\n".join([section.heading, *section.lines] if section.heading else section.lines)
    if len(whole) <= size:
        bodies = [("", "\n".join(section.lines))]
    else:
        bodies = _packed(section.lines, size - len(section.heading) - 1 if section.heading else size)
    (_, first), *others = bodies or [("", "")]
    texts = [(section.before, f"{section.heading}\n{first}".strip("\n")), *others]
    units: list[_Unit] = []
    for (before, text), (_, body) in zip(texts, bodies or [("", "")], strict=True):
        pieces = [piece for _, piece in _packed(body.split("\n"), part)] or [""]
        parts = [f"{section.heading}\n{piece}".strip("\n") for piece in pieces]
        if text:
            units.append(_Unit(before, text, parts, section.path if units else section.above))
    return units


def _packed(lines: Sequence[str], size: int) -> list[tuple[str, str]]:
    """Paragraphs joined to texts of at most `size` characters, with what stands before each; longer ones between their
    lines, longer lines at sentence ends."""
    packed: list[tuple[str, str]] = []
    before = ""
    for filled, block in groupby(lines, key=bool):
        if not filled:
            before = "\n\n"
            continue
        paragraph = list(block)
        whole = "\n".join(paragraph)
        for piece in [whole] if len(whole) <= size else [p for line in paragraph for p in _cut(line, size)]:
            if packed and len(packed[-1][1]) + len(before) + len(piece) <= size:
                packed[-1] = packed[-1][0], f"{packed[-1][1]}{before}{piece}"
            else:
                packed.append((before, piece))
            before = "\n"
    return packed


def _cut(line: str, size: int) -> list[str]:
    """At sentence ends."""
    if len(line) <= size:
        return [line]
    packed: list[str] = []
    at = 0
    for piece in (piece for sentence in split_paragraph(line) for piece in cut(sentence, size)):
        start = line.index(piece, at)
        between = " " if start > at else ""  # no blank follows a Chinese full stop
        if packed and len(packed[-1]) + len(between) + len(piece) <= size:
            packed[-1] += between + piece
        else:
            packed.append(piece)
        at = start + len(piece)
    return packed
