"""Who works on a shard, and with what; the first stage, which draws the seeds.

A task is sent to worker processes. It holds the recipe's values and factories, and makes policies, tools and judges
where it runs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.data.near_duplicates import picture_hash
from deepmmsearch.data.recipe import Pictures
from deepmmsearch.data.records import Encoding, question_row
from deepmmsearch.data.sources import SeedSource
from deepmmsearch.data.stages import Counts, Stage
from deepmmsearch.data.tables import Row
from deepmmsearch.data.workers import Progress, Tell
from deepmmsearch.judge import Judge
from deepmmsearch.types import Question

FAILURES = 8
"""When so many episodes, verdicts or labels in a row end in an error, the model or its tools are down."""
KEPT = "Correct it and run again; nothing that was paid for is lost."


class PlayerFactory(Protocol):
    """Makes the player of a shard in the process that needs it: sent there, so it holds plain values only."""

    def __call__(self, shard: str, /) -> AgentWorkflow: ...


class JudgeFactory(Protocol):
    def __call__(self) -> Judge: ...


class Labeler(Protocol):
    async def label(self, question: Question) -> str | None:
        """The question's category, None where it gets none."""
        ...


class LabelerFactory(Protocol):
    def __call__(self) -> Labeler: ...


@dataclass(frozen=True)
class DrawSeeds:
    """Stage 1: the seed questions of a shard, with their pictures and the pictures' hashes."""

    source: SeedSource
    stage: Stage
    pictures: Pictures

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        if self.stage.has(shard):
            return
        began = time.perf_counter()
        questions, report = self.source.draw(shard)
        encoding = encoding_of(self.pictures)
        counts = Counts()

        def rows() -> Iterator[Row]:
            seen: Counter[str] = Counter()
            for question in questions:
                tell(Progress(1, 1))
                # ids name trajectories: a source that repeats one must not lose a question
                seen[question.id] += 1
                if seen[question.id] > 1:
                    question = replace(question, id=f"{question.id}-{seen[question.id]}")
                hashed = picture_hash(question.image) if question.image is not None else None
                yield question_row(question, encoding, hashed)

        drawn = list(rows())
        counts.rows, counts.dropped, counts.examples = report.rows, report.dropped, report.examples
        counts.notes, counts.seconds = report.notes, time.perf_counter() - began
        self.stage.finish(shard, drawn, counts)


def encoding_of(pictures: Pictures) -> Encoding:
    return Encoding(pictures.format, pictures.quality, pictures.max_pixels)
