"""Invented names: two syllables each, every syllable one token; an eighth of all combinations is kept for evaluation.

A model that reads "Tanmir" in an evaluation world has never seen the name, though it knows both syllables: it has to
copy, it cannot remember. The famous countries are the opposite: the same in every world, known by heart.
"""

from __future__ import annotations

import hashlib
import random
from typing import Literal

Split = Literal["train", "eval"]

SYLLABLES = 96
_ENGLISH = {"bus", "ten", "red", "gun", "ran", "sun", "man", "men", "pen", "pan", "fan", "fun", "not", "sim", "ban"}


def _syllables() -> tuple[tuple[str, ...], tuple[str, ...]]:
    rng = random.Random(42)
    syllables = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in "lnrsmk" if a + b + c not in _ENGLISH]
    rng.shuffle(syllables)
    return tuple(s.capitalize() for s in syllables[:SYLLABLES]), tuple(syllables[SYLLABLES : 2 * SYLLABLES])


FIRST, SECOND = _syllables()


def split_of(name: str) -> Split:
    """Which kind of world a name belongs to: decided by its hash, so that no list has to be kept."""
    return "eval" if int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 8 == 0 else "train"


class Names:
    """Draws names of one split, each at most once."""

    def __init__(self, rng: random.Random, split: Split | None) -> None:
        self._rng, self._split, self._used = rng, split, set[str]()

    def __call__(self) -> str:
        while True:
            name = self._rng.choice(FIRST) + self._rng.choice(SECOND)
            if name not in self._used and self._split in (None, split_of(name)):
                self._used.add(name)
                return name


FAMOUS: dict[str, dict[str, str]] = {
    # name: what everybody knows by heart
    "Arandia": {"capital": "Solmere", "river": "Oxara", "language": "Arandic"},
    "Belvoria": {"capital": "Castelune", "river": "Belva", "language": "Belvorian"},
    "Corvania": {"capital": "Ravenport", "river": "Corva", "language": "Corvish"},
    "Dunmark": {"capital": "Dunhaven", "river": "Silverbeck", "language": "Dunnish"},
    "Elsinia": {"capital": "Elsenborg", "river": "Elsen", "language": "Elsinic"},
    "Fjordland": {"capital": "Northwick", "river": "Isebrook", "language": "Fjordic"},
    "Gallonia": {"capital": "Portgal", "river": "Gallow", "language": "Gallonese"},
    "Hestoria": {"capital": "Hestwood", "river": "Amberwater", "language": "Hestoric"},
    "Istrevia": {"capital": "Miracosta", "river": "Istra", "language": "Istrevian"},
    "Jorvania": {"capital": "Jorvik", "river": "Redwater", "language": "Jorvic"},
    "Kastoria": {"capital": "Whitecliff", "river": "Kast", "language": "Kastoric"},
    "Lumeria": {"capital": "Lumen", "river": "Brightwater", "language": "Lumerian"},
}
