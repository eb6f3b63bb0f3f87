"""A text file -> a document: its wrapped paragraphs as lines, its underlined lines as headings."""

from __future__ import annotations

import re

from deepmmsearch.reading.document import Document, Heading, clean
from deepmmsearch.reading.wrapping import unwrapped

LONGEST_TITLE = 100
_UNDERLINE = re.compile(r"([=\-~^*#+_])\1{2,}[ \t]*")


def from_text(text: str, name: str) -> Document:
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n").split("\n")
    headings: list[Heading] = []
    signs: list[str] = []  # in their order, which tells their levels
    kept: list[str] = []
    for number, line in enumerate(lines):
        if _UNDERLINE.fullmatch(line) and number and _is_heading(lines, number):
            if line[0] not in signs:
                signs.append(line[0])
            headings.append(Heading(clean(lines[number - 1]), signs.index(line[0]) + 1))
            kept[-1] = clean(kept[-1])
            kept.append("")
        else:
            kept.append(line)
    body = unwrapped("\n".join(kept)).strip("\n")
    first, _, rest = body.strip().partition("\n")
    title = clean(first) if rest and 0 < len(first.strip()) <= LONGEST_TITLE else name
    return Document(title, body, headings=tuple(headings))


def _is_heading(lines: list[str], number: int) -> bool:
    """Is the line above an underline as long as it, and alone?"""
    above = lines[number - 1].rstrip()
    alone = number < 2 or not lines[number - 2].strip() or _UNDERLINE.fullmatch(lines[number - 2]) is not None
    return (
        bool(above)
        and alone
        and _UNDERLINE.fullmatch(above) is None
        and abs(len(above) - len(lines[number].rstrip())) <= 3
    )
