"""Texts made comparable: SQuAD's normalisation, which MMSearch-R1's reward uses too (arXiv 2506.20670)."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces: the SQuAD v1.1 evaluation's rule, in its order."""
    return " ".join(_ARTICLES.sub(" ", _without_punctuation(text)).split())


def _without_punctuation(text: str) -> str:
    return " ".join(text.lower().translate(_PUNCTUATION).split())


def is_correct(answer: str | None, answers: Iterable[str]) -> bool:
    """True when the answer equals any accepted one after normalisation; no answer, or one of nothing, does not."""
    if answer is None:
        return False
    if found := normalize_answer(answer):
        return any(found == normalize_answer(accepted) for accepted in answers)
    # articles alone say nothing but what is accepted in the same letters: the choice A
    bare = _without_punctuation(answer)
    return bool(bare) and any(bare == _without_punctuation(accepted) for accepted in answers)
