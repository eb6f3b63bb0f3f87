"""Is an answer right? By rules (`rules`) or a language model (`llm`); `calibrate` compares a judge with people."""

from deepmmsearch.judge.rules import RULES, RuleJudge
from deepmmsearch.judge.text import gave_up, is_correct, normalize_answer
from deepmmsearch.judge.verdict import Judge, JudgeError, Verdict

__all__ = ["RULES", "Judge", "JudgeError", "RuleJudge", "Verdict", "gave_up", "is_correct", "normalize_answer"]
