"""`deepmmsearch show`: stored questions and answers, as a list or one of them in full."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from rich.text import Text

from deepmmsearch.cli import defaults
from deepmmsearch.cli.entries import LAST, Entry, find_entry, read_entries
from deepmmsearch.cli.rows import json_option, print_rows
from deepmmsearch.cli.storage_options import READ
from deepmmsearch.console import Console
from deepmmsearch.errors import UserError
from deepmmsearch.escaping import one_line

if TYPE_CHECKING:
    from deepmmsearch.store import TrajectoryStore
    from deepmmsearch.types import Trajectory


@click.command()
@click.argument("place", metavar="[DIR]", envvar=defaults.variable("save"), type=READ)
@click.argument("id", metavar="[ID]", required=False)
@json_option
@click.option("--tokens", is_flag=True, help="Show every token; those that count for the loss are green.")
@click.option(
    "--model",
    metavar="M",
    help="The model whose tokenizer is used: a checkpoint folder or a name on the Hub.  [default: bundled]",
)
def command(place: Path, id: str | None, as_json: bool, tokens: bool, model: str | None) -> None:
    """List the questions stored in the folder DIR, newest last, or show one of them: ID is its id, the beginning of its
    id, or the word last.

    DIR is a folder that `ask --save`, `demo`, `eval` or training wrote, or its address in object storage. Without DIR,
    the folder is the one set as save with `deepmmsearch config`.

    \b
    Example:  deepmmsearch show asked
              deepmmsearch show asked last
              deepmmsearch show asked 3f2a --json
              deepmmsearch show asked 3f2a90c1d4e5 --tokens --model Qwen/Qwen2.5-VL-7B-Instruct
    """
    from deepmmsearch.show import terminal

    place, id = _place_and_id(click.get_current_context(), place, id)
    store = _open(place)
    console = Console()
    if id is None and (as_json or len(set(store.ids())) != 1):
        _list(console, store, as_json)
        return
    entry = find_entry(store, id or LAST)
    if as_json:
        print_rows([entry.whole(store.folder)])
    elif tokens:
        _tokens(console, entry.trajectory, model)
    else:
        facts = " | ".join(value for value in (entry.id, *entry.about.values()) if value)
        console.print(Text(one_line(facts), "dim"), soft_wrap=True)
        terminal.show_trajectory(console, entry.trajectory, store.folder, told=bool(entry.about))


def _place_and_id(context: click.Context, place: Path, id: str | None) -> tuple[Path, str | None]:
    """Where the one word given is not a folder, it is the id of something in the folder that is the default."""
    if id is None and not place.exists() and context.get_parameter_source("place") is ParameterSource.COMMANDLINE:
        usual = next((setting.value for setting in defaults.defaults() if setting.name == "save"), None)
        if usual is not None:
            return Path(usual), str(place)
    return place, id


def _open(place: Path) -> TrajectoryStore:
    from deepmmsearch.store import FILE, TrajectoryStore

    folder = place.parent if place.name == FILE else place
    if not folder.exists():
        raise UserError(f"There is nothing at {place}. Give a folder that `ask --save` or `demo` wrote.")
    # what `demo` and `eval` write holds its trajectories in a folder
    folder = folder if (folder / FILE).is_file() else folder / "trajectories"
    if not (folder / FILE).is_file():
        raise UserError(f"{place} holds no trajectories (no {FILE}). Give a folder that `ask --save` or `demo` wrote.")
    return TrajectoryStore(folder)


def _list(console: Console, store: TrajectoryStore, as_json: bool) -> None:
    entries = read_entries(store)
    if as_json:
        print_rows(entry.row() for entry in entries)
        return
    for entry in entries:
        console.print(_line(entry), soft_wrap=True)
    hint = f"{len(store)} stored, newest last. Show one with: deepmmsearch show {store.folder} ID"
    console.print(hint, style="dim", soft_wrap=True)


def _line(entry: Entry) -> Text:
    answer = entry.trajectory.answer
    said = _short(answer, 60) if answer is not None else f"({entry.trajectory.stop or 'unfinished'})"
    line = Text(f"{_short(entry.id, 60)}  ", "bold")
    line.append(f"{entry.date[:16].replace('T', ' ')}  " if entry.date else "")
    line.append(_short(entry.trajectory.question.text, 90)).append(f"  {said}", "green")
    return line.append(f"  {_short(entry.model, 40)}" if entry.model else "", "dim")


def _short(text: str, most: int) -> str:
    words = one_line(text)
    return words if len(words) <= most else words[: most - 3] + "..."


def _tokens(console: Console, trajectory: Trajectory, model: str | None) -> None:
    from deepmmsearch.bundled import BUNDLED
    from deepmmsearch.compose.policies import token_reader
    from deepmmsearch.show.terminal import show_tokens

    reader = token_reader(model or BUNDLED)
    teacher = any(t.completion.ids is None for t in trajectory.turns)
    sequence = reader.renderer.sequence(trajectory, teacher=teacher)
    show_tokens(console, sequence, reader.pieces(sequence.ids), reader.renderer.image_id)
    if teacher:
        console.print("Some turns have no token ids: their text was encoded, as for teacher data.", style="dim")
