"""Each benchmark's own scoring against what the authors' code says (data/official/README.md)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from deepmmsearch.judge import RuleJudge
from deepmmsearch.judge.choices import read_choice
from deepmmsearch.judge.mathvista import judge_extracted, judge_mathvista
from deepmmsearch.judge.official import counts
from deepmmsearch.types import Question

FOLDER = Path(__file__).parent / "data" / "official"
NAMES = sorted(path.name.removesuffix(".jsonl.gz") for path in FOLDER.glob("*.jsonl.gz"))


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress((FOLDER / f"{name}.jsonl.gz").read_bytes()).splitlines()]


def asked(*answers: str, **metadata: Any) -> Question:
    return Question("q", "What is it?", (), answers, metadata)


def score(question: Question, answer: str) -> float:
    return RuleJudge("official").verdict(question, answer).score


@pytest.mark.parametrize("name", NAMES)
def test_the_authors_code_says_the_same(name: str) -> None:
    differ = []
    rows = read(name)
    for row in rows:
        question = asked(*row["answers"], **{"benchmark": name, **row["metadata"]})
        if row["score"] is None:
            found = None if not counts(question) else "counted"
        elif name == "mathvista":
            found = judge_extracted(question, row["answer"]).score
        else:
            found = score(question, row["answer"])
        if found is None or row["score"] is None:
            differ += [(row, found)] if found != row["score"] else []
        elif found != pytest.approx(row["score"], abs=1e-9):
            differ.append((row, found))
    assert len(rows) == 500 and not differ, differ[:3]


# -- letters of choices

ANIMALS = ("cat", "hot dog", "lion", "a stop sign")


@pytest.mark.parametrize(
    "answer",
    [
        "B",
        "b",
        "(B)",
        "(b)",
        "B.",
        "B)",
        "**B**",
        "`B`",
        '"B"',
        "\\boxed{B}",
        "$\\boxed{B}$",
        "\\boxed{\\text{B}}",
        "B hot dog",
        "B. hot dog",
        "B: Hot dog.",
        "(B) hot dog",
        "**B. hot dog**",
        "hot dog",
        "A hot dog",
        "a hot dog.",
        "The hot dog",
        "Option B",
        "Choice (B)",
        "option b",
        "The answer is B",
        "The answer is B.",
        "The answer is (B).",
        "The answer is **B**.",
        "The answer is option B.",
        "The answer is: B",
        "Answer: B",
        "The answer is a hot dog.",
        "The answer is B. hot dog.",
        "The correct answer is B because there is a bun.",
        "Option A is wrong. The answer is B.",
        "I see a bun, so the correct option is B.",
        "A is wrong, B is right. The answer is B.",
        "It is a hot dog.",
        "Final answer: \\boxed{B}",
    ],
)
def test_an_option_is_read(answer: str) -> None:
    assert read_choice(answer, ANIMALS) == 1


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("A", 0),
        ("A cat", 0),
        ("A. cat", 0),
        ("A stop sign", 3),
        ("a stop sign", 3),
        ("D", 3),
        ("B. lion", None),
        ("B lion", None),
        ("A or B", None),
        ("cat or lion", None),
        ("neither", None),
        ("E", None),
        ("all of A, B, C and D", None),
        ("category", None),
        ("A cat, B hot dog, C lion, D a stop sign", None),
        ("The answer is not given.", None),
        ("", None),
    ],
)
def test_other_options_and_none(answer: str, found: int | None) -> None:
    assert read_choice(answer, ANIMALS) == found


def test_options_that_are_letters_are_not_confused() -> None:
    mixed = ("C", "A", "B")
    # a capital alone is the option's letter, with its text it is both; small letters are texts where they are options
    assert [read_choice(a, mixed) for a in ("A", "B", "C", "A. C", "B. A", "The answer is B.")] == [0, 1, 2, 0, 1, 1]
    assert read_choice("A. B", mixed) is None
    assert [read_choice(a, ("b", "a", "x", "y")) for a in ("a", "b", "A", "D", "x", "c")] == [1, 0, 0, 3, 2, 2]
    vitamins = ("vitamin B", "vitamin C", "iron")
    assert [read_choice(a, vitamins) for a in ("vitamin C", "It is vitamin C.", "C", "B")] == [1, 1, 2, 1]


def test_a_choice_of_aokvqa_is_its_text_first() -> None:
    question = asked("A", "b", benchmark="aokvqa-choices", choices=["b", "a", "B", "x"], correct_choice="B")
    assert [score(question, answer) for answer in ("B", "b", "C", "The answer is C.")] == [1, 0, 1, 1]


# -- what the scorers' data cannot show


def test_direct_answers_that_their_authors_leave_out() -> None:
    hard = asked("wave", benchmark="aokvqa", direct_answers=["wave"] * 10, difficult_direct_answer=True)
    assert not counts(hard) and not RuleJudge("official").counts(hard)
    assert RuleJudge("reward").counts(hard)
    assert counts(asked("wave", benchmark="aokvqa", direct_answers=["wave"] * 10, difficult_direct_answer=False))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("14", "14"),
        ("The answer is 14.", "14."),
        ("The answer is: 14 apples", "14"),
        ("There are 14 apples in it.", "14"),
        ('The answer is "14".', "14"),
        ("\\boxed{14}", "14"),
        ("1,400 people", "1400"),
        ("between 3 and 5", "between 3 and 5"),
    ],
)
def test_mathvista_extracts_a_number(answer: str, found: str) -> None:
    from deepmmsearch.judge.mathvista import extracted

    question = asked("14", benchmark="mathvista", answer_type="numerical", precision=None)
    assert extracted(question, answer) == found


def test_mathvista_takes_the_nearest_choice() -> None:
    question = asked(
        "B", "rectangle", answer_type="choice", choices=["circle", "rectangle"], correct_choice="rectangle"
    )
    for answer in ("B", "(B)", "(b) rectangle", "rectangles", "The answer is B.", "Option B", "**B**", "rectangle"):
        assert judge_mathvista(question, answer).correct, answer
    assert not judge_mathvista(question, "a circle").correct
    decimals = asked("1.2", answer_type="numerical", precision=1.0)
    assert [judge_mathvista(decimals, a).score for a in ("1.2", "1.24", "1.26", "The answer is 1.2", "1.2 m")] == [
        1, 1, 0, 1, 1,
    ]  # fmt: skip


def test_a_long_answer_takes_no_time() -> None:
    for name in NAMES:
        row = read(name)[0]
        question = asked(*row["answers"], **{"benchmark": name, **row["metadata"]})
        for text in ("a" * 100_000, "1," * 50_000, "(A) " * 25_000, "the answer is " * 8000):
            score(question, text)
