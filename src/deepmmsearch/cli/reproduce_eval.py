"""`deepmmsearch reproduce eval`: Table 1 and the six claims, on an invented world."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from deepmmsearch.errors import UserError

if TYPE_CHECKING:
    from deepmmsearch.compose.evaluation import EvalRecipe, WorkflowSettings
    from deepmmsearch.eval.claims import Claim, Roles
    from deepmmsearch.eval.sections import Section

BUNDLED = "bundled"
# The first of these that is given is the trained agent that the claims are about.
TRAINED = ("rl", "sft", BUNDLED)
# Models that differ in their training data alone: compared as agents.
_BY_DATA = re.compile(r"mix(\d{1,3})|uniform|random")


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME=FOLDER",
    help="A checkpoint; may be given several times. base, sft, rl, mix0 to mix100, uniform and random have a meaning.",
)
@click.option("--questions", type=click.IntRange(1), default=500, show_default=True, help="Held-out questions.")
@click.option("--seed", type=int, default=7, show_default=True, help="The world they are about.")
@click.option("--faults/--no-faults", default=True, show_default=True, help="Play with broken tools too.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/eval/reproduce"), show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 512), default=32, show_default=True, help="Questions at once.")
def command(models: tuple[str, ...], questions: int, seed: int, faults: bool, out: Path, concurrency: int) -> None:
    """Play direct answers, RAG, agents and ablations on a world that no model has seen; print Table 1 and the claims.

    Without --model the bundled model plays. Claims that need a second model (base for the prompt agent, sft and rl for
    what reinforcement learning changes, mixN for training data) say so. An interrupted run goes on where it was. The
    page with everything is OUT/report.html.

    \b
    Example:  deepmmsearch reproduce eval --questions 50
              deepmmsearch reproduce eval --model base=runs/atlas/base/checkpoint --model sft=runs/atlas/sft/merged \\
                --model rl=runs/atlas/grpo/merged
    """
    from deepmmsearch.cli.evaluate import run_recipe
    from deepmmsearch.eval.claims import claim_section, claims
    from deepmmsearch.eval.figures import load_results
    from deepmmsearch.eval.page import write_reports
    from deepmmsearch.eval.sections import accuracy, costs

    console = Console(highlight=False)
    folders = read_models(models)
    recipe = make_recipe(folders, questions, seed, faults, out, concurrency)
    run = run_recipe(console, recipe)
    results = load_results([run], title=f"the atlas, seed {seed}, {questions} questions")
    found = claims(results, roles(list(folders)))
    for section in (accuracy(results), costs(results)):
        if section is not None:
            _print(console, section)
    for claim in found:
        _print_claim(console, claim)
    for path in write_reports(results, out, more=[claim_section(found)]):
        console.print(f"Wrote {path}")


def read_models(given: Sequence[str]) -> dict[str, Path]:
    """Name -> checkpoint folder, in the order given. Raises UserError."""
    from deepmmsearch.bundled import BUNDLED as FOLDER

    folders: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not re.fullmatch(r"[\w.-]+", name):
            raise UserError(f"{text!r} is no model. Write NAME=FOLDER, such as sft=runs/atlas/sft/merged.")
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"There is no model in {folder}. Give the folder of a checkpoint.")
        if name in folders:
            raise UserError(f"Two models are called {name}. Give each a name of its own.")
        folders[name] = Path(folder)
    return folders or {BUNDLED: FOLDER}


def trained_name(names: Sequence[str]) -> str:
    return next((name for name in TRAINED if name in names), names[-1])


def make_recipe(
    folders: Mapping[str, Path], questions: int, seed: int, faults: bool, out: Path, concurrency: int
) -> EvalRecipe:
    """Every model directly, with RAG and as an agent, those of claim 4 as agents alone; the trained one with everything
    taken away and broken too."""
    from deepmmsearch.compose.evaluation import BenchmarkSettings, EvalRecipe, JudgeSettings, WorkflowSettings
    from deepmmsearch.compose.policies import PolicySettings
    from deepmmsearch.eval.faults import FAULTS

    workflows: dict[str, WorkflowSettings] = {}
    main = trained_name(list(folders))
    for name in folders:
        alone = name != main and _BY_DATA.fullmatch(name)
        for kind in ("agent",) if alone else ("direct", "rag", "agent"):
            workflows[f"{name} {kind}"] = WorkflowSettings(kind=kind, policy=name)
    agent = f"{main} agent"
    workflows[f"{main} no crop"] = WorkflowSettings(policy=main, crop=False, ablates=agent)
    workflows[f"{main} single text"] = WorkflowSettings(policy=main, text_searches=1, ablates=agent)
    workflows[f"{main} no image search"] = WorkflowSettings(policy=main, image_search=False, ablates=agent)
    for fault in FAULTS if faults else ():
        workflows[f"{main} {fault}"] = WorkflowSettings(policy=main, fault=fault, ablates=agent)
    workflows["oracle"] = WorkflowSettings(kind="oracle")
    return EvalRecipe(
        output=out,
        policies={name: PolicySettings(kind="local", model=str(folder)) for name, folder in folders.items()},
        benchmarks=[BenchmarkSettings(name="atlas", seed=seed, sample=questions)],
        workflows=workflows,
        judges={"reward": JudgeSettings(rule="reward"), "exact": JudgeSettings(rule="exact")},
        concurrency=concurrency,
    )


def roles(names: Sequence[str]) -> Roles:
    """Which workflow plays which part in the claims, by the names of the models."""
    from deepmmsearch.eval.claims import Roles

    def of(name: str, kind: str) -> str | None:
        return f"{name} {kind}" if name in names else None

    main = trained_name(names)
    mixes = {int(m[1]): f"{name} agent" for name in names if (m := _BY_DATA.fullmatch(name)) and m[1]}
    return Roles(
        f"{main} agent",
        f"{main} rag",
        f"{main} direct",
        of("base", "agent"),
        of("base", "rag"),
        of("base", "direct"),
        f"{main} no crop",
        f"{main} single text",
        of("sft", "agent"),
        of("rl", "agent"),
        mixes,
        of("random", "agent"),
        # half and half is uniform over the taxonomy, unless another model is said to be
        of("uniform", "agent") or of("mix50", "agent"),
    )


def _print(console: Console, section: Section) -> None:
    for table in section.tables:
        shown = RichTable(title=section.title)
        for number, column in enumerate(table.columns):
            shown.add_column(column, justify="left" if not number else "right")
        for row in table.rows:
            shown.add_row(*map(escape, row))
        console.print(shown)
        console.print(f"{escape(table.note)}\n", style="dim")


def _print_claim(console: Console, claim: Claim) -> None:
    style = "green" if claim.shown else "yellow"
    console.print(f"{claim.number}. {escape(claim.text)} [{style}]{claim.mark}[/]")
    for part in claim.parts:
        mark = {True: "shown", False: "not shown", None: "not measured"}[part.shown]
        console.print(f"   {escape(part.text)}: {escape(part.figure)}: {mark}", style="dim")
