"""Unicode's normal forms in a time that grows with the text: the standard library sorts the marks on a letter by
insertion, and sixty thousand of them take it five seconds."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Literal

MOST_MARKS = 30
"""On one letter: Unicode's Stream-Safe Text Format (UAX 15) allows as many; no writing needs more than a few."""


def normal_form(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """As `unicodedata.normalize`, without the marks on a letter after its first 30."""
    if len(text) > MOST_MARKS and not text.isascii():
        kept, marks = [], 0
        for letter in text:
            marks = marks + 1 if _is_mark(letter) else 0
            if marks <= MOST_MARKS:
                kept.append(letter)
        text = "".join(kept)
    return unicodedata.normalize(form, text)


@lru_cache(maxsize=4096)
def _is_mark(letter: str) -> bool:
    """Also one that becomes a mark when it is taken apart."""
    return letter > "\x7f" and unicodedata.combining(unicodedata.normalize("NFKD", letter)[0]) > 0
