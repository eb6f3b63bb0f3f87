"""Each benchmark's own scoring, chosen by what its loader wrote into the question's metadata.

`judge` names one; else the benchmark's name does, where it has rules of its own, or the kind of answer: `answer_range`:
InfoSeek's; `direct_answers`: VQA accuracy; `answer_type` choice or list; `match` contains (OCRBench) or anls (DocVQA,
InfographicVQA). The rest, and the atlas: the reward's rules. docs/evaluation.md says where they were compared with the
authors' own code, and where they differ from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from deepmmsearch.judge.normalisation import normalize_answer
from deepmmsearch.judge.rules import JUDGES
from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

# with what its loader writes: a file of one's own may have the name of a benchmark
_OF_BENCHMARK = {
    "infoseek": ("infoseek", "answer_type"),
    "evqa": ("encyclopedic", "question_type"),
    "aokvqa": ("direct", "direct_answers"),
    "aokvqa-choices": ("given-choice", "choices"),
    "mathvista": ("mathvista", "answer_type"),
}


def judge_official(question: Question, answer: str) -> Verdict:
    """Raises UnknownName where the question names a judge that is not installed."""
    return JUDGES.find(scorer(question))(question, answer)


def scorer(question: Question) -> str:
    """The name of the judge that scores it."""
    metadata = question.metadata
    if named := metadata.get("judge"):
        return str(named)
    rule, written = _OF_BENCHMARK.get(str(metadata.get("benchmark")), ("", ""))
    if written in metadata:
        return rule
    if metadata.get("answer_range"):
        return "infoseek"
    if metadata.get("direct_answers"):
        return "vqa"
    kind, match = metadata.get("answer_type"), metadata.get("match")
    return kind if kind in ("choice", "list") else match if match in ("contains", "anls") else "reward"


def counts(question: Question) -> bool:
    """False for what its authors leave out: questions of A-OKVQA that are too hard to answer without choices."""
    left_out = question.metadata.get("difficult_direct_answer")
    return not (left_out and question.metadata.get("benchmark") == "aokvqa")


def judge_list(question: Question, answer: str) -> Verdict:
    """Everything on at least one of `answer_lists` is named (MM-Vet without a model, lists of your own)."""
    said = f" {normalize_answer(answer)} "
    lists: Sequence[Sequence[str]] = question.metadata.get("answer_lists") or [question.answers]
    right = any(all(f" {normalize_answer(str(item))} " in said for item in items) for items in lists)
    return Verdict(1.0, "all named") if right else Verdict(0.0, "not all named")
