"""What holds for every judge of answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deepmmsearch.testing import HOSTILE_TEXTS
from deepmmsearch.testing.contract.checks import Check
from deepmmsearch.types import Question

if TYPE_CHECKING:
    from deepmmsearch.judge import Judge, Verdict


def _question() -> Question:
    return Question("q", "Which city is the capital of Veld?", answers=("Oru",))


@dataclass(frozen=True)
class JudgeCase:
    """A judge, with a question of the kind it is for, and an answer that is plainly right and one that is wrong."""

    judge: Judge
    question: Question = field(default_factory=_question)
    right: str = "Oru"
    wrong: str = "Ostra"

    def asked(self, answer: str | None) -> Verdict:
        return asyncio.run(self.judge.judge(self.question, answer))


def right_is_right_and_wrong_is_wrong(case: JudgeCase) -> None:
    assert case.asked(case.right).correct and not case.asked(case.wrong).correct


def no_answer_is_wrong(case: JudgeCase) -> None:
    assert [case.asked(answer).score for answer in (None, "", " \n")] == [0.0] * 3


def any_answer_has_a_score(case: JudgeCase) -> None:
    for answer in (*HOSTILE_TEXTS, "9" * 10_000, "word " * 2000, "\x00", "{}", "correct"):
        verdict = case.asked(answer)
        assert 0.0 <= verdict.score <= 1.0 and isinstance(verdict.reason, str), answer[:40]


def many_at_once_are_judged_as_one_by_one(case: JudgeCase) -> None:
    answers = [case.right, case.wrong, None] * 5

    async def together() -> list[Verdict]:
        return list(await asyncio.gather(*(case.judge.judge(case.question, answer) for answer in answers)))

    assert asyncio.run(together()) == [case.asked(answer) for answer in answers]


JUDGE: tuple[Check[JudgeCase], ...] = (
    right_is_right_and_wrong_is_wrong,
    no_answer_is_wrong,
    any_answer_has_a_score,
    many_at_once_are_judged_as_one_by_one,
)
