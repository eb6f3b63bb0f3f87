"""`deepmmsearch grpo`: reinforcement learning with live tools."""

from __future__ import annotations

from pathlib import Path

import click

from deepmmsearch.cli.bars import Bars
from deepmmsearch.cli.check import dry_run, ready
from deepmmsearch.streams import echo


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@dry_run
def command(recipe: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Train a policy with GRPO on its own episodes with live tools, as RECIPE says; an interrupted run goes on where it
    was.

    The result, an ordinary checkpoint, is in `merged` in the recipe's output folder, beside metrics, curves and sample
    trajectories (see them with: deepmmsearch show OUTPUT/samples/step-00010 ID).

    \b
    Example:  deepmmsearch grpo recipes/atlas/grpo.yaml
              deepmmsearch grpo recipes/atlas/grpo.yaml output=runs/mine trl.learning_rate=1e-5
    """
    from deepmmsearch.cli.recipe_file import open_recipe
    from deepmmsearch.compose.training_recipes import AnyExperiment

    loaded = open_recipe(recipe, AnyExperiment, overrides)
    ready(loaded, recipe, dry_run)
    from deepmmsearch.compose.training import run_grpo
    from deepmmsearch.train.shards import end_process, leave_processes

    with Bars() as bars:
        result = run_grpo(loaded, bars)
        leave_processes()
    echo(f"The checkpoint is in {result.merged}, the adapter alone in {result.adapter}")
    end_process()
