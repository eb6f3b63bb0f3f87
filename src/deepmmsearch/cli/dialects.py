"""`deepmmsearch dialects`: how the field's checkpoints speak, and the prompts that they were trained with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmmsearch.cli.rows import json_option, print_rows
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.streams import echo

if TYPE_CHECKING:
    from deepmmsearch.prompt_sources import PromptSource


@click.group()
def command() -> None:
    """How policies write their turns. Those of the field's released checkpoints play with their own prompts once these
    are fetched, and in our words before that (docs/peers.md).

    \b
    Example:  deepmmsearch dialects list
              deepmmsearch dialects fetch sensenova-mars
    """


@command.command(name="list")
@json_option
def list_dialects(as_json: bool) -> None:
    """Name, limits, and where the prompts of its model lie.

    \b
    Example:  deepmmsearch dialects list
              deepmmsearch dialects list --json
    """
    from rich.table import Table
    from rich.text import Text

    from deepmmsearch.agent.dialect import DIALECTS, find_dialect
    from deepmmsearch.console import Console
    from deepmmsearch.prompts import is_fetched, source_of

    rows = []
    for name in DIALECTS.names():
        limits, source = find_dialect(name).limits, source_of(name)
        words = "ours" if source is None else "its own" if is_fetched(name, source) else "ours, its own not fetched"
        repository = {"repository": source.repository, "licence": source.licence} if source is not None else {}
        rows.append({"name": name, "calls": limits.calls, "prompt": words, **repository})
    if as_json:
        print_rows(rows)
        return
    table = Table("dialect", "calls", "prompt", "repository", "licence", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    for row in rows:
        told = [str(row.get(key, "")) for key in ("calls", "prompt", "repository", "licence")]
        table.add_row(Text(str(row["name"]), "cyan"), *map(Text, told))
    Console().print(table)


@command.command()
@click.argument("name")
@click.option(
    "--from",
    "copy",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="A checkout of the model's repository on this machine; nothing is asked for then.",
)
def fetch(name: str, copy: Path | None) -> None:
    """Bring the prompts of the model of dialect NAME into your own folder. They are their authors', under the licence
    that is named. Nothing of what is fetched is run, and a file that is not the known one is refused.

    \b
    Example:  deepmmsearch dialects fetch mmsearch-r1-7b
              deepmmsearch dialects fetch mmsearch-r1-7b --from multimodal-search-r1
    """
    from deepmmsearch.compose.prompt_texts import fetch_texts

    source = _source(name)
    folder = asyncio.run(fetch_texts(name, source, copy))
    echo(f"{folder}: the prompts of {source.repository} at {source.commit[:12]} (licence: {source.licence}).")


def _source(name: str) -> PromptSource:
    from deepmmsearch.agent.dialect import DIALECTS
    from deepmmsearch.prompts import source_of

    known = [each for each in DIALECTS.names() if source_of(each) is not None]
    if name not in DIALECTS.names():
        raise UnknownName("dialect", name, known)
    source = source_of(name)
    if source is None:
        raise UserError(f"The prompts of {name} come with the package. Fetch those of: {', '.join(known)}.")
    return source
