"""`deepmmsearch atlas`: make invented worlds, and play their questions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmmsearch.cli.bars import Bars
from deepmmsearch.errors import UserError, need
from deepmmsearch.progress import Step, Watch, tracked
from deepmmsearch.streams import echo

if TYPE_CHECKING:
    from deepmmsearch.atlas.world import Kinds, Tongue

LANGUAGES = ["english", "velic"]


def variants(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say how a world is told and asked about."""
    for option in (
        click.option(
            "--kinds",
            type=click.Choice(["papers", "tools"]),
            default="papers",
            show_default=True,
            help="The papers' questions, or such as need zoom, visit or a second image search.",
        ),
        click.option(
            "--asked-in", type=click.Choice(LANGUAGES), help="Language of the questions.  [default: the pages']"
        ),
        click.option(
            "--language",
            type=click.Choice(LANGUAGES),
            default="english",
            show_default=True,
            help="Language of the pages.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def command() -> None:
    """Make invented worlds: pages, pictures, questions, gold answers; play their questions.

    \b
    Example:  deepmmsearch atlas make world --seed 1
              deepmmsearch index build world/sites --titles apart --out world-index
              deepmmsearch atlas play world --index world-index --out world-trajectories
    """


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", type=int, required=True, help="Which world; each seed gives another.")
@click.option(
    "--split",
    type=click.Choice(["eval", "train"]),
    default="eval",
    show_default=True,
    help="Worlds of the two splits share no name and no flag, except the famous countries'.",
)
@click.option(
    "--countries",
    type=click.IntRange(12, 80),
    default=24,
    show_default=True,
    help="How many countries that no model knows.",
)
@click.option(
    "--famous",
    type=click.IntRange(1, 12),
    default=6,
    show_default=True,
    help="How many countries that everybody knows.",
)
@click.option(
    "--questions", type=click.IntRange(min=0), default=300, show_default=True, help="How many questions to write."
)
@variants
def make(
    folder: Path,
    seed: int,
    split: str,
    countries: int,
    famous: int,
    questions: int,
    language: Tongue,
    asked_in: Tongue | None,
    kinds: Kinds,
) -> None:
    """Write the world of a seed into FOLDER: websites, questions, their pictures.

    FOLDER must be new or empty; if it already holds exactly this world, nothing is changed. The world appears whole or
    not at all.

    \b
    Example:  deepmmsearch atlas make world --seed 1 --split eval --questions 300
    """
    from deepmmsearch.atlas.questions import each_question
    from deepmmsearch.atlas.world import Variant, make_world
    from deepmmsearch.atlas.world_files import holds_atlas, write_atlas

    variant = Variant(language, asked_in, kinds)
    world = make_world(seed, "train" if split == "train" else "eval", countries, famous, variant)
    if holds_atlas(folder, world, questions):
        echo(f"{folder} is this world already. Nothing was changed.")
        return
    with Bars() as bars:
        bars(Step("Questions", 0, questions))
        write_atlas(world, folder, tracked(each_question(world, questions), "Questions", questions, bars))
    echo(f"Wrote {folder}. Index its pages with: deepmmsearch index build {folder / 'sites'} --titles apart")


@command.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of trajectories to write to.")
@click.option(
    "--worlds", type=click.IntRange(min=1), default=16, show_default=True, help="How many training worlds to play."
)
@click.option("--questions", type=click.IntRange(min=1), default=400, show_default=True, help="Questions per world.")
@click.option("--seed", type=int, default=1000, show_default=True, help="Seed of the first world.")
@click.option(
    "--careful",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the facts known by heart that the oracle looks up anyway.",
)
@click.option(
    "--prompt",
    type=click.Choice(["atlas", "atlas-tools"]),
    default="atlas",
    show_default=True,
    help="The prompt set that it is played with.",
)
@click.option(
    "--closeups",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Signs on flags seen close, with their colours, for each world.",
)
@variants
def teach(
    out: Path,
    worlds: int,
    questions: int,
    seed: int,
    careful: float,
    prompt: str,
    closeups: int,
    language: Tongue,
    asked_in: Tongue | None,
    kinds: Kinds,
) -> None:
    """Let the oracle play training worlds with the real engine, for supervised fine-tuning.

    An interrupted run continues with the world that it was working on.

    \b
    Example:  deepmmsearch atlas teach --out runs/atlas/teacher --worlds 16 --questions 400
    """
    from deepmmsearch.atlas.teach import Lessons
    from deepmmsearch.atlas.teach import teach as teach_worlds
    from deepmmsearch.atlas.world import Variant

    need("Playing worlds", "engine")
    with Bars() as bars:
        variant = Variant(language, asked_in, kinds)
        lessons = Lessons(worlds, questions, seed, careful, prompt=prompt, closeups=closeups, variant=variant)
        teach_worlds(lessons, out, bars)


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--index", type=click.Path(path_type=Path), required=True, help="The index of FOLDER/sites.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of trajectories to write to.")
@click.option("--policy", type=click.Choice(["oracle"]), default="oracle", show_default=True, help="Who plays.")
@click.option(
    "--prompt",
    type=click.Choice(["atlas", "atlas-direct", "atlas-tools"]),
    default="atlas",
    show_default=True,
    help="With tools, or answering directly.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Play only this many questions, from the first on.")
def play(folder: Path, index: Path, out: Path, policy: str, prompt: str, limit: int | None) -> None:
    """Play the questions of an atlas through its index and store the trajectories.

    Questions whose trajectories are in --out already are skipped, so an interrupted run continues where it stopped.
    Ends with accuracy and searches by kind of question. The oracle reads what the tools return, never the world: its
    accuracy is the upper bound for any policy with these tools.

    \b
    Example:  deepmmsearch atlas play world --index world-index --out world-trajectories --policy oracle
    """
    import asyncio
    from itertools import islice

    from deepmmsearch.agent.runner import AgentWorkflow, run_all, without_pictures
    from deepmmsearch.atlas.oracle import OraclePolicy
    from deepmmsearch.atlas.play import with_gold_boxes
    from deepmmsearch.atlas.world_files import count_questions, kinds_of, read_questions
    from deepmmsearch.atlas.worlds import atlas_tools
    from deepmmsearch.console import Console
    from deepmmsearch.digests import prompt_content, questions_content
    from deepmmsearch.engine import Index
    from deepmmsearch.eval.figures import measure_exactly
    from deepmmsearch.eval.kinds import kind_table
    from deepmmsearch.outputs import Output, content
    from deepmmsearch.prompts import load_prompt
    from deepmmsearch.show.tabulate import console_table
    from deepmmsearch.store import TrajectoryStore
    from deepmmsearch.types import PAPER_LIMITS, Limits, Trajectory

    opened = Index.open(index)
    if not opened.stats()["passages"]:
        raise UserError(
            f"The index {index} holds no pages. "
            f"Run: deepmmsearch index build {folder}/sites --titles apart --out {index}"
        )
    kinds = kinds_of(folder)
    tools = atlas_tools(folder, opened, kinds)
    limits = Limits(image_searches=2) if kinds == "tools" else PAPER_LIMITS
    output = Output(out, "atlas play", private=True)
    asked, searched = questions_content(read_questions(folder)), content(index, opened.digest())
    told = prompt_content(load_prompt(prompt))
    output.claim({"policy": policy, "prompt": told, "questions": asked, "index": searched})
    store = TrajectoryStore(out)
    done = set(store.ids())
    count = min(count_questions(folder), limit or sys.maxsize)
    questions = (q for q in islice(read_questions(folder), count) if q.id not in done)

    async def run(watch: Watch) -> list[Trajectory]:
        finished: list[Trajectory] = []
        watch(Step("Questions", min(len(done), count), count))
        oracle = AgentWorkflow(OraclePolicy(), load_prompt(prompt), with_gold_boxes(tools), limits, policy)
        async for trajectory in run_all(questions, oracle):
            await asyncio.to_thread(store.append, trajectory)
            # Scenes are on the disk now; thousands of them would not fit into memory.
            finished.append(without_pictures(trajectory))
            watch(Step("Questions", min(len(done) + len(finished), count), count))
        return finished

    with Bars() as bars:
        finished = asyncio.run(run(bars))
    echo(f"Played {len(finished)} questions, {count - len(finished)} were in {out} already.")
    if finished:
        Console().print(console_table(kind_table({policy: measure_exactly(finished)})))
