"""`deepmmsearch recipes`: the recipes that come with the package."""

from __future__ import annotations

from pathlib import Path

import click

from deepmmsearch.cli.rows import json_option, print_rows
from deepmmsearch.streams import echo


@click.group()
def command() -> None:
    """The recipes that come with the package: whole experiments as YAML. Their names may be given wherever a recipe is
    expected; a file of your own wins over a name.

    \b
    Example:  deepmmsearch recipes list
              deepmmsearch recipes copy eval/atlas mine.yaml
              deepmmsearch eval mine.yaml
    """


@command.command(name="list")
@json_option
def list_recipes(as_json: bool) -> None:
    """Name, kind and first sentence of each.

    \b
    Example:  deepmmsearch recipes list
              deepmmsearch recipes list --json
    """
    from rich.table import Table
    from rich.text import Text

    from deepmmsearch.compose.recipe_kinds import kind_of_file
    from deepmmsearch.compose.shipped import shipped_recipes
    from deepmmsearch.console import Console

    rows = [(name, kind_of_file(path), _about(path)) for name, path in shipped_recipes().items()]
    if as_json:
        print_rows({"name": name, "kind": kind, "about": about} for name, kind, about in rows)
        return
    table = Table("recipe", "kind", "what it is", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for name, kind, about in rows:
        table.add_row(Text(name, "cyan"), kind, Text(about))
    Console().print(table)


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the recipe NAME.

    \b
    Example:  deepmmsearch recipes show tools/searxng
    """
    from deepmmsearch.compose.shipped import find_recipe

    echo(find_recipe(name).read_text(encoding="utf-8"), end="")


@command.command()
@click.argument("name")
@click.argument("out", type=click.Path(path_type=Path), required=False)
def copy(name: str, out: Path | None) -> None:
    """Copy the recipe NAME to the file OUT (here, under its own name), for changes of your own.

    \b
    Example:  deepmmsearch recipes copy eval/atlas mine.yaml
    """
    from deepmmsearch.compose.other_programs import how_used, other_program
    from deepmmsearch.compose.shipped import find_recipe
    from deepmmsearch.errors import UserError
    from deepmmsearch.files import write_text
    from deepmmsearch.strict_yaml import read_yaml

    found = find_recipe(name)
    target = out or Path(found.name)
    if target.is_dir():
        target /= found.name
    if target.exists():
        raise UserError(f"{target} is there already. Give another file: deepmmsearch recipes copy {name} FILE")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, found.read_text(encoding="utf-8"))
    row = read_yaml(found.read_text(encoding="utf-8"))
    told = how_used(row, target) if other_program(row) else f"Check it with: deepmmsearch check {target}"
    echo(f"Wrote {target}. {told}")


def _about(path: Path) -> str:
    """The first sentence of the comment that it begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    text = " ".join(comment)
    end = text.find(". ")
    return text if end < 0 else text[: end + 1]
