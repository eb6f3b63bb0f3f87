"""`deepmmsearch pretrain`: the small base model from scratch."""

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
    """Train the small base model from scratch, as RECIPE says; an interrupted run goes on where it was.

    \b
    Example:  deepmmsearch pretrain recipes/atlas/base.yaml
              deepmmsearch pretrain recipes/atlas/base.yaml output=runs/mine text.steps=200
    """
    from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
    from deepmmsearch.cli.recipe_file import open_recipe

    loaded = open_recipe(recipe, PretrainRecipe, overrides)
    ready(loaded, recipe, dry_run)
    from deepmmsearch.bundled.pretrain import pretrain

    with Bars() as bars:
        folder = pretrain(loaded, bars)
    echo(f"The base model is in {folder}")
