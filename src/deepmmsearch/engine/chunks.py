"""Pages cut into passages: whole sections where they fit, then paragraphs, then sentences."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

SIZE = 900
# about 75 tokens: encoders read some 250, and the vector of a text about many things is near to none of them
PART = 300
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\s\W_a-z])")
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


def sentences(text: str) -> list[str]:
    """The sentences of one paragraph, nothing lost but the white space between them."""
    return [s for s in _SENTENCE_END.split(text.strip()) if s]


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
    pieces = [p for line in lines for p in ([line] if len(line) <= size else _joined(sentences(line), size, " "))]
    return _joined(pieces, size, "\n")


def _joined(units: list[str], size: int, separator: str) -> list[str]:
    packed: list[str] = []
    current = ""
    for unit in units:
        for piece in _hard_cut(unit, size):
            if current and len(current) + 1 + len(piece) > size:
                packed.append(current)
                current = ""
            current = f"{current}{separator}{piece}" if current else piece
    return [*packed, current] if current else packed


def _hard_cut(sentence: str, size: int) -> list[str]:
    pieces = []
    at = 0
    while len(sentence) - at > size:
        space = sentence.rfind(" ", at + size // 2, at + size)
        cut = space if space > 0 else at + size
        pieces.append(sentence[at:cut].strip())
        at = _after_blanks(sentence, cut)
    return [*pieces, sentence[at:].strip()] if at < len(sentence) else pieces


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
