"""Is an answer right? Rules in `rules`, a language model in `llm`, how well a judge agrees with people in `calibrate`."""

from deepmmsearch.judge.rules import RULES, RuleJudge
from deepmmsearch.judge.text import is_correct, normalize_answer
from deepmmsearch.judge.verdict import Judge, Verdict

__all__ = ["RULES", "Judge", "RuleJudge", "Verdict", "is_correct", "normalize_answer"]
