"""`deepmmsearch eval`: workflows played over benchmarks, judged, and put into tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmmsearch.cli.bars import Bars
from deepmmsearch.cli.check import dry_run, ready
from deepmmsearch.cli.part_options import cluster_of, part_options
from deepmmsearch.cli.storage_options import folders, out_option, working_copy
from deepmmsearch.streams import echo

if TYPE_CHECKING:
    from deepmmsearch.eval.run import EvalRun
    from deepmmsearch.outputs import RunPart


class PlayOrMerge(click.Group):
    """A recipe may stand where a subcommand does: it is played."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args[:1] == ["merge"] else ["play", *args])


@click.group(cls=PlayOrMerge)
def command() -> None:
    """Play workflows over benchmarks, or merge the parts of an evaluation.

    \b
    Example:  deepmmsearch eval eval/atlas
              deepmmsearch eval merge runs/eval/atlas runs/eval/atlas.part-*
    """


@command.command(name="play")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--only", multiple=True, metavar="NAME", help="Only this workflow; may be given several times.")
@click.option("--benchmark", "benchmarks", multiple=True, metavar="NAME", help="Only this benchmark of the recipe.")
@click.option("--sample", type=click.IntRange(min=1), help="Draw so many questions of each benchmark.")
@click.option("--seed", type=int, help="Draws the sample.  [default: the recipe's]")
@click.option("--limit", type=click.IntRange(min=1), help="Play only the first so many of each benchmark.")
@part_options
@out_option
@click.option("--retry-errors", is_flag=True, help="Play again what failed in an earlier run.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html, .md and .json.")
@dry_run
def play_command(
    recipe: Path,
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    benchmarks: tuple[str, ...],
    sample: int | None,
    seed: int | None,
    limit: int | None,
    part: RunPart | None,
    address: str | None,
    workers: int | None,
    worker_gpus: float | None,
    out: str | None,
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
              deepmmsearch eval recipes/eval/atlas.yaml --part 3/8
              deepmmsearch eval merge runs/eval/atlas runs/eval/atlas.part-*
              deepmmsearch eval recipes/eval/atlas.yaml --ray local --workers 8
              deepmmsearch eval recipes/eval/atlas.yaml --out s3://bucket/atlas
    """
    from deepmmsearch.cli.recipe_file import open_recipe
    from deepmmsearch.compose.eval_recipe import EvalRecipe
    from deepmmsearch.compose.evaluate import part_of, play_recipe
    from deepmmsearch.outputs import WHOLE

    cluster = cluster_of(part, address, workers, worker_gpus)
    loaded = open_recipe(recipe, EvalRecipe, overrides)
    given = {"sample": sample, "seed": seed, "limit": limit}
    given = {name: value for name, value in given.items() if value is not None}
    loaded = loaded.model_copy(update={"benchmarks": [b.model_copy(update=given) for b in loaded.benchmarks]})
    copy = partial(working_copy, part_of(loaded, part or WHOLE).output, out, part)
    ready(loaded, recipe, dry_run, copy, only=only, benchmarks=benchmarks)
    with Bars() as bars, copy(bars):
        if cluster is not None:
            from deepmmsearch.scale.ray_workers import play_on_ray

            play: Callable[..., EvalRun] = partial(play_on_ray, cluster=cluster)
        else:
            play = partial(play_recipe, part=part or WHOLE)
        run = play(loaded, only=only, benchmarks=benchmarks, retry_errors=retry_errors, watch=bars)
        if report and part is None:
            from deepmmsearch.cli.report import write_all

            write_all([run], loaded.output, echo=bars)


@command.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("parts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html, .md and .json.")
def merge(out: Path, parts: tuple[Path, ...], report: bool) -> None:
    """Put PARTS, folders that `deepmmsearch eval RECIPE --part I/N` wrote, together into OUT. What OUT holds already is
    not added again. PARTS may lie in object storage.

    \b
    Example:  deepmmsearch eval merge runs/eval/atlas runs/eval/atlas.part-*
    """
    from deepmmsearch.cli.report import write_all
    from deepmmsearch.eval.run import EvalRun
    from deepmmsearch.eval.run_parts import merge_runs, missing

    added = merge_runs(out, folders(parts))
    echo(f"{added['trajectories']:,} trajectories and {added['verdicts']:,} verdicts are new in {out}")
    run = EvalRun(out)
    for line in missing(run):
        echo(line)
    if report:
        write_all([run], out, echo=echo)
