"""A data build in parts on workers: the stages that ask models are theirs, those after them are made at home."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from deepmmsearch.compose.cassettes import cassettes_of
from deepmmsearch.compose.data_build import DataRecipe, build_of, composed, run_part
from deepmmsearch.data.build_parts import finish, take_over
from deepmmsearch.data.dataset import Built
from deepmmsearch.data.pipeline import ShardStages, taken
from deepmmsearch.errors import Failed
from deepmmsearch.outputs import RunPart
from deepmmsearch.progress import Step, Watch, silent
from deepmmsearch.scale.part_workers import (
    PARTS_EACH,
    PLAYED,
    PartPlayed,
    PartWorkers,
    come_home,
    pack,
    passed_on,
    play_in_worker,
    unpacked,
)


@dataclass(frozen=True)
class BuildJob:
    """A part of a data build. `elsewhere`: shards that nobody has to work on again; `former`: what is known of others
    already, packed; `folder` and `keys`: as those of an evaluation."""

    recipe: DataRecipe
    part: RunPart
    retry_errors: bool = False
    elsewhere: frozenset[str] = frozenset()
    former: bytes = field(default=b"", repr=False)
    folder: str = "."
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    def play(self) -> PartPlayed:
        mine = build_of(self.recipe, self.part)
        return play_in_worker(self.folder, self.keys, self._play, mine.output, cassettes_of(mine))

    def _play(self) -> None:
        # each worker is the process that was asked for
        recipe = self.recipe.model_copy(update={"processes": 1})
        with unpacked(self.former) as former:
            run_part(recipe, self.part, retry_errors=self.retry_errors, elsewhere=self.elsewhere, former=former)


def build_on_workers(
    recipe: DataRecipe,
    workers: PartWorkers,
    count: int,
    *,
    retry_errors: bool = False,
    keys: Collection[str] = (),
    watch: Watch = silent,
) -> Built:
    """Shares the shards that are not finished out between `PARTS_EACH` parts for each of `count` workers, as many at
    once as there are workers, merges each into the recipe's output before the next is handed out, and makes the data
    set. `keys`: environment variables that the workers are handed.

    Raises UserError for what cannot be built, Failed as `come_home` does, or where a part stopped because a model is
    down. What came home is kept.
    """
    settings, makers = composed(recipe)
    with taken(settings, makers):
        stages = ShardStages(settings, makers, watch, retry_errors)
        shards, key, wanted = stages.shards, stages.claim(), frozenset(stages.unfinished())
        jobs = list(_jobs(recipe, shards, wanted, count * PARTS_EACH, retry_errors, keys))
        watch(Step(PLAYED, 0, len(jobs)))
        came: set[str] = set()
        for done, (job, played) in enumerate(come_home(jobs, workers, count, watch), 1):
            with unpacked(played.packed, cassettes_of(recipe)) as home:
                came |= set(take_over(home, settings.output, shards) if home is not None else ())
            watch(Step(PLAYED, done, len(jobs), f"{len(came):,} of {len(wanted):,} shards"))
            if played.failed is not None:
                raise Failed(f"{played.failed} (part {job.part}, on {played.node})")
        missing, built = finish(settings.output, shards, key, watch)
        if built is None:
            raise Failed(f"{len(missing):,} shards are not finished. Run again.")
        return built


def _jobs(
    recipe: DataRecipe, shards: list[str], wanted: Collection[str], of: int, retry_errors: bool, keys: Collection[str]
) -> Iterator[BuildJob]:
    """One for each part that has a shard to work on."""
    passed = passed_on(keys)
    elsewhere = frozenset(shards).difference(wanted)
    for part in (RunPart(number, of) for number in range(1, of + 1)):
        mine = [shard for place, shard in enumerate(shards) if part.holds(place) and shard in wanted]
        if mine:
            former = _former(recipe.output, mine)
            yield BuildJob(recipe, part, retry_errors, elsewhere, former, str(Path.cwd()), passed)


def _former(output: Path, shards: Collection[str]) -> bytes:
    with TemporaryDirectory() as folder:
        return pack(Path(folder)) if take_over(output, Path(folder), shards) else b""
