"""The rule judge: no model, no network, fast enough for a reward.

A rule is a function of question and answer, which is never blank; recipes name one of the entry-point group
`deepmmsearch.judges`, or `module:function`.
"""

from __future__ import annotations

from collections.abc import Callable

from deepmmsearch.errors import UserError
from deepmmsearch.judge.normalisation import is_correct
from deepmmsearch.judge.verdict import JudgeError, Verdict
from deepmmsearch.registry import Registry
from deepmmsearch.types import Question

Rule = Callable[[Question, str], Verdict]

JUDGES = Registry[Rule]("deepmmsearch.judges", "judge", callable, "a function of question and answer")


def judge_exact(question: Question, answer: str) -> Verdict:
    """Equal to an accepted answer after SQuAD's normalisation (MMSearch-R1, reward)."""
    return Verdict(1.0, "equal") if is_correct(answer, question.answers) else Verdict(0.0, "not equal to any")


class RuleJudge:
    """Judges by one of `JUDGES`, or by `module:function`. Raises UnknownName, UserError."""

    def __init__(self, rule: str = "reward") -> None:
        self.name = rule
        self._rule = JUDGES.find(rule, code=True)

    def verdict(self, question: Question, answer: str | None) -> Verdict:
        """For callers who do not wait. Raises JudgeError where the rule itself fails: no verdict."""
        if answer is None or not answer.strip():
            return Verdict(0.0, "no answer")
        try:
            return self._rule(question, answer)
        except UserError:
            raise
        # the border: an answer that a rule cannot take is not judged, and the others are
        except Exception as error:
            raise JudgeError(f"The judge {self.name} failed: {type(error).__name__}: {error}") from error

    async def judge(self, question: Question, answer: str | None) -> Verdict:
        return self.verdict(question, answer)

    def counts(self, question: Question) -> bool:
        """False for what the benchmark's own scoring leaves out."""
        from deepmmsearch.judge.official import counts

        return self.name != "official" or counts(question)
