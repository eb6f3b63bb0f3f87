"""What goes into reading and what comes out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from deepmmsearch.types import Link

MAX_TEXT = 4_000_000
SPACES = re.compile(r"\s+")
EMPTY_ALT = re.compile(r"^(image|img|photo|picture|logo|icon|thumbnail|untitled)?\W*$", re.I)


@dataclass(frozen=True)
class Origin:
    """What is known of bytes before they are read. `kind`: a name in `file_kinds.KINDS`. `name`: their title where they
    name none themselves. `charset`: what their server called it. `address`: where on the web they were read, "" for a
    file. `longest`: characters of text that are kept."""

    kind: str
    name: str
    charset: str = ""
    address: str = ""
    longest: int = MAX_TEXT


class Heading(NamedTuple):
    """A line that heads those after it. `level`: 1 for a chapter, 2 for a section in it, and so on."""

    text: str
    level: int = 1


@dataclass(frozen=True)
class Showing:
    """A picture that a page shows: where it is (as written in the page), what the page says of it, and how telling
    that is (`rank`). A picture within the file brings its `content`; `src` then is its name there, and `place` the part
    of the file that shows it (as in `Document.marks`)."""

    src: str
    title: str
    snippet: str
    rank: float
    content: bytes = b""
    place: str = ""


@dataclass(frozen=True)
class Document:
    """`url` is the canonical one that the page itself names, for a page on the web one of the same site; `headings`
    in their order, each as it stands in the text; `date` (YYYY-MM-DD) and `language` ("en") are what it says of
    itself. `marks` say where parts of the text begin that can be cited by themselves: (offset, fragment of an address),
    such as (0, "page=1"). `charset`: the encoding that was guessed, "" where it is told or UTF-8. `links`: what the
    main text leads to, for a file as it is written. `site`: its site's name, which its title had."""

    title: str
    text: str
    url: str | None = None
    pictures: tuple[Showing, ...] = ()
    headings: tuple[Heading, ...] = ()
    date: str | None = None
    language: str | None = None
    marks: tuple[tuple[int, str], ...] = ()
    charset: str = ""
    links: tuple[Link, ...] = ()
    site: str = ""


def clean(text: str) -> str:
    """One line, single spaces."""
    return SPACES.sub(" ", text).strip()
