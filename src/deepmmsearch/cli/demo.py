"""`deepmmsearch demo`: an invented world that the model has never seen, asked about through the real tools."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from deepmmsearch.cli.bars import Bars
from deepmmsearch.console import Console
from deepmmsearch.errors import Failed, UserError, need
from deepmmsearch.progress import Step, Watch

if TYPE_CHECKING:
    from deepmmsearch.agent import Toolbox
    from deepmmsearch.agent.runner import ToolsFor
    from deepmmsearch.types import Policy, Question, Trajectory

# Kinds shown turn by turn, the most telling first.
SHOWN = ("image_two_text", "refine", "image_text", "memory")
AGENT, DIRECT, NO_CROP = "with tools", "answering directly", "without crop"


@click.command()
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Which world and questions; each seed gives others."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder to write to."
)
@click.option(
    "--questions", type=click.IntRange(1, 2000), default=100, show_default=True, help="How many questions to score."
)
@click.option(
    "--policy",
    default="bundled",
    show_default=True,
    metavar="bundled|oracle|FOLDER",
    help="The bundled model, a perfect player (the upper bound for these tools), or your own checkpoint.",
)
@click.option(
    "--show", type=click.IntRange(0, 4), default=3, show_default=True, help="How many questions to show turn by turn."
)
def command(seed: int, out: Path, questions: int, policy: str, show: int) -> None:
    """Make a world that the model has never seen, index it, and watch the model answer questions about its pictures.

    A few questions are shown turn by turn. Then all are played three times: with tools, answering directly, and with
    the image search limited to whole pictures. Ends with the accuracies and writes OUT/report.html; nothing is written
    outside OUT.

    \b
    Example:  deepmmsearch demo
              deepmmsearch demo --seed 7 --questions 200 --out demo-7
              deepmmsearch demo --policy oracle
    """
    from deepmmsearch.outputs import Output

    need("The demo", *(["local"] if policy != "oracle" else []), "engine")
    console = Console()
    output, made_with = Output(out, "demo"), {"seed": seed, "questions": questions}
    output.expect(made_with, {})
    began = time.perf_counter()
    with Bars() as bars, bars.during("Loading the model"):
        player = _player(policy)
    output.claim(made_with)
    tools = _world(console, out, seed, questions)
    asked = _questions(out)
    asyncio.run(_show(console, player, tools, _chosen(asked, show)))
    with Bars() as bars:
        runs = asyncio.run(_compare(bars, player, tools, asked))
    _store(out, runs[AGENT].trajectories)
    _finish(console, out, seed, player, runs, time.perf_counter() - began)


@dataclass(frozen=True)
class _Player:
    """A policy, the tools it plays with (what grounds its phrases differs), its prompts with tools and without."""

    name: str
    policy: Policy
    tools_for: Callable[[Toolbox], ToolsFor]
    prompt: str = "atlas"
    direct: str = "atlas-direct"


def _player(name: str) -> _Player:
    if name == "oracle":
        from deepmmsearch.atlas.oracle import OraclePolicy
        from deepmmsearch.atlas.play import with_gold_boxes

        return _Player("the oracle", OraclePolicy(), with_gold_boxes)
    from deepmmsearch.bundled import BUNDLED
    from deepmmsearch.compose.policies import local_policy, policy_grounder

    folder = BUNDLED if name == "bundled" else Path(name)
    if not (folder / "config.json").is_file():
        raise UserError(f"There is no model in {folder}. Give --policy bundled, oracle or a checkpoint folder.")
    local = local_policy(folder)
    grounder = policy_grounder(local)
    prompt = local.card.prompt or "deepmmsearch-r1"
    return _Player(
        "the bundled model" if name == "bundled" else str(folder),
        local,
        lambda tools: lambda question: replace(tools, grounder=grounder),
        prompt,
        "atlas-direct" if prompt == "atlas" else "direct",
    )


def _world(console: Console, out: Path, seed: int, questions: int) -> Toolbox:
    """Makes and indexes the world, unless an earlier run did; returns the tools that search it."""
    from deepmmsearch.atlas.worlds import keep_world
    from deepmmsearch.engine import Index

    with Bars() as bars:
        kept = keep_world(out, seed, "eval", questions, watch=bars)
    stats = Index.open(kept.index).stats()
    console.print(
        f"A world that no model has seen (seed {seed}): {stats['passages']} passages and {stats['pictures']} pictures "
        "on seven websites, searched by BM25 and by image descriptors, all on this machine.\n"
    )
    return kept.toolbox()


def _questions(out: Path) -> list[Question]:
    from deepmmsearch.atlas.world_files import load_questions

    return load_questions(out / "world")


def _chosen(questions: Sequence[Question], count: int) -> list[Question]:
    """One question of each kind in SHOWN, several flags in its picture where there is one."""
    chosen = []
    for kind in SHOWN[:count]:
        own = [q for q in questions if q.metadata["kind"] == kind]
        own.sort(key=lambda q: -int(q.metadata["flags"] > 2))
        chosen += own[:1]
    return chosen


async def _show(console: Console, player: _Player, tools: Toolbox, questions: Sequence[Question]) -> None:
    from deepmmsearch.agent.runner import AgentWorkflow, guarded
    from deepmmsearch.atlas.play import correct
    from deepmmsearch.prompts import load_prompt
    from deepmmsearch.show.terminal import show_end, show_turn

    agent = AgentWorkflow(player.policy, load_prompt(player.prompt), player.tools_for(tools), label=player.name)
    for question in questions:
        console.print(Text(question.text, "bold underline"))
        last = replace(agent.blank, question=question)
        async for grown in guarded(agent, question):
            if len(grown.turns) > len(last.turns):
                show_turn(console, grown)
            last = grown
        show_end(console, last)
        verdict = (
            ("Right.", "green") if correct(last) else (f"Wrong: {' / '.join(question.answers)} was asked for.", "red")
        )
        console.print(Text(*verdict), end="\n\n")


@dataclass(frozen=True)
class _Run:
    """One player's episodes, in the order of the questions, and how long they took together."""

    trajectories: list[Trajectory]
    seconds: float


async def _compare(watch: Watch, player: _Player, tools: Toolbox, questions: Sequence[Question]) -> dict[str, _Run]:
    """All questions three times."""
    from deepmmsearch.agent import Toolbox

    uncropped = replace(tools, grounder=None)
    return {
        AGENT: await _play(watch, AGENT, questions, player, player.tools_for(tools), player.prompt),
        DIRECT: await _play(watch, DIRECT, questions, player, lambda _: Toolbox(), player.direct),
        NO_CROP: await _play(watch, NO_CROP, questions, player, lambda _: uncropped, player.prompt),
    }


async def _play(
    watch: Watch, name: str, questions: Sequence[Question], player: _Player, tools_for: ToolsFor, prompt: str
) -> _Run:
    from deepmmsearch.agent import PAPER_LIMITS
    from deepmmsearch.agent.runner import AgentWorkflow, run_all
    from deepmmsearch.eval.workflows import ONE_TURN
    from deepmmsearch.prompts import load_prompt

    began = time.perf_counter()
    finished: dict[str, Trajectory] = {}
    watch(Step(f"Questions, {name}", 0, len(questions)))
    # without tools a turn that is no answer has nothing to come back to
    limits = ONE_TURN if name == DIRECT else PAPER_LIMITS
    agent = AgentWorkflow(player.policy, load_prompt(prompt), tools_for, limits, player.name)
    async for trajectory in run_all(questions, agent, concurrency=32):
        finished[trajectory.question.id] = trajectory
        watch(Step(f"Questions, {name}", len(finished), len(questions)))
    return _Run([finished[q.id] for q in questions], time.perf_counter() - began)


def _store(out: Path, trajectories: Iterable[Trajectory]) -> None:
    from deepmmsearch.agent.runner import without_pictures
    from deepmmsearch.files import replacing
    from deepmmsearch.store import TrajectoryStore

    with replacing(out / "trajectories") as draft:
        # The scene is kept for `deepmmsearch show`; pictures of hits are in the index.
        kept = [replace(without_pictures(t), question=t.question) for t in trajectories]
        TrajectoryStore(draft).extend((trajectory.question.id, trajectory) for trajectory in kept)


def _finish(console: Console, out: Path, seed: int, player: _Player, runs: Mapping[str, _Run], seconds: float) -> None:
    from deepmmsearch.eval.figures import measure_exactly
    from deepmmsearch.eval.kinds import kind_table
    from deepmmsearch.files import write_text
    from deepmmsearch.show.gallery import render_episodes
    from deepmmsearch.show.tabulate import console_table

    table = kind_table({name: measure_exactly(run.trajectories) for name, run in runs.items()})
    table = replace(table, rows=[*table.rows, ["seconds in all", *(f"{run.seconds:.1f}" for run in runs.values())]])
    console.print(console_table(table))
    errors = [t.error for run in runs.values() for t in run.trajectories]
    if all(errors):
        raise Failed(f"All episodes failed, the first with: {errors[0]}")
    if errors := list(filter(None, errors)):
        console.print(Text(f"{len(errors)} episodes failed, the first: {errors[0]}", "red"))
    own = runs[AGENT].trajectories
    lead = (
        f"{len(own)} questions about a world that no model has seen (seed {seed}), answered by {player.name} with a "
        "local search engine. Each is shown with what was searched, what came back and what was read."
    )
    others = {name: run.trajectories for name, run in runs.items() if name != AGENT}
    # Those with the most searches tell the most.
    ordered = sorted(own, key=lambda t: -len(t.searches))
    page = render_episodes("Questions about an invented world", lead, [table], ordered, others)
    write_text(out / "report.html", page, private=True)
    console.print(Text(f"Trajectories with pictures and crops: {out / 'report.html'} ({seconds:.0f} s in all)"))
    scene = next((out / "world" / "images").iterdir())
    console.print(
        f"Ask about a picture yourself: deepmmsearch ask {scene} QUESTION --index {out / 'index'}", soft_wrap=True
    )
