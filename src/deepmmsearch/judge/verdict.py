"""What a judge is and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from deepmmsearch.types import Question

NO_ANSWER, GAVE_UP = "no answer", "gave up"
NOT_ASKED = (NO_ANSWER, GAVE_UP)
"""Reasons of a verdict for which nobody was asked."""


class JudgeError(Exception):
    """No verdict could be had: the model behind the judge is down, or does not answer in one word."""


@dataclass(frozen=True)
class Verdict:
    """`score` is in [0, 1]; `reason` says in a few words why, for people."""

    score: float
    reason: str = ""

    @property
    def correct(self) -> bool:
        return self.score >= 0.5


class Judge(Protocol):
    """Says how right an answer is. It sees the question, its accepted answers and the answer, never the picture."""

    async def judge(self, question: Question, answer: str | None) -> Verdict:
        """No answer (None) is wrong. Raises JudgeError when no verdict could be had."""
        ...


@runtime_checkable
class Selective(Protocol):
    """A judge whose benchmark leaves questions out of its figures."""

    def counts(self, question: Question) -> bool:
        """False for a question that is left out, whatever is answered."""
        ...
