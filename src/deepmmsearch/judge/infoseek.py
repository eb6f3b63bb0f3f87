"""InfoSeek's own scoring (Chen et al. 2023, arXiv 2302.11713, relaxed accuracy), per type of question.

Texts and times: equal to any accepted answer after SQuAD's normalisation (the data set lists the ways to write a date).
Numbers: within the range that the data set gives (10 % around the answer); a range given as the answer counts when it
lies in that range or shares half of what both cover. Units are not read. As in the authors' script, an answer without a
number stands for 0, and a point that begins a number is dropped (.5 is read as 5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from deepmmsearch.judge.normalisation import normalize_answer
from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

TOLERANCE = 0.1
_NUMBER = re.compile(r"[-+]?\.?\d+(?:,\d{3})*\.?\d*(?:e[-+]?\d+)?", re.IGNORECASE)
_DASH_BEHIND_DIGIT = re.compile(r"(?<=\d)-")
_TINY = 1e-12

Range = tuple[float, float]


def judge_infoseek(question: Question, answer: str) -> Verdict:
    """`question.metadata`: `answer_type` (string, time or numerical), `answer_range` (low, high) of a numerical one."""
    if str(question.metadata.get("answer_type", "")).lower() != "numerical":
        said = normalize_answer(answer)
        right = any(said == normalize_answer(accepted) for accepted in question.answers)
        return Verdict(1.0, "equal") if right else Verdict(0.0, "not equal to any")
    given = _given(answer)
    accepted = _accepted(question.metadata.get("answer_range"), question.answers)
    right = any(_agrees(given, each) for each in accepted)
    return Verdict(1.0, "in the range") if right else Verdict(0.0, "outside the range")


def _accepted(given: Any, answers: Sequence[str]) -> list[Range]:
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2:
        low, high = sorted(float(end) for end in given)
        return [(low, high)]
    found = [_given(answer) for answer in answers if _NUMBER.search(answer)]
    return [each if isinstance(each, tuple) else _tolerated(each) for each in found]


def _tolerated(value: float) -> Range:
    low, high = sorted((value * (1 - TOLERANCE), value * (1 + TOLERANCE)))
    return low, high


def _given(text: str) -> float | Range:
    """The first two numbers as a range when they rise, else the first alone; without a number the range 0 to 0."""
    numbers = [_read(found) for found in _NUMBER.findall(_DASH_BEHIND_DIGIT.sub(" - ", text))][:2]
    if not numbers:
        return 0.0, 0.0
    return (numbers[0], numbers[1]) if len(numbers) == 2 and numbers[0] <= numbers[1] else numbers[0]


def _read(written: str) -> float:
    digits = written.replace(",", "").strip(".")
    try:
        return float(digits if digits.count(".") < 2 else digits.split(".")[0])
    except ValueError:  # a sign alone before two points: the authors' script ends here
        return 0.0


def _agrees(given: float | Range, accepted: Range) -> bool:
    low, high = accepted
    if not isinstance(given, tuple):
        return low <= given <= high
    if low <= given[0] and given[1] <= high:
        return True
    shared = max(0.0, min(given[1], high) - max(given[0], low))
    covered = (given[1] - given[0] + _TINY) + (high - low + _TINY) - shared
    return covered != 0 and shared / covered >= 0.5 - _TINY
