"""Each benchmark's own scoring, chosen by what its loader wrote into the question's metadata.

`judge` names one; `answer_range`, and all of InfoSeek: InfoSeek's rule; `direct_answers`: VQA accuracy; `answer_type`
choice: the letter or the text of the option, list: everything on one of the lists; `match` contains (OCRBench), anls
(DocVQA, InfographicVQA). The rest, and the atlas: the reward's rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from deepmmsearch.judge.normalisation import is_correct, normalize_answer
from deepmmsearch.judge.numerals import plain
from deepmmsearch.judge.rules import JUDGES
from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

_LETTER = re.compile(r"\(?([A-Za-z])\)?(?:[.:)]\s*(.*))?", re.DOTALL)


def judge_official(question: Question, answer: str) -> Verdict:
    """Raises UnknownName where the question names a judge that is not installed."""
    return JUDGES.find(_scorer(question))(question, answer)


def _scorer(question: Question) -> str:
    metadata = question.metadata
    if named := metadata.get("judge"):
        return str(named)
    if metadata.get("benchmark") == "infoseek" or metadata.get("answer_range"):
        return "infoseek"
    if metadata.get("direct_answers"):
        return "vqa"
    kind, match = metadata.get("answer_type"), metadata.get("match")
    return kind if kind in ("choice", "list") else match if match in ("contains", "anls") else "reward"


def judge_choice(question: Question, answer: str) -> Verdict:
    """The letter of the right option, its text, or both together; a letter with another option's text is wrong."""
    choices = [str(c) for c in question.metadata.get("choices") or ()]
    right = next((c for c in choices if c in question.answers), "")
    letter = chr(ord("A") + choices.index(right)) if right else ""
    found = _LETTER.fullmatch(plain(answer).strip())
    if found and (found[2] or not is_correct(answer, [right])):
        same = found[1].upper() == letter and (not found[2] or is_correct(found[2], [right]))
    else:
        same = is_correct(answer, [right])
    return Verdict(1.0, "the right option") if same else Verdict(0.0, "another option")


def judge_list(question: Question, answer: str) -> Verdict:
    """Everything on at least one of `answer_lists` is named (Encyclopedic-VQA, MM-Vet)."""
    said = f" {normalize_answer(answer)} "
    for items in question.metadata.get("answer_lists") or [question.answers]:
        if all(f" {normalize_answer(str(item))} " in said for item in items):
            return Verdict(1.0, "all named")
    return Verdict(0.0, "not all named")


def judge_contains(question: Question, answer: str) -> Verdict:
    """An accepted answer stands within the answer (OCRBench)."""
    said = " ".join(answer.lower().split())
    right = any(" ".join(a.lower().split()) in said for a in question.answers)
    return Verdict(1.0, "contained") if right else Verdict(0.0, "not contained")


def judge_anls(question: Question, answer: str) -> Verdict:
    """Average normalised Levenshtein similarity (Biten et al. 2019, arXiv 1905.13648), 0 below a half."""
    similarity = max((_similarity(answer, accepted) for accepted in question.answers), default=0.0)
    return Verdict(similarity if similarity >= 0.5 else 0.0, f"similarity {similarity:.2f}")


def _similarity(one: str, other: str) -> float:
    one, other = (" ".join(t.lower().split()) for t in (one, other))
    longest = max(len(one), len(other))
    return 1 - _distance(one[:2000], other[:2000]) / longest if longest else 0.0


def _distance(one: Sequence[str], other: Sequence[str]) -> int:
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        diagonal, row[0] = row[0], number
        for at, against in enumerate(other, 1):
            diagonal, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, diagonal + (letter != against))
    return row[-1]
