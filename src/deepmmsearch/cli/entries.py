"""Stored questions as the command line lists and opens them: each a trajectory with an id, a date and who played."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from deepmmsearch.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from deepmmsearch.store import TrajectoryStore
    from deepmmsearch.types import Trajectory

LAST = "last"
_ABOUT = ("date", "model", "endpoint")


@dataclass(frozen=True)
class Entry:
    """`date` is ISO 8601 with its offset; it and `endpoint` are None where the store does not know them."""

    id: str
    trajectory: Trajectory
    date: str | None = None
    model: str | None = None
    endpoint: str | None = None

    @property
    def about(self) -> dict[str, str | None]:
        """What a store keeps beside the trajectory."""
        return {name: getattr(self, name) for name in _ABOUT}

    def row(self) -> dict[str, Any]:
        """What a listing says, as plain JSON values."""
        t = self.trajectory
        return {"id": self.id, **self.about, "question": t.question.text, "answer": t.answer, "stop": t.stop}

    def whole(self, crops: Path | None = None) -> dict[str, Any]:
        """All of it, as plain JSON values; `crops` is the folder of the store, where there is one."""
        from deepmmsearch.show.terminal import as_json

        return self.row() | as_json(self.trajectory, crops)


def read_entries(store: TrajectoryStore) -> Iterator[Entry]:
    """In the order in which they were stored. Pictures are not read: each is a single pixel."""
    from deepmmsearch.store import from_dict

    pixel = Image.new("RGB", (1, 1))
    return (_entry(line, from_dict(line["trajectory"], lambda _: pixel)) for line in store.lines())


def find_entry(store: TrajectoryStore, wanted: str) -> Entry:
    """The entry with the id `wanted`, or the only one whose id begins so, or the `last` one; with its pictures.

    Raises UserError where there is none, or more than one.
    """
    ids = list(dict.fromkeys(store.ids()))
    found = [id for id in ids if id == wanted] or [id for id in ids if id.startswith(wanted)]
    if wanted == LAST and not found:
        found = list(store.ids()[-1:])
    if not found:
        listed = f"List what there is with: deepmmsearch show {store.folder}"
        raise UserError(f"There is no {wanted!r} in {store.folder}. {listed}")
    if len(found) > 1:
        some = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise UserError(f"{len(found)} ids in {store.folder} begin with {wanted!r}: {some}. Give more of one.")
    line = [line for line in store.lines() if line["id"] == found[0]][-1]
    return _entry(line, store.get(found[0]))


def _entry(line: Mapping[str, Any], trajectory: Trajectory) -> Entry:
    about = {name: None if line.get(name) is None else str(line[name]) for name in _ABOUT}
    return Entry(str(line["id"]), trajectory, **about | {"model": about["model"] or trajectory.policy or None})
