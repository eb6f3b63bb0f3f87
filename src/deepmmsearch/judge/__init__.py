"""Is an answer right? By rules (`rules`) or a language model (`llm`); `calibrate` compares a judge with people."""

from deepmmsearch.judge.giving_up import gave_up
from deepmmsearch.judge.normalisation import is_correct, normalize_answer
from deepmmsearch.judge.rules import JUDGES, RuleJudge
from deepmmsearch.judge.verdict import Judge, JudgeError, Verdict

__all__ = ["JUDGES", "Judge", "JudgeError", "RuleJudge", "Verdict", "gave_up", "is_correct", "normalize_answer"]
