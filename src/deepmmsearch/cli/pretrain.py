"""`deepmmsearch pretrain`: the small base model from scratch."""

from __future__ import annotations

from pathlib import Path

import click

from deepmmsearch.cli.bars import Bars
from deepmmsearch.errors import need


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
def command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Train the small base model from scratch, as RECIPE says; an interrupted run goes on where it was.

    \b
    Example:  deepmmsearch pretrain recipes/atlas/base.yaml
              deepmmsearch pretrain recipes/atlas/base.yaml output=runs/mine text.steps=200
    """
    need("Training", "train")
    from deepmmsearch.bundled.pretrain import pretrain
    from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
    from deepmmsearch.cli.recipe_file import open_recipe

    with Bars() as bars:
        folder = pretrain(open_recipe(recipe, PretrainRecipe, overrides), bars)
    click.echo(f"The base model is in {folder}")
