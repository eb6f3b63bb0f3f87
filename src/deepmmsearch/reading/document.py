"""What extraction makes of a file, and what all formats share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SPACES = re.compile(r"\s+")
EMPTY_ALT = re.compile(r"^(image|img|photo|picture|logo|icon|thumbnail|untitled)?\W*$", re.I)


class Unreadable(Exception):
    """The file is not indexed; the message is the reason, in the words of the build summary."""


@dataclass(frozen=True)
class Showing:
    """A picture that a page shows: where it is (as written in the page), what the page says of it, and how telling
    that is (`rank`)."""

    src: str
    title: str
    snippet: str
    rank: float


@dataclass(frozen=True)
class Document:
    """`url` is the canonical one that the page itself names, or None; `headings` are the lines of the text that head
    the lines after them."""

    title: str
    text: str
    url: str | None = None
    pictures: tuple[Showing, ...] = field(default=())
    headings: tuple[str, ...] = field(default=())


def clean(text: str) -> str:
    """One line, single spaces."""
    return SPACES.sub(" ", text).strip()


def decode(content: bytes, declared: str | None = None) -> str:
    """UTF-8, or what a byte order mark or the page itself declares; anything else is refused rather than guessed."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        declared = "utf-16"
    for encoding in filter(None, ("utf-8-sig", declared)):
        try:
            text = content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        if "\0" in text:
            break
        return text
    raise Unreadable("not text in UTF-8 or a declared encoding")
