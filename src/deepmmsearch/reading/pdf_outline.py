"""Which lines of a PDF are headings, and of what level: as its bookmarks say, else as large as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from deepmmsearch.reading.document import clean
from deepmmsearch.reading.page_title import squeezed

MOST_BOOKMARKS = 5_000
DEEPEST = 9
_NUMBER = re.compile(r"(?:[\dA-Z]{1,3}(?:\.\d{1,3}){0,6}|[IVXLC]{1,7})[.):]?\s+(?=\S)")
_HEADS = 1.15
"""A heading's letters are this much larger than the text's."""
_ALIKE = 1.05
_LONGEST = 150


class PdfHeadings(NamedTuple):
    """`marked`: levels by the number of the page and the text, as `_spellings` has it; `sizes`: the heights of letters
    that are larger than the text's (`usual`), the largest first; `deepest`: of the levels that are marked."""

    marked: dict[tuple[int, str], int]
    sizes: list[float]
    usual: float
    deepest: int

    def level(self, page: int, line: str, height: float) -> int:
        """0 for a line that is no heading."""
        for spelling in _spellings(line):
            if (page, spelling) in self.marked:
                return self.marked[page, spelling]
        if height < _HEADS * self.usual or len(line) > _LONGEST:
            return 0
        rank = next(n for n, size in enumerate(self.sizes, 1) if height * _ALIKE >= size)
        # below what is marked: what no bookmark names ends no chapter
        return min(DEEPEST, self.deepest + rank)

    def is_large(self, height: float) -> bool:
        return height >= _HEADS * self.usual


def pdf_headings(marked: dict[tuple[int, str], int], usual: float, heights: Iterable[float]) -> PdfHeadings:
    """`usual`: of the text's letters; `heights`: of all lines."""
    sizes: list[float] = []
    for height in sorted(heights, reverse=True):
        if height >= _HEADS * usual and (not sizes or height * _ALIKE < sizes[-1]):
            sizes.append(height)
    return PdfHeadings(marked, sizes, usual, max(marked.values(), default=0))


def bookmarks(document: Any) -> dict[tuple[int, str], int]:
    """The level of each, by the number of its page and its title."""
    import pypdfium2 as pdfium

    found: dict[tuple[int, str], int] = {}
    try:
        for mark in islice(document.get_toc(max_depth=DEEPEST), MOST_BOOKMARKS):
            place = mark.get_dest()
            page = place.get_index() if place is not None else None
            if page is not None:
                for spelling in _spellings(mark.get_title()):
                    found.setdefault((page + 1, spelling), mark.level + 1)
    except (pdfium.PdfiumError, ValueError, OverflowError):  # what came before is kept
        pass
    return found


def _spellings(title: str) -> Iterator[str]:
    """Letters and digits of a title, with the number before it and without."""
    told = clean(title[:1_000])
    for text in (told, _NUMBER.sub("", told, count=1) if _NUMBER.match(told) else ""):
        if spelled := squeezed(text):
            yield spelled
