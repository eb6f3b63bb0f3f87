"""Texts made comparable: SQuAD's normalisation, which MMSearch-R1's reward uses too (arXiv 2506.20670)."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces: the SQuAD v1.1 evaluation's rule, in its order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def is_correct(answer: str | None, answers: Iterable[str]) -> bool:
    """True when the answer equals any accepted one after normalisation; no answer, or one of nothing, is not."""
    if answer is None or not (found := normalize_answer(answer)):
        return False
    return any(found == normalize_answer(accepted) for accepted in answers)
