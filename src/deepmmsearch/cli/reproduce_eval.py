"""`deepmmsearch reproduce eval`: Table 1 and the six claims, on an invented world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from deepmmsearch.cli.bars import Bars
from deepmmsearch.cli.check import dry_run, ready
from deepmmsearch.console import Console

if TYPE_CHECKING:
    from deepmmsearch.eval.claims import Claim


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME=FOLDER",
    help="A checkpoint; may be given several times. base, sft, rl, mix0 to mix100, uniform and random have a meaning; "
    "NAME@SEED=FOLDER is one of several training runs.",
)
@click.option("--questions", type=click.IntRange(1), default=500, show_default=True, help="Held-out questions.")
@click.option("--seed", type=int, default=7, show_default=True, help="The world they are about.")
@click.option("--faults/--no-faults", default=True, show_default=True, help="Play with broken tools too.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/eval/reproduce"), show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 512), default=32, show_default=True, help="Questions at once.")
@dry_run
def command(
    models: tuple[str, ...], questions: int, seed: int, faults: bool, out: Path, concurrency: int, dry_run: bool
) -> None:
    """Play direct answers, RAG, agents and ablations on a world that no model has seen; print Table 1 and the claims.

    Without --model the bundled model plays. Claims that need a second model (base for the prompt agent, sft and rl for
    what reinforcement learning changes, mixN for training data) say so. An interrupted run continues where it stopped.
    The page with everything is OUT/report.html.

    \b
    Example:  deepmmsearch reproduce eval --questions 50
              deepmmsearch reproduce eval --model base=runs/atlas/base/checkpoint --model sft=runs/atlas/sft/merged \\
                --model rl=runs/atlas/grpo/merged
    """
    from deepmmsearch.compose.evaluate import play_recipe
    from deepmmsearch.eval.claims import claim_section, claims, planned
    from deepmmsearch.eval.figures import load_results
    from deepmmsearch.eval.report import write_reports
    from deepmmsearch.eval.sections import accuracy, costs
    from deepmmsearch.reproduce.six_claims import make_recipe, read_models, roles
    from deepmmsearch.show.tabulate import console_table

    console = Console()
    folders = read_models(models)
    recipe = make_recipe(folders, questions, seed, faults, out, concurrency)
    ready(recipe, f"the atlas, seed {seed}, {questions} questions", dry_run)
    with Bars() as bars:
        run = play_recipe(recipe, watch=bars)
    parts = roles(list(folders))
    run.plan(planned(parts))
    results = load_results([run], title=f"the atlas, seed {seed}, {questions} questions")
    found = claims(results, parts)
    for section in (accuracy(results), costs(results)):
        for table in section.tables if section is not None else ():
            console.print(console_table(table, section.title if section is not None else ""))
            console.print(f"{table.note}\n", style="dim")
    for claim in found:
        _print_claim(console, claim)
    for path in write_reports(results, out, more=[claim_section(found)]):
        console.print(f"Wrote {path}")


def _print_claim(console: Console, claim: Claim) -> None:
    style = "green" if claim.shown else "yellow"
    console.print(Text(f"{claim.number}. {claim.text} ").append(claim.mark, style))
    for finding in claim.findings:
        console.print(f"   {finding.text}: {finding.figure}: {finding.mark}", style="dim")
