"""InfoSeek's own scoring (Chen et al. 2023, arXiv 2302.11713, relaxed accuracy), per type of question.

Texts and times: exact match with any accepted answer after SQuAD's normalisation (the data set lists the ways to write
a date). Numbers: within 10 % of the answer, or within the range that the data set gives; a range given as the answer
counts when it lies in that range or shares half of what both cover.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from deepmmsearch.judge.normalisation import is_correct
from deepmmsearch.judge.numerals import plain
from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

TOLERANCE = 0.1
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?|[-+]?\.\d+", re.IGNORECASE)
_DASH_BEHIND_DIGIT = re.compile(r"(?<=\d)\s*-")


def judge_infoseek(question: Question, answer: str) -> Verdict:
    """`question.metadata`: `answer_type` (string, time or numerical), `answer_range` (low, high) of a numerical one."""
    if str(question.metadata.get("answer_type", "")).lower() != "numerical":
        right = is_correct(answer, question.answers)
        return Verdict(1.0, "equal") if right else Verdict(0.0, "not equal to any")
    given = _interval(answer)
    if given is None:
        return Verdict(0.0, "no number")
    accepted = _accepted(question.metadata.get("answer_range"), question.answers)
    right = any(_agrees(given, interval) for interval in accepted)
    return Verdict(1.0, "in the range") if right else Verdict(0.0, "outside the range")


def _accepted(given: Any, answers: Sequence[str]) -> list[tuple[float, float]]:
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2:
        low, high = sorted(float(end) for end in given)
        return [(low, high)]
    found = [interval for answer in answers if (interval := _interval(answer)) is not None]
    return [(low, high) if low < high else _tolerated(low) for low, high in found]


def _tolerated(value: float) -> tuple[float, float]:
    low, high = sorted((value * (1 - TOLERANCE), value * (1 + TOLERANCE)))
    return low, high


def _interval(text: str) -> tuple[float, float] | None:
    """The first two numbers as an interval when they rise, else the first alone; None without a number."""
    numbers = [float(n.replace(",", "")) for n in _NUMBER.findall(_DASH_BEHIND_DIGIT.sub(" ", plain(text)))][:2]
    if not numbers:
        return None
    return (numbers[0], numbers[1]) if len(numbers) == 2 and numbers[0] <= numbers[1] else (numbers[0], numbers[0])


def _agrees(given: tuple[float, float], accepted: tuple[float, float]) -> bool:
    slack = 1e-9 * max(map(abs, accepted))
    if accepted[0] - slack <= given[0] and given[1] <= accepted[1] + slack:
        return True
    shared = min(given[1], accepted[1]) - max(given[0], accepted[0])
    covered = max(given[1], accepted[1]) - min(given[0], accepted[0])
    return shared > 0 and shared / covered >= 0.5
