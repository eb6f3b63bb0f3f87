"""A recipe of an evaluation, played: every workflow over every benchmark, one policy after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext

from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.evaluation import ORACLE, Evaluation, Task, limited
from deepmmsearch.errors import Failed, UnknownName, UserError
from deepmmsearch.eval.run import EvalRun, Progress, evaluate

Watching = AbstractContextManager[Callable[[Progress], None]]
"""While it is open, what it gives is told of each question that was played."""
Watch = Callable[[str, str, int | None], Watching]
"""Of a benchmark, a workflow and how many questions there are (None where it is not known)."""


def unwatched(benchmark: str, workflow: str, questions: int | None) -> Watching:
    return nullcontext(lambda progress: None)


def play_recipe(
    recipe: EvalRecipe,
    only: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    *,
    retry_errors: bool = False,
    opening: Callable[[str], AbstractContextManager[object]] = nullcontext,
    watch: Watch = unwatched,
) -> EvalRun:
    """Plays and judges what is missing. `only`: of these workflows; `benchmarks`: of these alone. `opening` surrounds
    the making of each benchmark.

    Raises UnknownName for a workflow or benchmark that is not in the recipe, UserError for what cannot be played,
    Failed where too much failed in a row, or everything did.
    """
    for name in only:
        if name not in recipe.workflows:
            raise UnknownName("workflow in the recipe", name, recipe.workflows)
    evaluation = Evaluation(recipe)
    run = EvalRun(recipe.output)
    chosen = [name for name in recipe.workflows if not only or name in only]
    tasks = []
    for settings in limited(recipe.benchmarks, benchmarks):
        with opening(settings.label or settings.name):
            tasks.append(evaluation.task(settings))
    run.describe(
        [evaluation.described(name) for name in chosen],
        [task.info for task in tasks],
        list(recipe.judges),
        recipe=recipe.model_dump(mode="json"),
    )
    # One policy after another: several models need not fit into memory at once.
    players = {name: evaluation.name_of(recipe.workflows[name]) for name in chosen}
    chosen.sort(key=lambda name: [*recipe.policies, ORACLE].index(players[name]))
    errors: list[str | None] = []
    for number, name in enumerate(chosen):
        for task in tasks:
            if recipe.workflows[name].kind == "oracle" and task.tools is None:
                continue
            errors += _play(evaluation, run, name, task, retry_errors, watch)
        evaluation.release(players[later] for later in chosen[number + 1 :])
    if errors and all(errors):
        raise Failed(f"All {len(errors)} questions failed, the last with: {errors[-1]} Run again with --retry-errors.")
    return run


def _play(
    evaluation: Evaluation, run: EvalRun, name: str, task: Task, retry_errors: bool, watch: Watch
) -> list[str | None]:
    """What each question that was played failed with."""
    errors: list[str | None] = []

    def told(progress: Progress) -> None:
        errors.append(progress.trajectory.error)
        report(progress)

    recipe = evaluation.recipe
    total = len(task.questions) if isinstance(task.questions, Sized) else None
    with watch(task.info.name, name, total) as report:
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
                retry_errors=retry_errors,
                stop_after_errors=recipe.stop_after_errors,
                report=told,
            )
        )
        _note(run, task)
    return errors


def _note(run: EvalRun, task: Task) -> None:
    """What the loader had to leave out, beside the figures."""
    loaded = getattr(task.questions, "report", None)
    if loaded is not None:
        run.note(task.info.name, questions=loaded.loaded, notes={"rows": loaded.rows, "dropped": dict(loaded.dropped)})
        if loaded.rows and not loaded.loaded:
            raise UserError(f"No question of {task.info.name} could be loaded: {dict(loaded.dropped)}.")
