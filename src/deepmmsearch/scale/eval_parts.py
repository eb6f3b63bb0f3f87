"""An evaluation in parts on workers: what is in the output folder is never played again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from deepmmsearch.compose.cassettes import cassettes_of
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.evaluate import RETRIED, check_output, part_of, play_recipe
from deepmmsearch.errors import Failed
from deepmmsearch.eval.run import EvalRun, raise_if_all_failed, stored_errors
from deepmmsearch.eval.run_parts import merge_runs, missing
from deepmmsearch.outputs import RunPart
from deepmmsearch.progress import Step, Watch, silent
from deepmmsearch.scale.part_workers import (
    PARTS_EACH,
    PLAYED,
    PartPlayed,
    PartWorkers,
    come_home,
    passed_on,
    play_in_worker,
    unpacked,
)


@dataclass(frozen=True)
class EvalJob:
    """A part of an evaluation. `folder`: what relative paths of the recipe start from; `elsewhere`: ids of trajectories
    that nobody has to play again; `keys`: the environment variables that the recipe names."""

    recipe: EvalRecipe
    part: RunPart
    only: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    retry_errors: bool = False
    elsewhere: frozenset[str] = frozenset()
    folder: str = "."
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    def play(self) -> PartPlayed:
        mine = part_of(self.recipe, self.part)
        return play_in_worker(self.folder, self.keys, self._play, mine.output, cassettes_of(mine))

    def _play(self) -> None:
        play_recipe(
            self.recipe,
            self.only,
            self.benchmarks,
            part=self.part,
            retry_errors=self.retry_errors,
            elsewhere=self.elsewhere,
        )


def play_on_workers(
    recipe: EvalRecipe,
    workers: PartWorkers,
    count: int,
    only: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    *,
    retry_errors: bool = False,
    keys: Collection[str] = (),
    watch: Watch = silent,
) -> EvalRun:
    """Plays `PARTS_EACH` parts for each of `count` workers, as many at once as there are workers, and merges each into
    the recipe's output before the next is handed out. `keys`: environment variables that the workers are handed.

    Raises UserError for what cannot be played, Failed as `come_home` does, or where as many questions and verdicts
    failed in parts one after another as `stop_after_errors` says, or where all failed. What came home is kept.
    """
    planned = check_output(recipe, only, benchmarks, retry_errors)
    of = count * PARTS_EACH
    held = stored_errors(EvalRun(recipe.output).store)
    elsewhere = frozenset(id for id, error in held if error is None or not retry_errors)
    said = (tuple(only), tuple(benchmarks), retry_errors, elsewhere, str(Path.cwd()), passed_on(keys))
    jobs = [EvalJob(recipe, RunPart(number, of), *said) for number in range(1, of + 1)]
    new: Counter[str] = Counter()
    failures = 0
    watch(Step(PLAYED, 0, of))
    for done, (job, played) in enumerate(come_home(jobs, workers, count, watch), 1):
        added, wrong = _merge(job, played.packed)
        new += added
        watch(Step(PLAYED, done, of, f"{new['trajectories']:,} new trajectories"))
        if played.failed is None:
            failures = 0
            continue
        watch(f"Part {job.part} on {played.node}: {played.failed}")
        failures += wrong
        if recipe.stop_after_errors is not None and failures >= recipe.stop_after_errors:
            raise Failed(played.failed)
    watch(f"{new['trajectories']:,} trajectories and {new['verdicts']:,} verdicts are new in {recipe.output}")
    run = EvalRun(recipe.output)
    for line in missing(run):
        watch(line)
    raise_if_all_failed(run, product(run.info["benchmarks"], planned.workflows), recipe.judges)
    return run


def _merge(job: EvalJob, packed: bytes) -> tuple[Counter[str], int]:
    """What came to the recipe's output, and how many questions and verdicts failed now."""
    with unpacked(packed, cassettes_of(job.recipe)) as home:
        if home is None:
            return Counter(), 0
        added = merge_runs(job.recipe.output, [home], RETRIED if job.retry_errors else ())
        part = EvalRun(home)
        wrong = sum(error is not None and id not in job.elsewhere for id, error in stored_errors(part.store))
        return added, wrong + sum(row.error is not None for row in part.judged().values())
