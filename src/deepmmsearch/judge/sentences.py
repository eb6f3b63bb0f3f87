"""A name within a sentence: is it what the sentence says, and the only thing that it says?"""

from __future__ import annotations

from deepmmsearch.judge.places import find_place, is_country, is_region
from deepmmsearch.judge.spelling import Phrase, read
from deepmmsearch.judge.statement import assertion
from deepmmsearch.judge.words import BREAKS, FILLERS, HEDGES, NO_OPENERS, PLACE_WORDS, POSSIBLY, RELATIONS, TITLES

MOST_TOKENS = 120


def said_in(reference: Phrase, given: Phrase, context: frozenset[str], head: str, place: bool) -> bool:
    """`context`: words of the question and of other accepted answers, `head` the first of them; `place`: a region may
    stand behind the name."""
    wanted = _bare(reference.tokens, words=True)
    tokens = _bare(given.tokens)
    proper = set(wanted) <= given.capitals
    regions = proper and (place or find_place(reference.text) is None) and not is_country(reference.text)
    size = len(wanted)
    if not size or len(tokens) > MOST_TOKENS:
        return False
    for at in range(len(tokens) - size + 1):
        if tuple(tokens[at : at + size]) != wanted:
            continue
        before, after = tokens[:at], tokens[at + size :]
        if HEDGES & {*before, *after} or RELATIONS & set(before) - context:
            continue
        alone = not _listed(given.tokens, set(wanted), context, proper, regions)
        if _opens(before, context) and _closes(after, context) and alone and _asserted(reference, given, context, head):
            return True
    return False


def _bare(tokens: tuple[str, ...], words: bool = False) -> tuple[str, ...]:
    return tuple(t for t in tokens if t not in ("a", "an", "the") and (not words or t[0].isalnum()))


def _asserted(reference: Phrase, given: Phrase, context: frozenset[str], head: str) -> bool:
    """Where the sentence says what the thing is, does it say this?"""
    said = assertion(given.text, context, head)
    words = {w for w in reference.words if w not in context} or set(reference.words)
    return said is None or words <= set(read(said).words)


def _opens(before: tuple[str, ...], context: frozenset[str]) -> bool:
    if not before or before[-1] in BREAKS or before[-1] in FILLERS - NO_OPENERS or before[-1] in TITLES:
        return True
    if before[-1] == "as":
        return before[-2:-1] == ("known",)
    if before[-1] == "of":
        return len(before) > 1 and before[-2] in PLACE_WORDS
    return before[-1] in context


def _closes(after: tuple[str, ...], context: frozenset[str]) -> bool:
    return not after or after[0] in BREAKS or after[0] in FILLERS or after[0] in context or after[0] == "and"


def _listed(tokens: tuple[str, ...], wanted: set[str], context: frozenset[str], proper: bool, regions: bool) -> bool:
    """Is it one of several things put side by side? "Paris, France" is not, nor "Paris, the capital", nor "Ardea alba
    (great egret)"; "red, blue and green" is. `proper`: it has capitals, so an article begins no other name. `regions`:
    one may stand behind it."""
    parts: list[list[str]] = [[]]
    bracket = False
    for token in tokens:
        if token in ("(", ")"):
            bracket = token == "("
        if token in BREAKS or token == "and":
            parts.append([])
        elif not bracket:
            parts[-1].append(token)
    known = (wanted | FILLERS | context) - POSSIBLY
    bare = [
        p for p in parts if p and not set(p) & known and len(p) <= 4 and not (proper and p[0] in ("a", "an", "the"))
    ]
    if not any(w[0].isdigit() for w in wanted | context):
        bare = [p for p in bare if not all(w[0].isdigit() for w in p)]
    if regions:
        bare = [p for p in bare if not is_region(" ".join(p))]
    return len(bare) > (1 if "(" in tokens else 0)
