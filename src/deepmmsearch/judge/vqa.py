"""VQA accuracy (Antol et al. 2015, arXiv 1505.00468, section 5), for OK-VQA and A-OKVQA: ten people answered.

An answer scores min(1, n / 3), where n of nine others gave it, averaged over the ten ways to leave one out.
"""

from __future__ import annotations

import re

from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

_DIGITS = {word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
_DIGITS["none"] = "0"
_BETWEEN_DIGITS = re.compile(r"(?<=\d),(?=\d)")
_POINT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_APOSTROPHES = re.compile(r"['’`]")
_PUNCTUATION = re.compile(r"[^\w\s.]|_")


def normalize_vqa(text: str) -> str:
    """Lower case, digits for zero to ten, no articles, no punctuation except decimal points."""
    low = _BETWEEN_DIGITS.sub("", text.lower())
    low = _PUNCTUATION.sub(" ", _APOSTROPHES.sub("", _POINT.sub("", low)))
    return " ".join(_DIGITS.get(w, w) for w in low.split() if w not in ("a", "an", "the"))


def judge_vqa(question: Question, answer: str) -> Verdict:
    """`question.metadata["direct_answers"]`: what all people answered, else `question.answers` with repetitions. Of
    fewer than three different people any match is right."""
    votes = [normalize_vqa(str(v)) for v in question.metadata.get("direct_answers") or question.answers]
    given = normalize_vqa(answer)
    same = votes.count(given) if given else 0
    if len(votes) < 3:
        return Verdict(float(same > 0), f"{same} of {len(votes)} agree")
    # Leaving out one who agrees leaves same - 1, which happens `same` times.
    score = (same * min(1.0, (same - 1) / 3) + (len(votes) - same) * min(1.0, same / 3)) / len(votes)
    return Verdict(score, f"{same} of {len(votes)} agree")
