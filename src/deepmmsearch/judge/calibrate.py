"""How well a judge agrees with labels: accuracy, Cohen's kappa, confusion, and where it is wrong."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmmsearch.errors import UserError
from deepmmsearch.judge.verdict import Judge, JudgeError
from deepmmsearch.types import Question

_FIELDS = 'Expected {"question": str, "answers": [str], "answer": str, "correct": bool}.'


@dataclass(frozen=True)
class Labelled:
    """A candidate answer and whether a person (or a rule) says that it is right. `topic` groups the mistakes."""

    question: Question
    answer: str
    correct: bool
    topic: str = ""


@dataclass(frozen=True)
class Disagreement:
    labelled: Labelled
    said: str


@dataclass(frozen=True)
class Agreement:
    """Counts of label against verdict. `failed`: no verdict could be had; they count as disagreement."""

    right_right: int
    right_wrong: int
    wrong_right: int
    wrong_wrong: int
    failed: int
    topics: dict[str, tuple[int, int]]
    disagreements: tuple[Disagreement, ...]

    @property
    def count(self) -> int:
        return self.right_right + self.right_wrong + self.wrong_right + self.wrong_wrong + self.failed

    @property
    def accuracy(self) -> float:
        return (self.right_right + self.wrong_wrong) / self.count if self.count else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Of the accuracy, 95 % (Wilson 1927)."""
        return wilson(self.right_right + self.wrong_wrong, self.count)

    @property
    def kappa(self) -> float:
        """Cohen (1960): agreement beyond what the two shares of "right" would give by chance, among the judged."""
        return float(_kappa(self._cells)) if self.count > self.failed else 0.0

    @property
    def kappa_interval(self) -> tuple[float, float]:
        """95 %, of 4,000 bootstrap samples of the judged pairs."""
        judged = self.count - self.failed
        if not judged:
            return 0.0, 0.0
        drawn = np.random.default_rng(0).multinomial(judged, self._cells / judged, 4000)
        low, high = np.quantile(_kappa(drawn.T), (0.025, 0.975))
        return float(low), float(high)

    @property
    def _cells(self) -> NDArray[Any]:
        return np.array([self.right_right, self.right_wrong, self.wrong_right, self.wrong_wrong], float)


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share; (0, 1) of nothing."""
    if not count:
        return 0.0, 1.0
    z, share = 1.96, right / count
    middle = share + z * z / (2 * count)
    around = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - around) / scale), min(1.0, (middle + around) / scale)


def _kappa(cells: NDArray[Any]) -> NDArray[Any]:
    """`cells`: [4, ...] counts, label right or wrong by verdict right or wrong."""
    right_right, right_wrong, wrong_right, wrong_wrong = cells / cells.sum(axis=0)
    labelled, said = right_right + right_wrong, right_right + wrong_right
    chance = labelled * said + (1 - labelled) * (1 - said)
    observed = right_right + wrong_wrong
    return np.where(chance < 1, (observed - chance) / np.where(chance < 1, 1 - chance, 1), 1.0)


def golden() -> list[Labelled]:
    """The pairs that come with the package, made from the papers' rules before the rule judge was written."""
    text = files("deepmmsearch.judge").joinpath("golden.jsonl").read_text(encoding="utf-8")
    return _parse(text.splitlines(), "golden.jsonl")


def read_labelled(path: Path) -> list[Labelled]:
    """JSON lines. Raises UserError for a file that is missing or in another form."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}). Give a file of JSON lines. {_FIELDS}") from None
    rows = _parse(lines, str(path))
    if not rows:
        raise UserError(f"{path} holds no line. {_FIELDS}")
    return rows


def _parse(lines: Iterable[str], name: str) -> list[Labelled]:
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append(_labelled(row, f"{number:05d}"))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{name}, line {number}: {error or type(error).__name__}. {_FIELDS}") from None
    return rows


def _labelled(row: dict[str, Any], name: str) -> Labelled:
    answers = [row["answers"]] if isinstance(row["answers"], str) else list(row["answers"])
    if not isinstance(row["correct"], bool):
        raise TypeError(f"correct is {row['correct']!r}")
    question = Question(
        str(row.get("id", name)), str(row["question"]), (), tuple(map(str, answers)), dict(row.get("metadata") or {})
    )
    return Labelled(question, str(row["answer"]), row["correct"], str(row.get("topic", "")))


async def calibrate(judge: Judge, rows: Sequence[Labelled], concurrency: int = 16) -> Agreement:
    """Asks the judge about every row, at most `concurrency` at a time."""
    gate = asyncio.Semaphore(concurrency)

    async def verdict(row: Labelled) -> tuple[bool | None, str]:
        async with gate:
            try:
                found = await judge.judge(row.question, row.answer)
            except JudgeError as error:
                return None, str(error)
            return found.correct, found.reason

    verdicts = await asyncio.gather(*(verdict(row) for row in rows))
    counts = {(label, said): 0 for label in (True, False) for said in (True, False, None)}
    topics: dict[str, tuple[int, int]] = {}
    wrong = []
    for row, (said, reason) in zip(rows, verdicts, strict=True):
        counts[row.correct, said] += 1
        agreed, seen = topics.get(row.topic, (0, 0))
        topics[row.topic] = (agreed + (said is row.correct), seen + 1)
        if said is not row.correct:
            wrong.append(Disagreement(row, reason))
    return Agreement(
        counts[True, True],
        counts[True, False],
        counts[False, True],
        counts[False, False],
        counts[True, None] + counts[False, None],
        topics,
        tuple(wrong),
    )
