"""`deepmmsearch eval`: workflows played over benchmarks, judged, and put into tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deepmmsearch.errors import UserError

if TYPE_CHECKING:
    from deepmmsearch.compose.evaluation import EvalRecipe, Evaluation, Task
    from deepmmsearch.eval.run import EvalRun
    from deepmmsearch.eval.run import Progress as Step


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--only", multiple=True, metavar="NAME", help="Only this workflow; may be given several times.")
@click.option("--benchmark", "benchmarks", multiple=True, metavar="NAME", help="Only this benchmark of the recipe.")
@click.option("--retry-errors", is_flag=True, help="Play again what failed in an earlier run.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html, .md and .json.")
def command(
    recipe: Path,
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    benchmarks: tuple[str, ...],
    retry_errors: bool,
    report: bool,
) -> None:
    """Play every workflow of RECIPE over every benchmark, judge the answers, write trajectories, verdicts and a report.

    An interrupted run goes on by question. A question whose episode failed counts as wrong and is counted apart.

    \b
    Example:  deepmmsearch eval recipes/eval/atlas.yaml
              deepmmsearch eval recipes/eval/atlas.yaml output=runs/eval/mine concurrency=8 --only agent
    """
    from deepmmsearch.compose.evaluation import EvalRecipe
    from deepmmsearch.compose.recipe import load_recipe

    loaded = load_recipe(recipe, EvalRecipe, overrides)
    run = run_recipe(Console(highlight=False), loaded, only, benchmarks, retry_errors)
    if report:
        from deepmmsearch.cli.report import write_all

        write_all([run], loaded.output, echo=click.echo)


def run_recipe(
    console: Console,
    recipe: EvalRecipe,
    only: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    retry_errors: bool = False,
) -> EvalRun:
    """Plays what is missing. Raises UserError, UnknownName."""
    from deepmmsearch.compose.evaluation import Evaluation, limited
    from deepmmsearch.errors import UnknownName
    from deepmmsearch.eval.run import EvalRun

    for name in only:
        if name not in recipe.workflows:
            raise UnknownName("workflow in the recipe", name, recipe.workflows)
    evaluation = Evaluation(recipe)
    run = EvalRun(recipe.output)
    chosen = [name for name in recipe.workflows if not only or name in only]
    tasks = []
    for settings in limited(recipe.benchmarks, benchmarks):
        with console.status(f"Opening {settings.label or settings.name} ..."):
            tasks.append(evaluation.task(settings))
    run.describe(
        [evaluation.described(name) for name in chosen],
        [task.info for task in tasks],
        list(recipe.judges),
        recipe=recipe.model_dump(mode="json"),
    )
    # One policy after another: several models need not fit into memory at once.
    chosen.sort(
        key=lambda name: list(recipe.policies).index(recipe.workflows[name].policy or next(iter(recipe.policies)))
    )
    for number, name in enumerate(chosen):
        for task in tasks:
            if recipe.workflows[name].kind == "oracle" and task.tools is None:
                continue
            asyncio.run(_play(console, evaluation, run, name, task, retry_errors))
        evaluation.release(recipe.workflows[later].policy for later in chosen[number + 1 :])
    return run


@dataclass
class _Tally:
    """What the progress bar says."""

    played: int = 0
    score: float = 0.0
    errors: int = 0
    cost: float = 0.0
    advance: Callable[[str], None] = field(default=lambda _: None)

    def add(self, step: Step) -> None:
        self.played += 1
        self.score += step.score
        self.errors += step.trajectory.error is not None
        self.cost += step.trajectory.cost
        self.advance(str(self))

    def __str__(self) -> str:
        text = f"{self.score / max(1, self.played):.0%} right"
        text += f", {self.errors} failed" if self.errors else ""
        return text + (f", ${self.cost:.2f}" if self.cost else "")


async def _play(
    console: Console, evaluation: Evaluation, run: EvalRun, name: str, task: Task, retry_errors: bool
) -> None:
    from deepmmsearch.eval.run import evaluate

    recipe = evaluation.recipe
    total = len(task.questions) if isinstance(task.questions, Sized) else None
    tally = _Tally()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"{task.info.name}: {name}", total=total, said="")
        tally.advance = lambda said: progress.update(bar, advance=1, said=said)
        played = await evaluate(
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
            report=tally.add,
        )
    _note(run, task)
    state = f"{played} played, {tally}" if played else "nothing left to play"
    console.print(f"{task.info.name}: {name}: {state}")


def _note(run: EvalRun, task: Task) -> None:
    """What the loader had to leave out, beside the figures."""
    loaded = getattr(task.questions, "report", None)
    if loaded is not None:
        run.note(task.info.name, questions=loaded.loaded, notes={"rows": loaded.rows, "dropped": dict(loaded.dropped)})
        if loaded.rows and not loaded.loaded:
            raise UserError(f"No question of {task.info.name} could be loaded: {dict(loaded.dropped)}.")
