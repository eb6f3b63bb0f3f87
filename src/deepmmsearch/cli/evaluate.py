"""`deepmmsearch eval`: workflows played over benchmarks, judged, and put into tables."""

from __future__ import annotations

from pathlib import Path

import click

from deepmmsearch.cli.bars import Bars
from deepmmsearch.cli.check import dry_run, ready


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--only", multiple=True, metavar="NAME", help="Only this workflow; may be given several times.")
@click.option("--benchmark", "benchmarks", multiple=True, metavar="NAME", help="Only this benchmark of the recipe.")
@click.option("--retry-errors", is_flag=True, help="Play again what failed in an earlier run.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html, .md and .json.")
@dry_run
def command(
    recipe: Path,
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    benchmarks: tuple[str, ...],
    retry_errors: bool,
    report: bool,
    dry_run: bool,
) -> None:
    """Play every workflow of RECIPE over every benchmark, judge the answers, write trajectories, verdicts and a report.

    An interrupted run continues with the next question. A question whose episode failed counts as wrong and is also
    counted separately.

    \b
    Example:  deepmmsearch eval recipes/eval/atlas.yaml
              deepmmsearch eval recipes/eval/atlas.yaml output=runs/eval/mine concurrency=8 --only agent
    """
    from deepmmsearch.cli.recipe_file import open_recipe
    from deepmmsearch.compose.eval_recipe import EvalRecipe
    from deepmmsearch.compose.evaluate import play_recipe

    loaded = open_recipe(recipe, EvalRecipe, overrides)
    ready(loaded, recipe, dry_run, only=only, benchmarks=benchmarks)
    with Bars() as bars:
        run = play_recipe(loaded, only, benchmarks, retry_errors=retry_errors, watch=bars)
    if report:
        from deepmmsearch.cli.report import write_all

        write_all([run], loaded.output, echo=click.echo)
