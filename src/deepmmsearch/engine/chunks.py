"""Pages cut into passages: whole sections where they fit, then paragraphs, then sentences."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from deepmmsearch.language.sentence_ends import cut, split_paragraph

SIZE = 900
# about 75 tokens: encoders read some 250, and the vector of a text about many things is near to none of them
PART = 300
_SPACE = re.compile(r"[ \t\u00a0]+")


@dataclass(frozen=True)
class Chunk:
    """`parts` are what an encoder reads: the text in pieces of one section each, every one below its heading."""

    text: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class _Section:
    """Lines below a heading; a heading straight below another one adds to it. Both may be empty."""

    heading: str
    lines: list[str]


def passages(text: str, size: int = SIZE, headings: Collection[str] = (), part: int = PART) -> list[Chunk]:
    """Texts of at most `size` characters, in order; a page shorter than that is one passage.

    `headings` are the lines of the text that head what follows: none is cut off from it, and a section is cut only
    when it is longer than a passage.
    """
    found: list[Chunk] = []
    current, parts = "", list[str]()
    for section in _sections(text, headings, size):
        for piece, own in _units(section, size, part):
            if current and len(current) + 1 + len(piece) > size:
                found.append(Chunk(current, tuple(parts)))
                current, parts = "", []
            current = f"{current}\n{piece}" if current else piece
            parts += own
    return [*found, Chunk(current, tuple(parts))] if current else found


def _sections(text: str, headings: Collection[str], size: int) -> list[_Section]:
    sections = [_Section("", [])]
    for raw in text.splitlines():
        line = _SPACE.sub(" ", raw).strip()
        if not line:
            continue
        # a "heading" that would fill the passage is text
        if line not in headings or 3 * len(line) > size:
            sections[-1].lines.append(line)
        elif sections[-1].lines or 3 * (len(sections[-1].heading) + len(line)) > size:
            sections.append(_Section(line, []))
        else:
            sections[-1] = _Section(f"{sections[-1].heading}\n{line}".strip(), [])
    return sections


def _units(section: _Section, size: int, part: int) -> list[tuple[str, list[str]]]:
    """Texts that fit into a passage each, with their parts."""
    whole = "\n".join([section.heading, *section.lines] if section.heading else section.lines)
    if len(whole) <= size:
        bodies = ["\n".join(section.lines)]
    else:
        bodies = _packed(section.lines, size - len(section.heading) - 1 if section.heading else size)
    texts = [f"{section.heading}\n{bodies[0]}".strip(), *bodies[1:]]
    return [
        (text, [f"{section.heading}\n{piece}".strip() for piece in _packed(body.splitlines(), part) or [""]])
        for text, body in zip(texts, bodies, strict=True)
        if text
    ]


def _packed(lines: list[str], size: int) -> list[str]:
    """Lines joined to texts of at most `size` characters; longer ones at sentence ends."""
    pieces = [p for line in lines for p in ([line] if len(line) <= size else _joined(split_paragraph(line), size, " "))]
    return _joined(pieces, size, "\n")


def _joined(units: list[str], size: int, separator: str) -> list[str]:
    packed: list[str] = []
    current = ""
    for unit in units:
        for piece in cut(unit, size):
            if current and len(current) + 1 + len(piece) > size:
                packed.append(current)
                current = ""
            current = f"{current}{separator}{piece}" if current else piece
    return [*packed, current] if current else packed
