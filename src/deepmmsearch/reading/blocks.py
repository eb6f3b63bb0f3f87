"""A text document's blocks in order, as its readers find them: paragraphs, headings, tables, code, pictures."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from deepmmsearch.reading.document import EMPTY_ALT, Document, Heading, Showing, clean
from deepmmsearch.redaction import without_login
from deepmmsearch.types import Link

MAX_PICTURES = 500
MAX_LINKS = 300
_LEAST_CAPTION = 20
_OTHER_SCHEME = re.compile(r"(?!https?://)[a-z][a-z\d+.-]{0,20}:", re.I)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


class Blocks:
    """Blocks are told apart by an empty line, rows of a table and items of a tight list by a line end."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._close: list[bool] = []
        self._headings: list[Heading] = []
        self._links: dict[str, Link] = {}  # by address
        self._pictures: list[tuple[str, str, int]] = []  # src, title, number of the block that shows it

    def add(self, text: str, close: bool = False) -> None:
        """`close`: it stands in the line below the block before."""
        if text.strip():
            self._texts.append(text)
            self._close.append(close)

    def paragraph(self, text: str, close: bool = False) -> None:
        """Its lines are those of the text, whose blanks are no part of what it says."""
        lines = (clean(line) for line in text.split("\n"))
        self.add("\n".join(line for line in lines if line), close)

    def heading(self, text: str, level: int = 1) -> None:
        if text := clean(text):
            self.add(text)
            self.heads(text, level)

    def code(self, text: str) -> None:
        """Its lines stay as they are."""
        self.add("\n".join(line.rstrip() for line in text.split("\n")).strip("\n"))

    def table(self, rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
        """Each row is a line, each cell behind its column's head, so that a row says by itself what it says."""
        for number, row in enumerate(rows):
            cells = [(clean(head), clean(cell)) for head, cell in zip([*header, *[""] * len(row)], row, strict=False)]
            told = [f"{head}: {cell}" if head and head != cell else cell for head, cell in cells if cell]
            self.add(" | ".join(told), close=number > 0)
        used = [any(row[n].strip() for row in rows if n < len(row)) for n in range(len(header))]
        if not all(used):  # a head without cells would be lost
            self.add(" | ".join(clean(head) for head in header if head.strip()), close=bool(rows))

    def picture(self, src: str, title: str) -> None:
        """Shown by the block that is added next. `src`: as written, also by Windows."""
        src = src.strip()
        if src and not src.startswith("data:") and len(src) <= 2_000 and len(self._pictures) < MAX_PICTURES:
            if "://" not in src:
                src = src.replace("\\", "/")
            title = "" if EMPTY_ALT.match(title) else clean(title)
            self._pictures.append((src, title[:300], len(self._texts)))

    def link(self, text: str, target: str) -> None:
        """Where words of a text lead, as it is written."""
        target, text = without_login(target.strip().partition("#")[0]), clean(text)
        if (
            target
            and text
            and len(target) <= 2_000
            and not _OTHER_SCHEME.match(target)
            and len(self._links) < MAX_LINKS
        ):
            self._links.setdefault(target, Link(text[:200], target))

    @property
    def first_heading(self) -> str:
        """ "" where there is none."""
        return self._headings[0].text if self._headings else ""

    def document(
        self, title: str, url: str | None = None, date: str | None = None, language: str | None = None
    ) -> Document:
        joined = ["" if n == 0 else "\n" if close else "\n\n" for n, close in enumerate(self._close)]
        text = "".join(part for pair in zip(joined, self._texts, strict=True) for part in pair)
        headed = {heading.text for heading in self._headings}
        shown = tuple(
            Showing(src, alt, self._near(block, headed)[:400], 2.0 if alt else 0.0)
            for src, alt, block in self._pictures
        )
        return Document(
            title,
            _CONTROL.sub("", text),
            url,
            shown,
            tuple(self._headings),
            date,
            language,
            links=tuple(self._links.values()),
        )

    def heads(self, text: str, level: int) -> None:
        """A line that was added already is a heading."""
        if text:
            self._headings.append(Heading(text, level))

    def _near(self, block: int, headed: Collection[str]) -> str:
        """The rest of the paragraph that holds the picture, or else the next one, or else the one before."""
        near = list(itertools.takewhile(lambda text: text not in headed, self._texts[block : block + 2]))
        long = [text for text in near if len(text) > _LEAST_CAPTION] or near or self._texts[max(0, block - 1) : block]
        return clean(long[0]) if long else ""


def is_web_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).netloc)
    except ValueError:
        return False
