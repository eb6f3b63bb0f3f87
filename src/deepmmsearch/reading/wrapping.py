"""Lines that an editor broke, put together again to the paragraphs that were written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

# columns: shorter lines are verses or lists, longer ones were broken by nobody
NARROWEST, WIDEST = 45, 140
_SOFT_HYPHEN = "\u00ad"
_QUOTE = re.compile(r"[ ]{0,3}(?:>[ ]?)+")
_ITEM = re.compile(
    r"\s*(?:[-*+•·‣▪–—]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)]|#\.|\[[ xX]\])\s+\S"
    r"|[A-Z][\w-]{1,20}:\s|\d[\d:/.-]{4,}\s|\[[^\]]{1,40}\]\s|--\s*$"
)
_APART = re.compile(r"\S\s{3,}\S|\t|[{}\\|]$|^\s*[|+#<{$]|^\W+$|^\s*>>>")
_SENTENCE_END = re.compile(r"[.!?…:;。！？।؟۔։።။][\"'”’»)\]」』]{0,3}$")


def joined(line: str, following: str) -> str:
    """A line as it goes on in the `following` one: with a blank, or without one where their script has none."""
    if line[-1:].isspace():
        line = line.rstrip()
    if not line or not following:
        return line
    if line[-1] == _SOFT_HYPHEN:
        return line[:-1]
    if line[-1] == "-" and line[-2:-1].isalpha() and following.lstrip()[:1].islower():  # well-known, not a broken word
        return line
    return line if _unspaced(line[-1]) and _unspaced(following.lstrip()[:1]) else line + " "


def unwrapped(text: str) -> str:
    """Each paragraph that was wrapped as one line. What breaks its lines for reasons of its own keeps them: lists,
    verses, code, tables, addresses. Empty lines stand between paragraphs, one each."""
    lines = [line.rstrip() for line in text.expandtabs(4).split("\n")]
    blocks = [list(block) for filled, block in groupby(lines, key=bool) if filled]
    usual = _usual_width(blocks)
    return "\n\n".join("\n".join(_unwrapped(block, usual)) for block in blocks)


def _usual_width(blocks: Sequence[Sequence[str]]) -> int:
    """Of the paragraphs that are evidently wrapped, 0 where none is."""
    found = sorted(max(map(width, block)) for block in blocks if len(block) > 2 and _is_wrapped(block, 0))
    return found[len(found) // 2] if found else 0


def _unwrapped(lines: Sequence[str], usual: int) -> list[str]:
    mark = _QUOTE.match(lines[0])
    if mark and all(line.startswith(mark[0].rstrip()) for line in lines):
        inner = [line[len(mark[0]) :] if line.startswith(mark[0]) else "" for line in lines]
        return [mark[0] + line for line in _unwrapped(inner, usual)] if all(inner) else list(lines)
    found: list[str] = []
    for item in _items(lines):
        if len(item) == 1 or not _is_wrapped(item, usual):
            found += item
            continue
        widest = _widest(item)
        line = item[0]
        for before, after in pairwise(item):
            if _is_full(before, after, widest) or not _breaks(before, widest, first=before is item[0]):
                line = joined(line, after.lstrip()) + after.lstrip()
            else:
                found.append(line)
                line = after
        found.append(line)
    return found


def _items(lines: Sequence[str]) -> Iterator[list[str]]:
    """The lines of a paragraph, of each item of a list, and alone what is laid out."""
    item: list[str] = []
    for line in lines:
        apart = _APART.search(line) is not None
        deeper = len(item) > 1 and _indent(line) > _indent(item[-1])
        if item and (apart or deeper or _ITEM.match(line)):
            yield item
            item = []
        item.append(line)
        if apart:
            yield item
            item = []
    if item:
        yield item


def _is_wrapped(lines: Sequence[str], usual: int) -> bool:
    """Would the first word of nearly each line not have fitted into the line before it?"""
    widest = _widest(lines)
    if not NARROWEST <= widest <= WIDEST or any(_APART.search(line) or _is_one_word(line) for line in lines[:-1]):
        return False
    if len(lines) > 2 and widest < (55 if len(lines) == 3 else 75) and all(_begins_verse(line) for line in lines[1:]):
        return False
    pairs = list(pairwise(lines))
    if len(pairs) == 1:  # any two lines look so
        ends = _SENTENCE_END.search(lines[0]) or len(lines[1]) > len(lines[0]) + 20
        return not ends and _is_full(*pairs[0], widest) and (widest > 0.75 * usual if usual else widest > 60)
    short = [a for n, (a, b) in enumerate(pairs) if not _is_full(a, b, widest) and not _breaks(a, widest, n == 0)]
    full = sum(_is_full(a, b, widest) for a, b in pairs)
    return len(short) <= len(pairs) // 10 and 2 * full >= len(pairs)


def _begins_verse(line: str) -> bool:
    return line.lstrip(" \"'“‘«„([—–-")[:1].isupper()


def _widest(lines: Sequence[str]) -> int:
    return max((width(line) for line in lines if "://" not in line), default=0)


def _is_full(line: str, following: str, widest: int) -> bool:
    following = following.lstrip()
    if _unspaced(following[:1]):
        return width(line) + 4 > widest
    return width(line) + 1 + width(following.split(" ", 1)[0]) > widest


def _breaks(line: str, widest: int, first: bool) -> bool:
    """Does a line that is not full end what it says? A heading does, too."""
    return _SENTENCE_END.search(line[-8:]) is not None or (first and 2 * width(line) < widest)


def _is_one_word(line: str) -> bool:
    return " " not in line.strip() and len(line) > 20 and "://" not in line and not _unspaced(line.strip()[0])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _unspaced(letter: str) -> bool:
    """Of a script without blanks between words; Korean has them."""
    return (
        "\u2e80" <= letter <= "\u9fff"
        or "\uf900" <= letter <= "\ufaff"
        or "\uff01" <= letter <= "\uff60"
        or "\U00020000" <= letter <= "\U0003ffff"
        or "\u0e00" <= letter <= "\u0eff"
    )


def width(text: str) -> int:
    """In columns of a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
