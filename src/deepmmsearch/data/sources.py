"""Where seed questions come from, cut into shards that can be drawn one by one and in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from deepmmsearch.data.benchmark import QuestionSet
from deepmmsearch.data.load_report import LoadReport
from deepmmsearch.data.published import find_benchmark, open_questions
from deepmmsearch.data.recipe import AtlasSeeds, Seeds, TableSeeds
from deepmmsearch.sealing import MARK, refuse_sealed
from deepmmsearch.types import Question

WORLDS = "worlds"


class SeedSource(Protocol):
    """Plain values only: it is sent to worker processes."""

    def shards(self) -> list[str]: ...
    def draw(self, shard: str) -> tuple[Iterator[Question], LoadReport]:
        """The questions of a shard, and the report that counts them while they are drawn."""
        ...

    def describe(self) -> str: ...
    def licence(self) -> str: ...


@dataclass(frozen=True)
class TableSource:
    """A benchmark, or questions of the user's own. Shard number i holds the i-th slice of the seed's order."""

    seeds: TableSeeds

    def __reduce__(self) -> tuple[type[TableSource], tuple[TableSeeds]]:
        # without what is cached: another process reads the table itself
        return TableSource, (self.seeds,)

    @cached_property
    def _questions(self) -> QuestionSet:
        s = self.seeds
        return open_questions(s.benchmark, path=s.path, images=s.images, split=s.split, sample=0, seed=s.seed)

    @cached_property
    def _order(self) -> list[int]:
        order = self._questions.order()
        return order[: self.seeds.count] if self.seeds.count else order

    def shards(self) -> list[str]:
        size = self.seeds.shard
        return [f"part-{number:05d}" for number in range(-(-len(self._order) // size))]

    def draw(self, shard: str) -> tuple[Iterator[Question], LoadReport]:
        first = int(shard.removeprefix("part-")) * self.seeds.shard
        numbers = sorted(self._order[first : first + self.seeds.shard])
        asked = self._questions
        asked.report = LoadReport()
        return asked.load(numbers), asked.report

    def describe(self) -> str:
        split = f", split {self.seeds.split}" if self.seeds.split else ""
        return f"{Path(self.seeds.benchmark).name}{split}"

    def licence(self) -> str:
        known = find_benchmark(self.seeds.benchmark)
        return known.licence if known else "of the user's own questions"


@dataclass(frozen=True)
class AtlasSource:
    """Invented worlds made on the spot, one a shard, with their websites' index, which the teacher searches."""

    seeds: AtlasSeeds
    output: Path

    def shards(self) -> list[str]:
        return [f"world-{self.seeds.seed + number}" for number in range(self.seeds.worlds)]

    def draw(self, shard: str) -> tuple[Iterator[Question], LoadReport]:
        report = LoadReport()
        return self._questions(shard, report), report

    def _questions(self, shard: str, report: LoadReport) -> Iterator[Question]:
        from deepmmsearch.atlas.questions import each_question
        from deepmmsearch.atlas.world import make_world
        from deepmmsearch.atlas.worlds import keep_world

        seed = int(shard.removeprefix("world-"))
        keep_world(world_folder(self.output, shard), seed, self.seeds.world_split, 0)
        for question in each_question(make_world(seed, self.seeds.world_split), self.seeds.questions):
            report.rows += 1
            report.loaded += 1
            metadata = {"benchmark": f"atlas-{self.seeds.world_split}", **question.metadata}
            yield Question(question.id, question.text, question.images, question.answers, metadata)

    def describe(self) -> str:
        first = self.seeds.seed
        return f"atlas, {self.seeds.world_split} worlds {first} to {first + self.seeds.worlds - 1}"

    def licence(self) -> str:
        return "Apache-2.0 (invented by this program)"


def world_folder(output: Path, shard: str) -> Path:
    return output / WORLDS / shard


def open_source(seeds: Seeds, output: Path) -> SeedSource:
    """Raises UserError for a benchmark that is published encrypted."""
    known = find_benchmark(seeds.benchmark) if isinstance(seeds, TableSeeds) else None
    if known is not None and known.encrypted:
        refuse_sealed(Question("", "", metadata={MARK: known.name}))
    return AtlasSource(seeds, output) if isinstance(seeds, AtlasSeeds) else TableSource(seeds)
