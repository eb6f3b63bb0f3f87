"""Words that are in no page, replaced by the commonest word of the index that is nearly the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deepmmsearch.engine.backend import BackendSnapshot
from deepmmsearch.language.stems import spelling

SHORTEST, LONG, LONGEST = 4, 8, 40
"""Letters of a word that may have one wrong, and of one that may have two."""
_MOST_ALIKE = 50_000


def corrected(snapshot: BackendSnapshot, word: str, frequency: Callable[[str], int]) -> str | None:
    """The word that was meant, by how frequent each is; None for one that is too short, holds digits, or is like no
    other."""
    plain = spelling(word)
    if not (plain.isalpha() and SHORTEST <= len(plain) <= LONGEST):
        return None
    wrong = 2 if len(plain) >= LONG else 1
    for prefix in (plain[:2], plain[0], ""):
        near = [
            (distance, -frequency(other), other)
            for other in _alike(snapshot, prefix, plain, wrong)
            if (distance := apart(plain, other, wrong)) is not None
        ]
        known = [candidate for candidate in near if candidate[1]]
        if known:
            return min(known)[2]
    return None


def _alike(snapshot: BackendSnapshot, prefix: str, word: str, wrong: int) -> list[str]:
    """The words of the index that begin so and have about the letters of this one; without a prefix none where they are
    too many."""
    if "spelled" not in snapshot.derived:
        snapshot.derived["spelled"] = Spellings(snapshot.spelled("", _MOST_ALIKE))
    every: Spellings = snapshot.derived["spelled"]
    if len(every.words) < _MOST_ALIKE:
        return [other for other in every.alike(word, wrong) if other.startswith(prefix)]
    return Spellings(snapshot.spelled(prefix, _MOST_ALIKE)).alike(word, wrong) if prefix else []


class Spellings:
    """Words, with their lengths and letters as columns: a word that nobody has is compared with tens of thousands."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self._lengths = np.fromiter(map(len, words), np.int64, len(words))
        self._letters = _letters(words)

    def alike(self, word: str, wrong: int) -> list[str]:
        """Those that may have at most so many wrong letters: each is one letter more and one less."""
        letters = np.bitwise_count(self._letters ^ _letters([word])) <= 2 * wrong
        positions = np.flatnonzero(letters & (abs(self._lengths - len(word)) <= wrong))
        return [self.words[n] for n in positions.tolist()]


def _letters(words: Sequence[str]) -> np.ndarray:
    """uint64 (words,): a bit for each letter that is in a word; letters share 64 bits."""
    codes = np.array(words, dtype=f"U{LONGEST + 2}").view(np.uint32).reshape(len(words), LONGEST + 2)
    found = np.zeros(len(words), np.uint64)
    for letters in codes.T:
        found |= np.where(letters > 0, np.uint64(1) << (letters % 64).astype(np.uint64), np.uint64(0))
    return found


def apart(one: str, other: str, most: int) -> int | None:
    """How many letters are wrong, missing, too many or swapped with the next, up to `most`; None for more."""
    start = 0
    while start < len(one) and start < len(other) and one[start] == other[start]:
        start += 1
    one, other = one[start:], other[start:]
    if not one and not other:
        return 0
    if most == 0 or abs(len(one) - len(other)) > most:
        return None
    tries = [(one[1:], other[1:]), (one[1:], other), (one, other[1:])]
    if one[:2] == other[1::-1] and len(one) > 1 and len(other) > 1:
        tries.append((one[2:], other[2:]))
    found = [distance for a, b in tries if (distance := apart(a, b, most - 1)) is not None]
    return 1 + min(found) if found else None
