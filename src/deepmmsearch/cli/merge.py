"""`deepmmsearch merge`: a LoRA adapter and its model as one checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from deepmmsearch.errors import need
from deepmmsearch.streams import echo


@click.command()
@click.argument("model")
@click.argument("adapter", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
def command(model: str, adapter: Path, out: Path, dtype: str) -> None:
    """Merge the LoRA in ADAPTER into MODEL (a folder, or a name on the Hub) and write an ordinary checkpoint to OUT.

    \b
    Example:  deepmmsearch merge runs/atlas/base/checkpoint runs/atlas/sft/adapter runs/atlas/merged
    """
    from deepmmsearch.errors import UserError

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty. Give a new folder.")
    need("Merging an adapter", "train")
    from deepmmsearch.train.merging import merge

    merge(model, adapter, out.resolve(), dtype)
    echo(f"The merged checkpoint is in {out}. Try it: deepmmsearch ask IMAGE QUESTION --model {out}")
