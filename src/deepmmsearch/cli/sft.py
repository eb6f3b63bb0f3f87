"""`deepmmsearch sft`: supervised fine-tuning on stored trajectories."""

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
    """Fine-tune a vision-language model on trajectories, as RECIPE says; an interrupted run goes on where it was.

    The result, an ordinary checkpoint, is in `merged` in the recipe's output folder, beside metrics and curves.

    \b
    Example:  deepmmsearch sft recipes/atlas/sft.yaml
              deepmmsearch sft recipes/atlas/sft.yaml output=runs/mine trl.learning_rate=1e-3
    """
    from deepmmsearch.cli.recipe_file import open_recipe
    from deepmmsearch.compose.training_recipes import FineTuning

    loaded = open_recipe(recipe, FineTuning, overrides)
    ready(loaded, recipe, dry_run)
    from deepmmsearch.compose.training import run_sft
    from deepmmsearch.train.shards import end_process, leave_processes

    with Bars() as bars:
        result = run_sft(loaded, bars)
        leave_processes()
    echo(f"Fine-tuned on {result.examples} trajectories; the checkpoint is in {result.merged}")
    end_process()
