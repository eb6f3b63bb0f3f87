"""Texts that were read from a picture: OCRBench, DocVQA and InfographicVQA."""

from __future__ import annotations

from collections.abc import Sequence

from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

FORMULAS = "HME100k"
LEAST_SIMILARITY = 0.5


def judge_contains(question: Question, answer: str) -> Verdict:
    """OCRBench (arXiv 2305.07895): an accepted answer stands within the answer. Case does not matter, except in the
    formulas of HME100k, where spaces do not."""
    made = _formula if question.metadata.get("dataset") == FORMULAS else _line
    said = made(answer)
    right = any(made(accepted) in said for accepted in question.answers)
    return Verdict(1.0, "contained") if right else Verdict(0.0, "not contained")


def _line(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")


def judge_anls(question: Question, answer: str) -> Verdict:
    """Average normalised Levenshtein similarity (Biten et al. 2019, arXiv 1905.13648), 0 below a half. The distance is
    that of the texts in lower case with single spaces; it is divided by the length of the longer text as given."""
    best = max((_similarity(answer, accepted) for accepted in question.answers), default=0.0)
    return Verdict(best if best >= LEAST_SIMILARITY else 0.0, f"similarity {best:.2f}")


def _similarity(answer: str, accepted: str) -> float:
    longest = max(len(answer.upper()), len(accepted.upper()))
    one, other = (" ".join(text.strip().lower().split()) for text in (answer, accepted))
    apart = abs(len(one) - len(other))
    # so far apart in length that it is 0 in any case
    if longest and apart / longest > 1 - LEAST_SIMILARITY:
        return 1 - apart / longest
    return 1 - distance(one, other) / longest if longest else 1.0


def distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Levenshtein's: how many letters are to be changed, added or taken away."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        diagonal, row[0] = row[0], number
        for at, against in enumerate(other, 1):
            diagonal, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, diagonal + (letter != against))
    return row[-1]
