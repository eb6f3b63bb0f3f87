"""The names of sites, told by what the titles of their pages share.

Of the files of a folder some titles are looked at before the first page is read, so that a page is called the same
whether it was indexed with the others or later. Pages in archives are met one by one: the first few keep the name.
"""

from __future__ import annotations

import html
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from deepmmsearch.reading.document import Document, clean
from deepmmsearch.reading.page_title import cuts_of, says_something, squeezed

FEWEST = 5
"""Pages that say different things before the same end."""
SHARE, SHARE_IN_FRONT = 0.5, 0.8
"""Of the titles of one place, how many have the same end, or the same beginning."""
_SAMPLE, _HEAD, _LISTED = 40, 32_768, 2_000
_MOST_TITLES = 50_000
"""That are remembered, of all places together: after these it begins anew."""
_HTML = (".html", ".htm", ".xhtml", ".shtml")
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,1000})", re.I)
_DIGITS = re.compile(r"\d+")


class SiteNames:
    """`root`: the indexed folder, above which nothing is looked at."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._titles: dict[str, set[str]] = defaultdict(set)
        self._heads: dict[str, dict[tuple[str, bool], set[str]]] = defaultdict(lambda: defaultdict(set))
        self._looked: dict[Path, bool] = {}
        self._learnt = 0

    def of_file(self, path: Path, document: Document) -> Document:
        """A document of a file, without the name that pages beside it share."""
        if path.suffix.lower() not in _HTML:
            return document
        self._forget_many()
        place = next(filter(self._has_enough, self._around(path.parent)), None)
        return self._without(str(place), document) if place is not None else document

    def of_entry(self, file: str, address: str, document: Document) -> Document:
        """A page of an archive, without the name that those before it share."""
        self._forget_many()
        place = f"{file}#{_host(address)}"
        self._learn(place, document.title)
        return self._without(place, document)

    def _forget_many(self) -> None:
        if self._learnt > _MOST_TITLES:
            for kept in (self._titles, self._heads, self._looked):
                kept.clear()
            self._learnt = 0

    def _around(self, folder: Path) -> Iterator[Path]:
        """The folder whose pages tell the name: that of the page, or one above."""
        for base in (folder, *folder.parents[:2]):
            if base == self._root or self._root in base.parents:
                yield base

    def _has_enough(self, folder: Path) -> bool:
        if folder not in self._looked:
            found = sorted(islice(_pages_below(folder), _LISTED))
            for path in found[:: max(1, len(found) // _SAMPLE)]:
                self._learn(str(folder), _title_of(path))
            self._looked[folder] = len(found) >= FEWEST
        return self._looked[folder]

    def _learn(self, place: str, title: str) -> None:
        if not title:
            return
        self._learnt += 1
        ends = self._heads[place]
        self._titles[place].add(title)
        for cut in cuts_of(title):
            if says_something(cut.rest):
                # Chapter 1 and Chapter 2 say one thing
                ends[cut.end, cut.last].add(squeezed(_DIGITS.sub("", cut.rest)))

    def _without(self, place: str, document: Document) -> Document:
        ends = self._heads.get(place, {})
        for cut in cuts_of(document.title):
            sharing = len(ends.get((cut.end, cut.last), ()))
            least = (SHARE if cut.last else SHARE_IN_FRONT) * len(self._titles[place])
            if sharing >= max(FEWEST, least) and says_something(cut.rest):
                return replace(document, title=cut.rest, site=f"{document.site} {cut.name}".strip())
        return document


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc
    except ValueError:  # https://[ and the like
        return ""


def _pages_below(folder: Path) -> Iterator[Path]:
    for here, _, names in islice(os.walk(folder), _LISTED):
        yield from (Path(here, name) for name in names if Path(name).suffix.lower() in _HTML)


def _title_of(path: Path) -> str:
    """ "" where it cannot be told: what is wrong with the file is found when it is read itself."""
    try:
        if path.is_symlink() or not path.is_file():
            return ""
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    found = _TITLE.search(head.decode("utf-8", "replace"))
    return clean(html.unescape(found[1])) if found else ""
