"""Each benchmark's own scoring, chosen by what its loader wrote into the question's metadata.

`answer_range`, and all of InfoSeek: InfoSeek's rule; `direct_answers`: VQA accuracy;
`choice`: the letter or the text of the option; `list`: everything on one of the lists; `match: contains` (OCRBench);
`match: anls` (DocVQA, InfographicVQA). The rest, and the atlas: the reward's rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from deepmmsearch.judge.infoseek import judge_infoseek
from deepmmsearch.judge.numerals import plain
from deepmmsearch.judge.reward import judge_reward
from deepmmsearch.judge.text import is_correct, normalize_answer
from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.judge.vqa import judge_vqa
from deepmmsearch.types import Question

_LETTER = re.compile(r"\(?([A-Za-z])\)?(?:[.:)]\s*(.*))?", re.DOTALL)


def judge_official(question: Question, answer: str) -> Verdict:
    kind, match = question.metadata.get("answer_type"), question.metadata.get("match")
    if question.metadata.get("benchmark") == "infoseek" or question.metadata.get("answer_range"):
        return judge_infoseek(question, answer)
    if question.metadata.get("direct_answers"):
        return judge_vqa(question, answer)
    if kind == "choice":
        return judge_choice(question, answer)
    if kind == "list":
        return judge_list(question, answer)
    if match == "contains":
        return judge_contains(question, answer)
    if match == "anls":
        return judge_anls(question, answer)
    return judge_reward(question, answer)


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
