"""Texts made comparable: SQuAD's normalisation, which MMSearch-R1's reward uses too (arXiv 2506.20670)."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)

_GIVE_UP = re.compile(
    r"\W*(?:sorry\W+)?(?:i\s+am\s+|i'm\s+|it\s+is\s+)?(?:unable\s+to|unknown\W*$|not\s+(?:sure|known|possible)\W*$|"
    r"(?:i\s+)?(?:do\s+not|don't|cannot|can't|could\s+not)\s+(?:know|answer|determine|find|say|tell|identify)|"
    r"no\s+(?:answer|idea|information)\b|n/a\W*$|insufficient\s+information|(?:the\s+)?answer\s+is\s+unknown|"
    # the other languages of the prompt sets
    r"keine\s+antwort\s+möglich|(?:das\s+)?wei(?:ß|ss)\s+ich\s+nicht|ich\s+wei(?:ß|ss)\s+(?:es\s+)?nicht\W*$|unbekannt\W*$|"
    r"no\s+(?:es\s+posible|se\s+puede|puedo)\s+responder|no\s+(?:lo\s+)?sé\W*$|desconocido\W*$|"
    r"(?:缺少|没有)相关信息|无法回答|(?:我)?不知道\W*$|تتعذر\s+الإجابة|لا\s+(?:أعرف|يمكن\s+الإجابة))",
    re.IGNORECASE,
)


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


def gave_up(answer: str | None) -> bool:
    """No answer, or one that says that there is none ("Unable to answer due to lack of relevant information")."""
    return answer is None or not any(map(str.isalnum, answer)) or bool(_GIVE_UP.match(answer))
