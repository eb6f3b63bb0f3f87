"""Encyclopedic-VQA's exact match (Mensink et al. 2023, arXiv 2306.09224).

Lists are right when what both name is at least half of what either names. The authors ask BEM, a model, about what does
not match (`deepmmsearch.judge.officially`); without it the figures are lower bounds.
"""

from __future__ import annotations

import re
import string

from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

LEAST_OVERLAP = 0.5
_PUNCTUATION = str.maketrans("", "", string.punctuation + "‘’´")
_EMPTY_WORDS = re.compile(r"\b(?:the answer is|a|an|the)\b")
_SPAN = "<extra_id_0> "
_WORDS = {word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
_WORDS |= {"none": "0", "entailment": "yes", "true": "yes", "contradiction": "no", "false": "no"}


def normalize_encyclopedic(text: str) -> str:
    """Lower case, no punctuation, no articles, digits for zero to ten, yes and no for true and false."""
    text = text.lower().replace("\n", " ").replace("\t", " ").strip()
    if text.startswith(_SPAN):
        text = text.replace(_SPAN, "")
    words = _EMPTY_WORDS.sub(" ", text.translate(_PUNCTUATION)).split()
    return " ".join(_WORDS.get(word, word) for word in words)


def judge_encyclopedic(question: Question, answer: str) -> Verdict:
    """`question.metadata`: `question_type` (multi_answer is a list), `answer_lists`."""
    if question.metadata.get("question_type") != "multi_answer":
        said = normalize_encyclopedic(answer)
        right = said != "" and any(said == normalize_encyclopedic(reference) for reference in question.answers)
        return Verdict(1.0, "equal") if right else Verdict(0.0, "not equal to any; BEM was not asked")
    items = answer.replace(" and ", ",").replace(" & ", ",").split(",")
    lists = question.metadata.get("answer_lists") or [[reference] for reference in question.answers]
    best = max((_overlap(list(map(str, each)), items) for each in lists), default=0.0)
    if best >= LEAST_OVERLAP:
        return Verdict(1.0, f"overlap {best:.2f}")
    return Verdict(0.0, f"overlap {best:.2f}; BEM was not asked")


def _overlap(reference: list[str], given: list[str]) -> float:
    """Intersection over union."""
    one, other = ({made for item in items if (made := normalize_encyclopedic(item))} for items in (reference, given))
    return len(one & other) / len(one | other) if one else 0.0
