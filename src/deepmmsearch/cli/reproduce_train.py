"""`deepmmsearch reproduce train`: base, SFT and GRPO on invented worlds, measured on unseen questions."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from deepmmsearch.cli.bars import Bars
from deepmmsearch.cli.check import dry_run, ready
from deepmmsearch.errors import need


@click.command()
@click.option("--scale", type=click.Choice(["atlas"]), default="atlas", show_default=True, help="What is trained.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/study"), show_default=True)
@click.option(
    "--recipes", type=click.Path(path_type=Path), help="Their folder.  [default: recipes/atlas, here or shipped]"
)
@click.option("--seeds", type=click.IntRange(1, 20), default=3, show_default=True, help="RL runs of the comparison.")
@click.option("--questions", type=click.IntRange(1), default=500, show_default=True, help="Held-out questions.")
@click.option("--jobs", type=click.IntRange(1), help="Jobs at once, a thread each.  [default: the cores]")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="VARIABLE",
    help="Environment variable that a job needs; others stay here.",
)
@click.argument("overrides", nargs=-1)
@dry_run
def command(
    scale: str,
    out: Path,
    recipes: Path | None,
    seeds: int,
    questions: int,
    jobs: int | None,
    keys: tuple[str, ...],
    overrides: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train base, SFT and GRPO from scratch and measure each on questions about worlds that none has seen.

    Prints accuracies with bootstrap 95 % intervals and which claims the figures show; writes study.md, study.json and
    study.png to OUT. An interrupted run continues where it stopped. OVERRIDES change the GRPO recipe.

    \b
    Example:  deepmmsearch reproduce train --scale atlas
              deepmmsearch reproduce train --seeds 1 --questions 100 trl.max_steps=20
    """
    from deepmmsearch.compose.shipped import shipped_folder
    from deepmmsearch.errors import UserError

    unset = [name for name in keys if name not in os.environ]
    if unset:
        raise UserError(f"--key {unset[0]}: there is no such environment variable. Set it, or leave the option out.")
    if recipes is None:
        here = Path("recipes/atlas")
        recipes = here if here.is_dir() else shipped_folder() / "atlas"
    missing = [name for name in ("base.yaml", "sft.yaml", "grpo.yaml") if not (recipes / name).is_file()]
    if missing:
        raise UserError(f"{recipes} has no {', '.join(missing)}. Give a folder that holds them: --recipes FOLDER")
    need("Training", "engine", "train")
    from deepmmsearch.reproduce.study import Study, measure_all, run_jobs
    from deepmmsearch.reproduce.study_check import check_study
    from deepmmsearch.reproduce.study_figures import write_study

    study = Study(recipes, out, seeds=tuple(range(seeds)), overrides=overrides, keys=keys)
    ready(check_study(study), "the training study", dry_run)
    at_once = jobs or os.cpu_count() or 1
    # as Ctrl-C does, which reaches the jobs by itself
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Bars() as bars:
        run_jobs(study, at_once, bars)
        write_study(study, measure_all(study, 7, questions, at_once, bars), bars)
