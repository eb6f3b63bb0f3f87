"""An evaluation in parts on workers that may be lost. A part comes home as bytes and is merged as it comes, so no disk
has to be shared; what is in the output folder is never played again."""

from __future__ import annotations

import io
import os
import platform
import sqlite3
import tarfile
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.evaluate import RETRIED, check_output, part_of, play_recipe
from deepmmsearch.compose.tool_settings import CacheSettings
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.eval.run import EvalRun, QuestionPart, raise_if_all_failed, stored_errors
from deepmmsearch.eval.run_parts import merge_runs, missing
from deepmmsearch.progress import Step, Watch, silent
from deepmmsearch.tools.archive import merge_cassette

PARTS_EACH = 4
"""Parts for each worker, so that a slow one does not hold up the rest."""
ATTEMPTS = 3
"""How many workers may be lost while they play the same part."""
_STAGE = "Parts played"
_RUN = "run"


@dataclass(frozen=True)
class PartPlayed:
    """What comes home: `packed`, the part's folder and cassettes; empty where the recipe was `refused`. `failed`: why
    the part stopped early, or that all of it failed; `node`: the machine."""

    packed: bytes
    failed: str | None = None
    refused: str | None = None
    node: str = ""


@dataclass(frozen=True)
class PartJob:
    """What a worker needs, as plain values. `folder`: what relative paths of the recipe start from; `elsewhere`: ids of
    trajectories that nobody has to play again; `keys`: the environment variables that the recipe names."""

    recipe: EvalRecipe
    part: QuestionPart
    only: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    retry_errors: bool = False
    elsewhere: frozenset[str] = frozenset()
    folder: str = "."
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    def play(self) -> PartPlayed:
        """In the worker: goes on where the part's folder is on this disk. What a user has to put right is told, not
        raised: errors do not survive the way home."""
        node, failed = platform.node(), None
        os.environ.update(self.keys)
        try:
            _enter(self.folder)
            play_recipe(
                self.recipe,
                self.only,
                self.benchmarks,
                part=self.part,
                retry_errors=self.retry_errors,
                elsewhere=self.elsewhere,
            )
        except Failed as error:
            failed = str(error)
        except UserError as error:
            return PartPlayed(b"", refused=str(error), node=node)
        mine = part_of(self.recipe, self.part)
        return PartPlayed(_pack(mine.output, _cassettes(mine)), failed, node=node)


class PartWorkers(Protocol):
    """Processes, on any machine, that play parts. `lost`: what a future raises whose worker, or its machine, is gone;
    the next job gets another."""

    lost: tuple[type[BaseException], ...]

    def submit(self, job: PartJob, /) -> Future[PartPlayed]: ...


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

    Raises UserError for what cannot be played, Failed where a part lost its worker `ATTEMPTS` times, or where as many
    questions and verdicts failed in parts one after another as `stop_after_errors` says, or where all failed. What came
    home is kept.
    """
    check_output(recipe, only, benchmarks, retry_errors)
    of = count * PARTS_EACH
    held = stored_errors(EvalRun(recipe.output).store)
    elsewhere = frozenset(id for id, error in held if error is None or not retry_errors)
    passed = {name: os.environ[name] for name in keys if name in os.environ}
    said = (tuple(only), tuple(benchmarks), retry_errors, elsewhere, str(Path.cwd()), passed)
    jobs = [PartJob(recipe, QuestionPart(number, of), *said) for number in range(1, of + 1)]
    new: Counter[str] = Counter()
    failures = 0
    watch(Step(_STAGE, 0, of))
    for done, (job, played) in enumerate(_played(jobs, workers, count, watch), 1):
        if played.refused is not None:
            raise UserError(f"{played.refused} (part {job.part}, on {played.node})")
        added, wrong = _merge(job, played.packed)
        new += added
        watch(Step(_STAGE, done, of, f"{new['trajectories']:,} new trajectories"))
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
    chosen = [name for name in recipe.workflows if not only or name in only]
    raise_if_all_failed(run, product(run.info["benchmarks"], chosen), recipe.judges)
    return run


def _played(
    jobs: Sequence[PartJob], workers: PartWorkers, count: int, watch: Watch
) -> Iterator[tuple[PartJob, PartPlayed]]:
    """Each once, as it comes; a part whose worker is lost goes to the next."""
    left, lost = deque(jobs), Counter[QuestionPart]()
    running: dict[Future[PartPlayed], PartJob] = {}
    while left or running:
        while left and len(running) < count:
            job = left.popleft()
            running[workers.submit(job)] = job
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(future)
            try:
                played = future.result()
            except workers.lost as error:
                lost[job.part] += 1
                if lost[job.part] == ATTEMPTS:
                    raise Failed(
                        f"{ATTEMPTS} workers in turn were lost while they played part {job.part}, the last with: "
                        f"{_first_line(error)} What came home is kept. Run again, perhaps with fewer workers."
                    ) from None
                watch(f"Part {job.part} lost its worker and goes to another: {_first_line(error)}")
                left.append(job)
                continue
            yield job, played


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError:
        raise UserError(
            f"There is no folder {folder} here. Every machine needs the recipe's files at the same paths."
        ) from None


def _cassettes(recipe: EvalRecipe) -> list[Path]:
    """Those that the recipe writes, each once."""
    recorders = [getattr(settings, "recorder", None) for settings in (recipe.tools, *recipe.judges.values())]
    return list(dict.fromkeys(r.cassette for r in recorders if isinstance(r, CacheSettings)))


def _pack(output: Path, cassettes: Sequence[Path]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar, TemporaryDirectory() as folder:
        if output.is_dir():
            tar.add(output, _RUN)
        for number, cassette in enumerate(cassettes):
            if cassette.is_file():
                copy = Path(folder, str(number))
                # also what another connection has not written back yet
                with closing(sqlite3.connect(cassette)) as opened, closing(sqlite3.connect(copy)) as copied:
                    opened.backup(copied)
                tar.add(copy, copy.name)
    return packed.getvalue()


def _merge(job: PartJob, packed: bytes) -> tuple[Counter[str], int]:
    """What came to the recipe's output, and how many questions and verdicts failed now."""
    with TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            tar.extractall(folder, filter="data")
        if not (home := Path(folder, _RUN)).is_dir():
            return Counter(), 0
        # first: once a question is in the output it is not asked again
        for number, cassette in enumerate(_cassettes(job.recipe)):
            if (came := Path(folder, str(number))).is_file():
                merge_cassette(cassette, came)
        added = merge_runs(job.recipe.output, [home], RETRIED if job.retry_errors else ())
        part = EvalRun(home)
        wrong = sum(error is not None and id not in job.elsewhere for id, error in stored_errors(part.store))
        return added, wrong + sum(row.error is not None for row in part.judged().values())
