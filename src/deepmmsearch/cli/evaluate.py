"""`deepmmsearch eval`: workflows played over benchmarks, judged, and put into tables."""

from __future__ import annotations

from pathlib import Path

import click

from deepmmsearch.cli.bars import Bars
from deepmmsearch.cli.check import dry_run, ready
from deepmmsearch.streams import echo


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--only", multiple=True, metavar="NAME", help="Only this workflow; may be given several times.")
@click.option("--benchmark", "benchmarks", multiple=True, metavar="NAME", help="Only this benchmark of the recipe.")
@click.option("--sample", type=click.IntRange(min=1), help="Draw so many questions of each benchmark.")
@click.option("--seed", type=int, help="Draws the sample.  [default: the recipe's]")
@click.option("--limit", type=click.IntRange(min=1), help="Play only the first so many of each benchmark.")
@click.option("--retry-errors", is_flag=True, help="Play again what failed in an earlier run.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html, .md and .json.")
@dry_run
def command(
    recipe: Path,
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    benchmarks: tuple[str, ...],
    sample: int | None,
    seed: int | None,
    limit: int | None,
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
              deepmmsearch eval recipes/eval/atlas.yaml output=runs/eval/try --limit 5
    """
    from deepmmsearch.cli.recipe_file import open_recipe
    from deepmmsearch.compose.eval_recipe import EvalRecipe
    from deepmmsearch.compose.evaluate import play_recipe

    loaded = open_recipe(recipe, EvalRecipe, overrides)
    given = {"sample": sample, "seed": seed, "limit": limit}
    given = {name: value for name, value in given.items() if value is not None}
    loaded = loaded.model_copy(update={"benchmarks": [b.model_copy(update=given) for b in loaded.benchmarks]})
    ready(loaded, recipe, dry_run, only=only, benchmarks=benchmarks)
    with Bars() as bars:
        run = play_recipe(loaded, only, benchmarks, retry_errors=retry_errors, watch=bars)
    if report:
        from deepmmsearch.cli.report import write_all

        write_all([run], loaded.output, echo=echo)
