"""Answers to questions of yes or no, in a word or in a sentence that repeats the question."""

from __future__ import annotations

import re

from deepmmsearch.judge.spelling import read
from deepmmsearch.judge.words import FILLERS

_YES = frozenset("yes yeah yep yup true sure ja oui si sim да 是 是的 对 はい".split())
_NO = frozenset("no nope nah false nein non não nao нет 否 不 不是 没有 いいえ".split())
_NEGATIONS = frozenset(
    "not never cannot no isnt arent wasnt werent doesnt dont didnt cant couldnt hasnt havent wont nicht kein".split()
)
_GOES_ON = frozenset("it they he she this that there i we you the not yes no or and but indeed sir".split())
_VERBS = _NEGATIONS - {"not", "never", "no", "nicht", "kein"} | frozenset(
    "is are was were be has have had do does did can could will would should must looks seems appears 's".split()
)
_SURELY = re.compile(
    r"^(?:absolutely|definitely|certainly|of course|indeed|exactly|well|clearly)\b[,!.\s]*", re.IGNORECASE
)
_REPEATS = re.compile(
    r"(?:it|they|he|she|this|that|there)\s+(?:is|was|are|were|does|do|did|can|could|has|have|had|will)"
    r"(?:n't|\s+not)?(?=$|[,.;!])",
    re.IGNORECASE,
)


def polarity(text: str, context: frozenset[str] | None = None) -> bool | None:
    """Yes (True), no (False), or neither. `context`: words of the question; a sentence of nothing else answers it."""
    surely = _SURELY.match(text)
    phrase = read((text[surely.end() :] or "yes") if surely else text)
    words = [w for w in phrase.tokens if w[0].isalnum()]
    if not words:
        return None
    said = set(words)
    if words[0] in _YES | _NO and (len(words) == 1 or not phrase.tokens[1][0].isalnum() or words[1] in _GOES_ON):
        first = words[0] in _YES
        both = said & (_NO if first else _YES) or said & {"or", "but", "maybe"}
        denied = first and len(words) == 2 and words[1] in _NEGATIONS
        return None if both or denied else first
    if context is None or said & {"or", "but", "maybe"}:
        return None
    if len(words) == 2 and words[0] == "not" and words[1] in _YES | _NO:
        return words[1] in _NO
    known = context | FILLERS | {"a", "an", "the", "and", "of", "be", "able"}
    repeats = (
        words[0] not in _VERBS and said & _VERBS and said & (context - FILLERS) and said - _NEGATIONS - _VERBS <= known
    )
    return not said & _NEGATIONS if repeats or _REPEATS.match(text) else None
