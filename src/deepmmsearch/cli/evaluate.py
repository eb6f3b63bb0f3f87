"""`deepmmsearch eval`: workflows played over benchmarks, judged, and put into tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmmsearch import progress
from deepmmsearch.cli.bars import Bars

if TYPE_CHECKING:
    from deepmmsearch.compose.eval_recipe import EvalRecipe
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
    from deepmmsearch.compose.eval_recipe import EvalRecipe
    from deepmmsearch.compose.recipe import load_recipe

    loaded = load_recipe(recipe, EvalRecipe, overrides)
    run = run_recipe(loaded, only, benchmarks, retry_errors)
    if report:
        from deepmmsearch.cli.report import write_all

        write_all([run], loaded.output, echo=click.echo)


def run_recipe(
    recipe: EvalRecipe, only: Sequence[str] = (), benchmarks: Sequence[str] = (), retry_errors: bool = False
) -> EvalRun:
    """Plays what is missing, with a progress bar. Raises UserError, UnknownName."""
    from deepmmsearch.compose.evaluate import play_recipe

    with Bars() as bars:
        return play_recipe(
            recipe,
            only,
            benchmarks,
            retry_errors=retry_errors,
            opening=lambda name: bars.during(f"Opening {name}"),
            watch=lambda benchmark, workflow, count: _playing(bars, f"{benchmark}: {workflow}", count),
        )


@dataclass
class _Tally:
    """What the progress bar says."""

    played: int = 0
    score: float = 0.0
    errors: int = 0
    cost: float = 0.0

    def add(self, step: Step) -> None:
        self.played += 1
        self.score += step.score
        self.errors += step.trajectory.error is not None
        self.cost += step.trajectory.cost

    def __str__(self) -> str:
        text = f"{self.score / max(1, self.played):.0%} right"
        text += f", {self.errors} failed" if self.errors else ""
        return text + (f", ${self.cost:.2f}" if self.cost else "")


@contextmanager
def _playing(bars: Bars, name: str, questions: int | None) -> Iterator[Callable[[Step], None]]:
    tally = _Tally()
    bars(progress.Step(name, 0, questions))

    def report(step: Step) -> None:
        tally.add(step)
        bars(progress.Step(name, tally.played, questions, str(tally)))

    yield report
    # those that were played before are not among them
    bars(progress.Step(name, tally.played, tally.played))
    bars(f"{name}: {tally.played} played, {tally}" if tally.played else f"{name}: nothing left to play")
