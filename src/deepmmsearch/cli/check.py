"""`deepmmsearch check`: everything that a recipe is missing, what it will make, and about what it will take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmmsearch.streams import echo_json

if TYPE_CHECKING:
    from deepmmsearch.compose.plan import RunPlan

dry_run = click.option(
    "--dry-run", is_flag=True, help="Only say what is missing, what would be made, and what it takes."
)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--network", is_flag=True, help="Ask endpoints, search providers (one search each) and the Hub too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(recipe: Path, overrides: tuple[str, ...], network: bool, as_json: bool) -> None:
    """Check RECIPE, of any kind, by building everything in it but the weights of models. Nothing is written.

    Prints all that is missing in one list, what will be made where, how many questions, calls and tokens it takes, and
    about how much time and money, with what was assumed. Exit code 2 where something is missing.

    \b
    Example:  deepmmsearch check eval/paper
              deepmmsearch check mine.yaml seeds.count=500 --network
    """
    from deepmmsearch.cli.defaults import commands, variables
    from deepmmsearch.compose.check import check_recipe
    from deepmmsearch.compose.recipe import load_recipe, read_recipe
    from deepmmsearch.compose.recipe_kinds import kind_of
    from deepmmsearch.compose.shipped import find_recipe

    found = find_recipe(recipe)
    kind = kind_of(read_recipe(found, dict), str(found))
    plan = check_recipe(load_recipe(found, kind.model, overrides, variables(), commands()), network=network)
    finish(plan, f"{found} ({kind.name})", as_json)


def ready(
    recipe: Any, source: Path | str, dry_run: bool, storage: Callable[[], object] | None = None, **chosen: Any
) -> None:
    """Before a run of a recipe, or of a plan that was made already: raises UserError with all that is missing; a dry
    run shows the plan and ends here. `storage`: raises UserError where the run cannot be put up."""
    from deepmmsearch.compose.check import check_recipe
    from deepmmsearch.compose.plan import RunPlan

    plan = recipe if isinstance(recipe, RunPlan) else check_recipe(recipe, **chosen)
    if storage is not None:
        with plan.trying():
            storage()
    if dry_run:
        finish(plan, str(source))
        sys.exit(0)
    plan.refuse()


def finish(plan: RunPlan, title: str, as_json: bool = False) -> None:
    """Shows the plan and ends with 2 where something is missing."""
    if as_json:
        echo_json(_as_json(plan, title))
    else:
        _show(plan, title)
    if plan.missing:
        sys.exit(2)


def _as_json(plan: RunPlan, title: str) -> dict[str, Any]:
    return {
        "recipe": title,
        "missing": plan.missing,
        "notes": plan.notes,
        "makes": {str(path): what for path, what in plan.makes.items()},
        "work": [vars(work) for work in plan.work],
        "seconds": sum(work.seconds for work in plan.work),
        "money": sum(work.money for work in plan.work),
        "bytes": plan.room,
        "assumptions": plan.assumed.texts,
    }


def _show(plan: RunPlan, title: str) -> None:
    from rich.text import Text

    from deepmmsearch.compose.check_parts import gigabytes
    from deepmmsearch.console import Console

    console = Console()
    console.print(Text(title, "bold"))
    for head, texts, style in (("Missing", plan.missing, "red"), ("To know", plan.notes, "yellow")):
        if texts:
            console.print(Text(f"\n{head} ({len(texts)})", style))
            for number, text in enumerate(texts, 1):
                console.print(Text(f"{number}. {text}"), soft_wrap=True)
    if plan.makes:
        console.print(Text("\nMakes", "bold"))
        for path, what in plan.makes.items():
            console.print(Text(f"- {path}: {what}"), soft_wrap=True)
    if plan.work:
        console.print()
        console.print(_table(plan))
        seconds, money = (sum(getattr(work, name) for work in plan.work) for name in ("seconds", "money"))
        room = f", {gigabytes(plan.room)} on the disk" if plan.room else ""
        console.print(f"About {_time(seconds)}, {_money(money)}{room}, if:")
        for text in plan.assumed.texts:
            console.print(Text(f"- {text}"), soft_wrap=True)
    if not plan.missing:
        console.print(Text("\nNothing is missing.", "green"))


def _table(plan: RunPlan) -> Any:
    from rich.table import Table
    from rich.text import Text

    calls = list(dict.fromkeys(name for work in plan.work for name in work.calls))
    table = Table("part", box=None, pad_edge=False, header_style="bold")
    for name in ("questions", "turns", *calls, "tokens", "time", "money"):
        table.add_column(name, justify="right", no_wrap=True)
    for work in plan.work:
        counts = (work.questions, work.turns, *(work.calls.get(name, 0) for name in calls), work.read + work.written)
        money = _money(work.money) if work.money else ""
        table.add_row(Text(work.name), *map(_count, counts), _time(work.seconds), money)
    return table


def _count(number: float) -> str:
    if not number:
        return ""
    if number < 10:
        return f"{number:.1f}".removesuffix(".0")
    return f"{number / 1e6:,.1f} M" if number >= 1e6 else f"{number:,.0f}"


def _time(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{seconds:.0f} s"


def _money(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars else "nothing for searches"
