"""The rule judge: no model, no network, fast enough for a reward.

A rule is a function of question and answer; `RULES` names those that recipes may ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from deepmmsearch.errors import UnknownName
from deepmmsearch.judge.infoseek import judge_infoseek
from deepmmsearch.judge.official import judge_official
from deepmmsearch.judge.reward import judge_reward
from deepmmsearch.judge.text import is_correct
from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.judge.vqa import judge_vqa
from deepmmsearch.types import Question

Rule = Callable[[Question, str], Verdict]


def judge_exact(question: Question, answer: str) -> Verdict:
    """Equal to an accepted answer after SQuAD's normalisation (MMSearch-R1, reward)."""
    return Verdict(1.0, "equal") if is_correct(answer, question.answers) else Verdict(0.0, "not equal to any")


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "exact": judge_exact,
        "reward": judge_reward,
        "infoseek": judge_infoseek,
        "vqa": judge_vqa,
        "official": judge_official,
    }
)


class RuleJudge:
    """Judges by one of `RULES`. Raises UnknownName for another."""

    def __init__(self, rule: str = "reward") -> None:
        if rule not in RULES:
            raise UnknownName("rule of the judge", rule, RULES)
        self.name = rule
        self._rule = RULES[rule]

    def verdict(self, question: Question, answer: str | None) -> Verdict:
        """For callers who do not wait."""
        if answer is None or not answer.strip():
            return Verdict(0.0, "no answer")
        return self._rule(question, answer)

    async def judge(self, question: Question, answer: str | None) -> Verdict:
        return self.verdict(question, answer)
