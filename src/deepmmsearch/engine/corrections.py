"""Words that are in no page, replaced by the commonest word of the index that is nearly the same."""

from __future__ import annotations

from collections.abc import Callable

from deepmmsearch.engine.storage import Snapshot
from deepmmsearch.language.stems import spelling

SHORTEST, LONG, LONGEST = 4, 8, 40
"""Letters of a word that may have one wrong, and of one that may have two."""
_MOST_ALIKE = 50_000


def corrected(snapshot: Snapshot, word: str, frequency: Callable[[str], int]) -> str | None:
    """The word that was meant, by how frequent each is; None for one that is too short, holds digits, or is like no
    other."""
    plain = spelling(word)
    if not (plain.isalpha() and SHORTEST <= len(plain) <= LONGEST):
        return None
    wrong = 2 if len(plain) >= LONG else 1
    for prefix in (plain[:2], plain[0], ""):
        near = [
            (distance, -frequency(other), other)
            for other in snapshot.spelled(prefix, _MOST_ALIKE)
            if abs(len(other) - len(plain)) <= wrong and (distance := apart(plain, other, wrong)) is not None
        ]
        known = [candidate for candidate in near if candidate[1]]
        if known:
            return min(known)[2]
    return None


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
