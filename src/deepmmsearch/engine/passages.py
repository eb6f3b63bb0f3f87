"""Pages cut into passages: whole paragraphs where they fit, sentences where they do not."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\s\W_a-z])")
_SPACE = re.compile(r"[ \t\u00a0]+")


def sentences(text: str) -> list[str]:
    """The sentences of one paragraph, nothing lost but the white space between them."""
    return [s for s in _SENTENCE_END.split(text.strip()) if s]


def passages(text: str, size: int = 900) -> list[str]:
    """Texts of at most `size` characters, in order; a page shorter than that is one passage."""
    parts: list[str] = []
    current = ""
    for piece in _pieces(text, size):
        if current and len(current) + 1 + len(piece) > size:
            parts.append(current)
            current = ""
        current = f"{current}\n{piece}" if current else piece
    return [*parts, current] if current else parts


def _pieces(text: str, size: int) -> list[str]:
    pieces: list[str] = []
    for line in text.splitlines():
        paragraph = _SPACE.sub(" ", line).strip()
        if not paragraph:
            continue
        if len(paragraph) <= size:
            pieces.append(paragraph)
        else:
            pieces.extend(_pack(sentences(paragraph), size))
    return pieces


def _pack(units: list[str], size: int) -> list[str]:
    packed: list[str] = []
    current = ""
    for unit in units:
        for piece in _hard_cut(unit, size):
            if current and len(current) + 1 + len(piece) > size:
                packed.append(current)
                current = ""
            current = f"{current} {piece}" if current else piece
    return [*packed, current] if current else packed


def _hard_cut(sentence: str, size: int) -> list[str]:
    pieces = []
    while len(sentence) > size:
        space = sentence.rfind(" ", size // 2, size)
        cut = space if space > 0 else size
        pieces.append(sentence[:cut].strip())
        sentence = sentence[cut:].strip()
    return [*pieces, sentence] if sentence else pieces
