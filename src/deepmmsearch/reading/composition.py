"""A document's text as it is composed line by line, with its headings, parts and pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deepmmsearch.reading.document import MAX_TEXT, Document, Heading, Showing, clean

MAX_PICTURES, MAX_PICTURE_BYTES = 200, 48_000_000
"""Within one file, all together."""
CAPTION = re.compile(
    r"(fig(ure|\.)?|abb(ildung|\.)?|illustration|table|tabelle|photo(graph)?|plate|scheme|図|图|圖)\s*+\.?\s*+\d", re.I
)
_FROM_PROGRAM = re.compile(r"^microsoft (office )?(word|powerpoint|excel|publisher|visio) - ", re.I)
# what programs write where nobody gave a title
_NO_TITLE = re.compile(
    r"(untitled|unbenannt|sans titre|sin título|senza titolo|sem título|без имени|无标题|無題|名称未設定|제목 없음).*"
    r"|(document|dokument|documento|presentation|präsentation|slide|folie|book|mappe|scan|print|layout|page|seite|doc)"
    r"[\s_\-]*+\d*+|(microsoft )?(powerpoint|word|excel)[ \-](presentation|präsentation|document|dokument)"
    r"|\(?anonymous\)?|unknown|title|none|no title|[\W\d_]*+"
    r"|.*\.(docx?|dotx?|pptx?|xlsx?|odt|rtf|indd|tex|dvi|qxd|ps|eps|pdf|wpd|pages|pub|html?)"
    r"( \[[^\[\]]{0,40}\])?|([a-z]:\\|file:/).*",
    re.I,
)


def given_title(named: str) -> str:
    """The title that a file names, "" where a program wrote it."""
    named = clean(_FROM_PROGRAM.sub("", named.replace("\0", "")[:1000]))
    return "" if _NO_TITLE.fullmatch(named) or "\ufffd" in named else named


def short_line(text: str) -> bool:
    """Could it be a title?"""
    return 0 < len(text) <= 100 and not text.endswith((".", ",", ";"))


@dataclass(frozen=True)
class _Picture:
    src: str
    alt: str
    content: bytes
    place: str
    line: int
    """How many lines come before it."""


class Composition:
    """`longest`: characters, after which it is full and takes no more."""

    def __init__(self, longest: int = MAX_TEXT) -> None:
        self.longest = longest
        self.headings: list[Heading] = []
        self._lines: list[str] = []
        self._length = 0
        self._marks: list[tuple[int, str]] = []
        self._pictures: list[_Picture] = []
        self._room = MAX_PICTURE_BYTES

    @property
    def full(self) -> bool:
        return self._length > self.longest

    def mark(self, fragment: str) -> None:
        """What is added from here on is of this part."""
        if self._marks and self._marks[-1][0] == self._length:
            self._marks.pop()  # the part before has no text
        self._marks.append((self._length, fragment))

    def add(self, text: str) -> None:
        """One or several lines; nothing for blanks alone."""
        if (text := text.replace("\u00ad", "").replace("\r", "").strip()) and not self.full:
            self._lines.append(text)
            self._length += len(text) + 1

    def head(self, text: str, level: int = 1) -> None:
        """A line that heads those after it."""
        if text := clean(text):
            self.headings.append(Heading(text, level))
            self.add(text)

    def row(self, cells: list[str]) -> None:
        """Of a table, as those of web pages are written."""
        told = [cell for cell in map(clean, cells) if cell]
        self.add((": " if len(cells) == 2 else " | ").join(told))

    def show(self, alt: str, content: bytes, src: str = "") -> None:
        """A picture that stands here."""
        if not content or len(self._pictures) == MAX_PICTURES or len(content) > self._room:
            return
        self._room -= len(content)
        place = self._marks[-1][1] if self._marks else ""
        name = src or f"picture={len(self._pictures) + 1}"
        self._pictures.append(_Picture(name, clean(alt), content, place, len(self._lines)))

    def document(self, title: str, date: str = "", language: str | None = None) -> Document:
        """`date` as programs write it."""
        return Document(
            title,
            "\n".join(self._lines),
            pictures=tuple(map(self._showing, self._pictures)),
            headings=tuple(self.headings),
            date=found[0] if (found := re.match(r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", date)) else None,
            language=language,
            marks=tuple(self._marks),
        )

    def _showing(self, picture: _Picture) -> Showing:
        after = [clean(line) for line in self._lines[picture.line : picture.line + 2]]
        before = [clean(line) for line in self._lines[max(0, picture.line - 1) : picture.line]]
        caption = next((line for line in (*after, *before) if CAPTION.match(line)), "")
        near = next((line for line in (*after, *before) if len(line) > 20 and line != caption), "")
        title = caption or picture.alt
        rank = 3.0 if caption else 2.0 * bool(picture.alt)
        snippet = " ".join(part for part in (picture.alt if caption else "", near) if part)
        return Showing(picture.src, title[:300], snippet[:600], rank, picture.content, picture.place)

    @property
    def first_heading(self) -> str:
        """ "" where there is none."""
        return self.headings[0].text if self.headings else ""

    @property
    def first_line(self) -> str:
        """The first line where it could be a title, else ""."""
        line = self._lines[0].partition("\n")[0] if self._lines else ""
        return line if short_line(line) else ""
