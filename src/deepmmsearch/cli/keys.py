"""`deepmmsearch keys`: who may ask a server."""

from __future__ import annotations

from pathlib import Path

import click

from deepmmsearch.cli.rows import json_option, print_rows
from deepmmsearch.streams import echo

_file = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    default=Path("serve-keys.json"),
    show_default=True,
    help="The file of keys, which the recipe of a server names as `keys`.",
)


@click.group()
def command() -> None:
    """Keys for a server: each has a name, which owns what is asked with it, and may have limits of its own.

    \b
    Example:  deepmmsearch keys add anna
              deepmmsearch keys add ben --per-minute 10 --money 2 --days 30
              deepmmsearch serve mine.yaml keys=serve-keys.json --host 0.0.0.0
    """


@command.command()
@click.argument("name")
@_file
@click.option(
    "--concurrent", type=click.IntRange(1), help="At most so many questions at once.  [default: the recipe's]"
)
@click.option("--per-minute", type=click.IntRange(1), help="At most so many a minute.  [default: the recipe's]")
@click.option("--money", type=click.FloatRange(0), help="US dollars of tools a day.  [default: the recipe's]")
@click.option("--days", type=click.IntRange(1), help="Keep its history so many days.  [default: the recipe's]")
def add(
    name: str, path: Path, concurrent: int | None, per_minute: int | None, money: float | None, days: int | None
) -> None:
    """Make a key for NAME and print it, once: the file holds only its hash. A server that runs must be started anew.

    \b
    Example:  deepmmsearch keys add anna
    """
    from deepmmsearch.serve.callers import add_key

    given = {"concurrent": concurrent, "per_minute": per_minute, "money": money, "days": days}
    key = add_key(path, name, {limit: value for limit, value in given.items() if value is not None})
    echo(key)
    echo(f"This is the key of {name}. It is not shown again; {path} holds its hash.", err=True)


@command.command()
@click.argument("name")
@_file
def remove(name: str, path: Path) -> None:
    """Take the key of NAME back. Its history stays. A server that runs must be started anew.

    \b
    Example:  deepmmsearch keys remove anna
    """
    from deepmmsearch.serve.callers import remove_key

    remove_key(path, name)
    echo(f"The key of {name} is gone.")


@command.command(name="list")
@_file
@json_option
def list_all(path: Path, as_json: bool) -> None:
    """Names, dates and limits.

    \b
    Example:  deepmmsearch keys list
              deepmmsearch keys list --json
    """
    from deepmmsearch.serve.callers import list_keys

    rows = list_keys(path)
    if as_json:
        print_rows(rows)
        return
    for row in rows:
        limits = ", ".join(f"{name} {value}" for name, value in row.get("limits", {}).items())
        echo(f"{row['name']:<20} {row.get('made', ''):<26} {limits}".rstrip())
