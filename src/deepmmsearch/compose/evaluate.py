"""A recipe of an evaluation, played: every workflow over every benchmark, one policy after another."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from deepmmsearch.compose.cassettes import with_own_cassettes
from deepmmsearch.compose.eval_recipe import BenchmarkSettings, EvalRecipe
from deepmmsearch.compose.evaluation import ORACLE, Evaluation, Task, limited
from deepmmsearch.compose.local_inputs import with_local_inputs
from deepmmsearch.errors import Failed, UnknownName, UserError
from deepmmsearch.eval.run import COMMAND, EvalRun, Finished, evaluate, raise_if_all_failed
from deepmmsearch.outputs import WHOLE, Output, RunPart
from deepmmsearch.progress import Step, Watch, silent, tracked
from deepmmsearch.redaction import public_settings
from deepmmsearch.settings import decisive

RETRIED = ("timeout", "run_calls", "run_money")
"""Settings that may be others where what failed is played again: they decide whether an episode fails, and no more."""


@dataclass
class _Tally:
    """How one workflow did on one benchmark, among the questions that were played now. `error`: the last."""

    played: int = 0
    score: float = 0.0
    errors: int = 0
    unjudged: int = 0
    cost: float = 0.0
    error: str | None = None

    def add(self, finished: Finished) -> None:
        trajectory = finished.trajectory
        self.played += 1
        self.score += finished.score
        self.errors += trajectory.error is not None
        self.unjudged += not finished.judged
        self.cost += trajectory.cost
        self.error = trajectory.error or self.error

    def __str__(self) -> str:
        text = f"{self.score / max(1, self.played):.0%} right"
        text += f", {self.errors} failed" if self.errors else ""
        text += f", {self.unjudged} without a verdict" if self.unjudged else ""
        return text + (f", ${self.cost:.2f}" if self.cost else "")


def play_recipe(
    recipe: EvalRecipe,
    only: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    *,
    part: RunPart = WHOLE,
    retry_errors: bool = False,
    elsewhere: Collection[str] = (),
    watch: Watch = silent,
) -> EvalRun:
    """Plays and judges what is missing. `only`: of these workflows; `benchmarks`: of these alone; `part`: of these
    questions, into a folder and cassettes of its own; `elsewhere`: without those whose trajectories have these ids.

    Raises UnknownName for a workflow or benchmark that is not in the recipe, UserError for what cannot be played,
    Failed where too much failed in a row, or everything did.
    """
    planned = check_output(recipe, only, benchmarks, retry_errors, part)
    recipe, evaluation, chosen, parts = planned.recipe, planned.evaluation, planned.workflows, planned.made_with
    run, opened = EvalRun(recipe.output), planned.benchmarks
    settings, spare = {"timeout": recipe.timeout}, RETRIED if retry_errors else ()
    tasks = [evaluation.task(settings) for settings in tracked(opened, "Opening benchmarks", len(opened), watch)]
    for task in tasks:
        _tell_loaded(task, watch)
        parts[f"benchmarks.{task.info.name}"] |= task.contents
    run.describe(
        [evaluation.described(name) for name in chosen],
        [task.info for task in tasks],
        list(recipe.judges),
        settings=settings,
        parts=parts,
        spare=spare,
        recipe=public_settings(recipe.model_dump(mode="json")),
    )
    # One policy after another: several models need not fit into memory at once.
    players = {name: evaluation.name_of(recipe.workflows[name]) for name in chosen}
    chosen.sort(key=lambda name: [*recipe.policies, ORACLE].index(players[name]))
    tallies = []
    for number, name in enumerate(chosen):
        for task in tasks:
            if recipe.workflows[name].kind == "oracle" and task.tools is None:
                continue
            tallies.append(_play(evaluation, run, name, task, part, retry_errors, elsewhere, watch))
        evaluation.release(players[later] for later in chosen[number + 1 :])
    played = sum(tally.played for tally in tallies)
    if played and played == sum(tally.errors for tally in tallies):
        last = [tally.error for tally in tallies if tally.error][-1]
        raise Failed(f"All {played} questions failed, the last with: {last} Run again with --retry-errors.")
    raise_if_all_failed(run, [(task.info.name, name) for name in chosen for task in tasks], recipe.judges)
    return run


@dataclass(frozen=True)
class Planned:
    """What of a `recipe` is played, `made_with` these settings, by name of what they belong to."""

    recipe: EvalRecipe
    evaluation: Evaluation
    workflows: list[str]
    benchmarks: list[BenchmarkSettings]
    made_with: dict[str, dict[str, Any]]


def check_output(
    recipe: EvalRecipe, only: Sequence[str], benchmarks: Sequence[str], retry_errors: bool, part: RunPart = WHOLE
) -> Planned:
    """Before a world is made or a picture read: raises UserError where the output was made with other settings."""
    for name in only:
        if name not in recipe.workflows:
            raise UnknownName("workflow in the recipe", name, recipe.workflows)
    chosen = [name for name in recipe.workflows if not only or name in only]
    whole = with_local_inputs(recipe)
    opened = limited(whole.benchmarks, benchmarks)
    # of the whole: that a part has cassettes of its own does not make it another run; nor does it where copies lie
    made_with = Evaluation(whole).made_with(chosen, opened)
    made_with |= {f"benchmarks.{b.title}": decisive(b) for b in limited(recipe.benchmarks, benchmarks)}
    mine = part_of(whole, part)
    Output(mine.output, COMMAND).expect({"timeout": mine.timeout}, made_with, RETRIED if retry_errors else ())
    return Planned(mine, Evaluation(mine), chosen, opened, made_with)


def part_of(recipe: EvalRecipe, part: RunPart) -> EvalRecipe:
    """The recipe with the folder and the cassettes of a part."""
    if part.of == 1:
        return recipe
    worlds = recipe.worlds or recipe.output.parent / "worlds"
    return with_own_cassettes(recipe, part).model_copy(update={"output": part.folder(recipe.output), "worlds": worlds})


def _play(
    evaluation: Evaluation,
    run: EvalRun,
    name: str,
    task: Task,
    part: RunPart,
    retry_errors: bool,
    elsewhere: Collection[str],
    watch: Watch,
) -> _Tally:
    recipe, tally = evaluation.recipe, _Tally()
    stage = f"{task.info.name}: {name}"
    total = len(range(part.number - 1, len(task.questions), part.of)) if isinstance(task.questions, Sized) else None

    def told(finished: Finished) -> None:
        tally.add(finished)
        watch(Step(stage, tally.played, total, str(tally)))

    watch(Step(stage, 0, total))
    asyncio.run(
        evaluate(
            run,
            task.info.name,
            task.questions,
            name,
            evaluation.workflow(name, task),
            evaluation.judges(),
            concurrency=recipe.concurrency,
            timeout=recipe.timeout,
            pictures=recipe.pictures,
            part=part,
            elsewhere=elsewhere,
            retry_errors=retry_errors,
            stop_after_errors=recipe.stop_after_errors,
            report=told,
        )
    )
    _note(run, task)
    # those that were played before are not among them
    watch(Step(stage, tally.played, tally.played))
    watch(f"{stage}: {tally.played} played, {tally}" if tally.played else f"{stage}: nothing left to play")
    return tally


def _tell_loaded(task: Task, watch: Watch) -> None:
    """What the loader left out, before anything is played. Raises UserError where nothing is left."""
    loaded = getattr(task.questions, "report", None)
    if loaded is None:
        return
    if not loaded.loaded:
        raise UserError(f"No question of {task.info.name} could be loaded: {loaded.left_out or 'it holds no rows'}.")
    for line in loaded.told:
        watch(f"{task.info.name}: {line}")


def _note(run: EvalRun, task: Task) -> None:
    """What the loader had to leave out, beside the figures."""
    loaded = getattr(task.questions, "report", None)
    if loaded is not None:
        told = {"rows": loaded.rows, "dropped": dict(loaded.dropped), "notes": dict(loaded.notes)}
        run.note(task.info.name, questions=loaded.loaded, notes=told)
