"""Texts cut into words, of any script, without anything that has to be installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from deepmmsearch.language.scripts import HANGUL, IDEOGRAPHIC, MARKS, RUNS, SYLLABIC, UNSEEN
from deepmmsearch.normal_forms import normal_form

_LETTERS = rf"[^\W_{RUNS}]+(?:[{MARKS}{UNSEEN}]+[^\W_{RUNS}]*)*"
_JOINT = r"(?:[-‐‑_'’ʼ.&·׳״]|(?<=\d),(?=\d))"
TOKEN = re.compile(rf"{_LETTERS}(?:{_JOINT}{_LETTERS})*(?:\+\+|#(?!\w))?|[{RUNS}]+")
"""What stands between blanks and punctuation: words with what joins their parts, and runs without word ends."""

_PLAIN = re.compile(rf"{_LETTERS}|[{RUNS}]+")
_RUN = re.compile(rf"[{RUNS}]")
_HANGUL, _SYLLABIC = re.compile(f"[{HANGUL}]"), re.compile(f"[{SYLLABIC}]")
_PIECE = re.compile(rf"[{IDEOGRAPHIC}]+|[{HANGUL}]+|[{SYLLABIC}]+")
_LINE_END = re.compile(r"(?<=[^\W\d_])[-‐]\s*\n\s*(?=[^\W\d_])")
_UNSEEN = re.compile(f"[{UNSEEN}]")


class Word(NamedTuple):
    """`text` is what stands from `start` to `end` of its text."""

    text: str
    start: int
    end: int


def words(text: str) -> Iterator[Word]:
    """The words in order; a run of a script without word ends is one."""
    for found in TOKEN.finditer(text):
        yield Word(found[0], *found.span())


def plain_words(text: str) -> list[str]:
    """The words in normal form without what joins them (`wi-fi` is two), runs of a script without word ends whole: for
    comparing what texts say, where stems would say too much."""
    return _PLAIN.findall(composed(text))


def is_run(token: str) -> bool:
    return _RUN.match(token) is not None


def composed(token: str) -> str:
    """In normal form NFKC, without what cannot be seen."""
    return token if token.isascii() else normal_form("NFKC", _UNSEEN.sub("", token))


def chunks(text: str) -> list[str]:
    """What stands between blanks, words cut by a line's end put together: no word goes over the end of one."""
    return (_LINE_END.sub("-", text) if "-\n" in text or "‐\n" in text else text).split()


def grams(run: str) -> list[str]:
    """What a run of a script without word ends is found by: its pairs of characters, in Han and kana single ones too;
    of three where the marks of vowels and tones count as characters."""
    found: list[str] = []
    for piece in _PIECE.findall(composed(run)):
        if _SYLLABIC.match(piece):
            found += _grams(piece, 3)
        else:
            found += _grams(piece, 2)
            if len(piece) > 1 and not _HANGUL.match(piece):
                found += piece
    return found


def _grams(piece: str, size: int) -> list[str]:
    if len(piece) <= size:
        return [piece]
    return [piece[i : i + size] for i in range(len(piece) - size + 1)]
