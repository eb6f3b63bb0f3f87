"""`deepmmsearch show`: a stored trajectory, turn by turn or token by token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from deepmmsearch.errors import UserError

if TYPE_CHECKING:
    from deepmmsearch.store import TrajectoryStore
    from deepmmsearch.types import Trajectory


@click.command()
@click.argument("place", metavar="DIR-OR-FILE", type=click.Path(path_type=Path))
@click.argument("id", required=False)
@click.option("--tokens", is_flag=True, help="Token by token; those that the loss counts are green.")
@click.option(
    "--model", metavar="M", help="Whose tokenizer: a checkpoint folder or a name on the Hub.  [default: bundled]"
)
def command(place: Path, id: str | None, tokens: bool, model: str | None) -> None:
    """Show the trajectory ID of a folder, or list what the folder holds where no ID is given.

    \b
    Example:  deepmmsearch show asked
              deepmmsearch show asked 3f2a90c1d4e5
              deepmmsearch show asked 3f2a90c1d4e5 --tokens --model Qwen/Qwen2.5-VL-7B-Instruct
    """
    from deepmmsearch.show import terminal

    store = _open(place)
    names = store.ids()
    console = Console(highlight=False)
    if id is None and len(set(names)) != 1:
        _list(console, store)
        return
    trajectory = store.get(names[0] if id is None else id)
    if tokens:
        _tokens(console, trajectory, model)
    else:
        terminal.show_trajectory(console, trajectory, store.folder)


def _open(place: Path) -> TrajectoryStore:
    from deepmmsearch.store import FILE, TrajectoryStore

    folder = place.parent if place.name == FILE else place
    if not folder.exists():
        raise UserError(f"There is nothing at {place}. Give a folder that `ask --save` or `demo` wrote.")
    if not (folder / FILE).is_file():
        raise UserError(f"{place} holds no trajectories (no {FILE}). Give a folder that `ask --save` or `demo` wrote.")
    return TrajectoryStore(folder)


def _list(console: Console, store: TrajectoryStore) -> None:
    from deepmmsearch.show.terminal import plain

    count = 0
    for name, trajectory in store.items():
        count += 1
        answer = trajectory.answer if trajectory.answer is not None else f"({trajectory.stop or 'unfinished'})"
        row = Text(f"{plain(name)}  ", "bold").append(" ".join(plain(trajectory.question.text).split())[:90])
        console.print(row.append(f"  {' '.join(plain(answer).split())[:60]}", "green"), soft_wrap=True)
    hint = f"{count} trajectories. Show one with: deepmmsearch show {store.folder} ID"
    console.print(hint, style="dim", markup=False)


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
