"""How far the rule judge can be trusted: its agreement with labels, what breaks it, and what it gives for nothing.

    python benchmarks/judges.py [--quick] [--pairs FILE ...] [--golds FILE ...] [--rule reward]

Prints the agreement with the golden pairs, with the held-out ones (`tests/judge_*.jsonl`, never tuned on) and with FILE
(JSON lines of question, answers, answer, correct); crashes and slowest of 200,000 fuzzed calls; and how often answers
that need no look at the question are right. `--golds`: JSON lines of question and answers, which count as golden
questions and must be right when they are given verbatim or in a plain sentence. At last, how often each benchmark's
own scoring (`official`) says what its authors' code said: `tests/data/official`, or `--official` with a folder like it.

Goals: at least 98 % of the golden pairs and 95 % of the held-out ones, at most 1 % of the wrong called right; no crash,
no call over 50 ms; no answer that needs no look is right on more than 1 % of the questions, but where it is the answer.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from deepmmsearch.judge import JudgeError, RuleJudge
from deepmmsearch.judge.calibrate import Labelled, calibrate, golden, read_labelled
from deepmmsearch.judge.mathvista import judge_extracted
from deepmmsearch.judge.official import judge_official
from deepmmsearch.testing.free_answers import TEMPLATES, fuzzed, is_the_answer
from deepmmsearch.types import Question

TESTS = Path(__file__).parent.parent / "tests"
SENTENCES = (
    "{}",
    "Based on the image and the search results, the answer is {}.",
    "**{}**",
    "The answer is: {}",
    "\\boxed{{{}}}",
)


def agreement(name: str, rows: Sequence[Labelled], judge: RuleJudge) -> None:
    found = asyncio.run(calibrate(judge, rows))
    low, high = found.interval
    wrong = found.wrong_right + found.wrong_wrong
    print(
        f"{name:24} {found.count:6} pairs  {found.accuracy:6.1%} [{low:.1%}, {high:.1%}]  kappa {found.kappa:.3f}, "
        f"wrong called right {found.wrong_right}/{wrong}, right called wrong {found.right_wrong}, failed {found.failed}"
    )


def robustness(count: int, judge: RuleJudge) -> None:
    crashes, slowest, longest = 0, 0.0, ""
    for question, answer in fuzzed(count):
        began = time.process_time()
        try:
            judge.verdict(question, answer)
        except JudgeError as error:
            crashes += 1
            print(f"  no verdict on {answer[:60]!r}: {error}")
        if (seconds := time.process_time() - began) > slowest:
            slowest, longest = seconds, answer
    print(f"{count} fuzzed calls: {crashes} without a verdict, the slowest {1000 * slowest:.1f} ms ({longest[:40]!r})")


def for_nothing(questions: Sequence[Question], judge: RuleJudge, shown: int = 10) -> None:
    rows = []
    for name, template in TEMPLATES.items():
        free = own = 0
        for question in questions:
            answer = template(question)
            try:
                right = judge.verdict(question, answer).correct
            except JudgeError:
                right = False
            if right:
                if is_the_answer(question, answer):
                    own += 1
                else:
                    free += 1
        rows.append((free, own, name))
    rows.sort(key=lambda row: (-row[0], -row[1]))
    over = sum(free > len(questions) / 100 for free, _, _ in rows)
    print(f"{len(rows)} answers that need no look, {len(questions)} questions: {over} are right on more than 1 %")
    for free, own, name in rows[:shown]:
        print(f"  {free:5} right, {own:5} where it is the answer   {name[:60]!r}")


def given_back(questions: Sequence[Question], judge: RuleJudge) -> None:
    for sentence in SENTENCES:
        pairs = [(q, sentence.format(a)) for q in questions for a in q.answers if a.strip()]
        right = sum(judge.verdict(q, answer).correct for q, answer in pairs)
        print(f"accepted answers as {sentence!r}: {right} of {len(pairs)} right")


def questions(rows: Sequence[Labelled], files: Sequence[Path]) -> Iterator[Question]:
    seen = set()
    for row in rows:
        if (key := (row.question.text, row.question.answers)) not in seen:
            seen.add(key)
            yield row.question
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            fields = json.loads(line)
            yield Question(f"{file.stem}-{number}", fields["question"], (), tuple(map(str, fields["answers"])))


def official(folder: Path) -> None:
    for file in sorted(folder.glob("*.jsonl*")):
        name, raw = file.name.partition(".")[0], file.read_bytes()
        lines = (gzip.decompress(raw) if file.suffix == ".gz" else raw).splitlines()
        rows = [row for row in map(json.loads, lines) if row["score"] is not None]
        same = 0
        for row in rows:
            question = Question("q", "", (), tuple(row["answers"]), {"benchmark": name, **row["metadata"]})
            # their score is that of what was extracted
            rule = judge_extracted if name == "mathvista" else judge_official
            same += abs(rule(question, row["answer"]).score - row["score"]) < 1e-9
        print(f"official {name:15} {same} of {len(rows)} as by the authors' code")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 fuzzed calls")
    parser.add_argument("--pairs", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--golds", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--rule", default="reward")
    parser.add_argument("--official", type=Path, default=TESTS / "data" / "official", metavar="FOLDER")
    asked = parser.parse_args()
    judge = RuleJudge(asked.rule)
    agreement("golden", golden(), judge)
    for file in (*sorted(TESTS.glob("judge_*.jsonl")), *asked.pairs):
        agreement(file.stem, read_labelled(file), judge)
    every = list(questions(golden(), asked.golds))
    given_back(every, judge)
    robustness(20_000 if asked.quick else 200_000, judge)
    for_nothing(every, judge)
    official(asked.official)


if __name__ == "__main__":
    main()
