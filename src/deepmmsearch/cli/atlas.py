"""`deepmmsearch atlas`: make invented worlds, and play their questions."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Make invented worlds: pages, pictures, questions, gold answers; play their questions.

    \b
    Example:  deepmmsearch atlas make world --seed 1
              deepmmsearch index build world/sites --index world-index
              deepmmsearch atlas play world --index world-index --out world-trajectories
    """


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", type=int, required=True, help="Another seed, another world.")
@click.option(
    "--split",
    type=click.Choice(["eval", "train"]),
    default="eval",
    show_default=True,
    help="Worlds of the two splits share no name and no flag, except the famous countries'.",
)
@click.option("--countries", type=click.IntRange(12, 80), default=24, show_default=True, help="Unknown countries.")
@click.option("--famous", type=click.IntRange(1, 12), default=6, show_default=True, help="Countries known by heart.")
@click.option("--questions", type=click.IntRange(min=0), default=300, show_default=True, help="Questions to write.")
def make(folder: Path, seed: int, split: str, countries: int, famous: int, questions: int) -> None:
    """Write the world of a seed into FOLDER: websites, questions, their pictures.

    FOLDER must be new, empty or an atlas, which is then replaced. Nothing is left half-written.

    \b
    Example:  deepmmsearch atlas make world --seed 1 --split eval --questions 300
    """
    from deepmmsearch.atlas.files import refuse_other, write_atlas
    from deepmmsearch.atlas.questions import each_question
    from deepmmsearch.atlas.world import make_world

    refuse_other(folder)
    world = make_world(seed, "train" if split == "train" else "eval", countries, famous)
    with click.progressbar(
        each_question(world, questions), length=questions, label="Questions", hidden=not questions
    ) as rows:
        write_atlas(world, folder, rows)
    click.echo(f"Wrote {folder}. Index its pages with: deepmmsearch index build {folder / 'sites'}")


@command.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of trajectories to write to.")
@click.option("--worlds", type=click.IntRange(min=1), default=16, show_default=True, help="Training worlds to play.")
@click.option("--questions", type=click.IntRange(min=1), default=400, show_default=True, help="Questions a world.")
@click.option("--seed", type=int, default=1000, show_default=True, help="Seed of the first world.")
def teach(out: Path, worlds: int, questions: int, seed: int) -> None:
    """Play the oracle on training worlds through the real engine, for supervised fine-tuning.

    An interrupted run goes on with the world it was at.

    \b
    Example:  deepmmsearch atlas teach --out runs/atlas/teacher --worlds 16 --questions 400
    """
    from deepmmsearch.atlas.teach import Lessons
    from deepmmsearch.atlas.teach import teach as play_worlds
    from deepmmsearch.store import TrajectoryStore

    play_worlds(Lessons(worlds, questions, seed), TrajectoryStore(out), click.echo)
