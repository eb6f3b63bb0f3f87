"""MathVista's own scoring (Lu et al. 2023, arXiv 2310.02255): an answer is extracted, brought into the form of the
accepted one, and compared letter by letter.

Officially a language model extracts it (`deepmmsearch.judge.officially` asks one). Here rules do: what stands behind
"the answer is", else the answer as it is; of a text around a single number, the number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from deepmmsearch.judge.choices import right_choice, stated
from deepmmsearch.judge.documents import distance
from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

# from the first one of a line: tried from each, a line of many would take long
_QUOTED = re.compile(r'^(?:(?!The answer is ").)*The answer is "(.*)"\.', re.MULTILINE)
_LETTER = re.compile(r"\(([a-zA-Z])\)")
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w.]*\d)")
LONGEST = 2000
"""Characters of an extracted answer that are compared with the options."""


def judge_mathvista(question: Question, answer: str) -> Verdict:
    """`question.metadata`: `choices` and `correct_choice`, or `answer_type` (numerical or a list) and `precision`."""
    return judge_extracted(question, extracted(question, answer))


def judge_extracted(question: Question, extraction: str) -> Verdict:
    """What a model, or `extracted`, made of the answer."""
    choices = [str(choice) for choice in question.metadata.get("choices") or ()]
    if choices:
        right, found = right_choice(question, choices), _nearest(extraction.strip(), choices)
        same = right is not None and choices[found] == choices[right]
        return Verdict(1.0, "the right option") if same else Verdict(0.0, "another option")
    found_text = _formed(question, extraction)
    right_text = found_text is not None and found_text in question.answers
    return Verdict(1.0, "equal") if right_text else Verdict(0.0, f"read as {found_text}")


def is_direct(question: Question, answer: str) -> bool:
    """Is it an answer as it stands, of which nothing has to be extracted: an option's text, or a number?"""
    return answer in (question.metadata.get("choices") or ()) or (
        question.metadata.get("answer_type") == "numerical" and _formed(question, answer) is not None
    )


def extracted(question: Question, answer: str) -> str:
    choices = question.metadata.get("choices") or ()
    if answer in choices or _formed(question, answer) in question.answers:
        return answer
    if quoted := _QUOTED.search(answer):
        return quoted[1]
    said = stated(answer)
    if choices:
        # an option's letter or text within brackets or in a sentence is read when it is formed
        return said.rstrip(".") if said != answer.strip() else answer
    if question.metadata.get("answer_type") == "numerical" and _formed(question, said) is None:
        numbers = {number.replace(",", "") for number in _NUMBER.findall(said)}
        return numbers.pop() if len(numbers) == 1 else answer
    return said


def _nearest(extraction: str, choices: Sequence[str]) -> int:
    """The option of the letter, in brackets or alone, else the one that is the fewest changes away."""
    if letter := _LETTER.search(extraction):
        extraction = letter[1].upper()
    number = ascii_uppercase.find(extraction) if len(extraction) == 1 else -1
    if 0 <= number < len(choices):
        return number
    away = [distance(extraction[:LONGEST], choice) for choice in choices]
    return away.index(min(away))


def _formed(question: Question, extraction: str) -> str | None:
    """An integer, a number with so many places, or the text of a list; None for what is not one."""
    if question.metadata.get("answer_type") != "numerical":
        return extraction
    precision = question.metadata.get("precision")
    try:
        value = float(extraction)
        return str(int(value)) if precision in (None, "") else str(round(value, int(precision)))
    except (ValueError, OverflowError):
        return None
