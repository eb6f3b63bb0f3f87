"""Pages cut into passages: whole sections where they fit, then paragraphs, then sentences."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from deepmmsearch.language.sentence_ends import cut, split_paragraph

SIZE = 900
# about 75 tokens: encoders read some 250, and the vector of a text about many things is near to none of them
PART = 300


@dataclass(frozen=True)
class Chunk:
    """`parts` are what an encoder reads: the text in pieces of one section each, every one below its heading."""

    text: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class _Section:
    """Lines below a heading, "" for an empty one; a heading straight below another one adds to it. Both may be empty.
    `before` is what stands between it and the section before: the end of a line, or an empty line too."""

    before: str
    heading: str
    lines: list[str]


def passages(text: str, size: int = SIZE, headings: Collection[str] = (), part: int = PART) -> list[Chunk]:
    """Texts of at most `size` characters, in order; a page shorter than that is one passage.

    `headings` are the lines of the text that head what follows: none is cut off from it, and a section is cut only
    when it is longer than a passage: between paragraphs, else between lines (of code, of a table), else at sentence
    ends. Lines keep their indentation.
    """
    found: list[Chunk] = []
    current, parts = "", list[str]()
    for section in _sections(text, headings, size):
        for before, piece, own in _units(section, size, part):
            if current and len(current) + len(before) + len(piece) > size:
                found.append(Chunk(current, tuple(parts)))
                current, parts = "", []
            current = f"{current}{before}{piece}" if current else piece
            parts += own
    return [*found, Chunk(current, tuple(parts))] if current else found


def _sections(text: str, headings: Collection[str], size: int) -> list[_Section]:
    sections = [_Section("", "", [])]
    empty = False
    for raw in text.splitlines():
        line = raw.rstrip()
        if not line:
            empty = True
            continue
        last = sections[-1]
        before = "\n\n" if empty else "\n"
        # a "heading" that would fill the passage is text
        if line not in headings or 3 * len(line) > size:
            last.lines.extend(["", line] if empty and last.lines else [line])
        elif last.lines or 3 * (len(last.heading) + len(line)) > size:
            sections.append(_Section(before, line, []))
        else:
            sections[-1] = _Section(last.before, f"{last.heading}\n{line}".strip(), [])
        empty = False
    return sections


def _units(section: _Section, size: int, part: int) -> list[tuple[str, str, list[str]]]:
    """Texts that fit into a passage each, with what stands before them, and their parts."""
    whole = "\n".join([section.heading, *section.lines] if section.heading else section.lines)
    if len(whole) <= size:
        bodies = [("", "\n".join(section.lines))]
    else:
        bodies = _packed(section.lines, size - len(section.heading) - 1 if section.heading else size)
    (_, first), *others = bodies or [("", "")]
    texts = [(section.before, f"{section.heading}\n{first}".strip("\n")), *others]
    return [
        (
            before,
            text,
            [f"{section.heading}\n{piece}".strip("\n") for _, piece in _packed(body.split("\n"), part) or [("", "")]],
        )
        for (before, text), (_, body) in zip(texts, bodies or [("", "")], strict=True)
        if text
    ]


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
