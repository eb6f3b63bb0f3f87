"""A piece of a hit's text around the words that were searched for, cut so that those can be shown apart."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deepmmsearch.errors import MissingExtra
from deepmmsearch.escaping import one_line
from deepmmsearch.language.detection import language_of
from deepmmsearch.language.segmentation import is_run, words
from deepmmsearch.language.stems import terms

LONGEST = 240
_READ, _ASKED, _BEFORE = 4_000, 500, 60


def excerpt(query: str, text: str) -> list[str]:
    """Texts in order, of which every second one (the first is no such) is a word of the query in one of its forms.
    Together one line of at most LONGEST characters; without a query its beginning in one piece."""
    line = one_line(text[:_READ])
    found = list(_found(query[:_ASKED], line))
    first = found[0][0] if found else 0
    begin = line.rfind(" ", 0, first - _BEFORE) + 1 if first > LONGEST - _BEFORE else 0
    room = LONGEST - (begin > 0)  # beside the ellipses
    end = len(line) if len(line) - begin <= room else begin + room - 1
    parts, at = [], begin
    for start, stop in found:
        if at <= start and stop <= end:
            parts += [line[at:start], line[start:stop]]
            at = stop
    parts.append(line[at:end] + "…" * (end < len(line)))
    return ["…" * (begin > 0) + parts[0], *parts[1:]]


def _found(query: str, line: str) -> Iterator[tuple[int, int]]:
    """Start and end of each word, in order."""
    try:
        analysed = terms(language_of(line))
    except MissingExtra:  # nothing is marked without the package that stems
        return
    sought = {term for word in words(query) for term in analysed.asked(word.text)}
    runs = "|".join(re.escape(term) for term in sorted(sought, key=len, reverse=True) if len(term) > 1)
    for word in words(line) if sought else ():
        if not is_run(word.text):
            if not sought.isdisjoint(analysed.asked(word.text)):
                yield word.start, word.end
        elif runs:
            yield from _joined((m.start(1), m.end(1), word.start) for m in re.finditer(f"(?=({runs}))", word.text))


def _joined(spans: Iterator[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Pairs of characters that overlap are one."""
    begin, end = -1, -1
    for start, stop, offset in spans:
        if begin < 0 or start + offset > end:
            if begin >= 0:
                yield begin, end
            begin = start + offset
        end = max(end, stop + offset)
    if begin >= 0:
        yield begin, end
