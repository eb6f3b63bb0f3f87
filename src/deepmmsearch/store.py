"""Trajectories on disk: one JSON line each, their pictures beside them as images/<sha256>.png.

The record of a question that its benchmark publishes encrypted is sealed (`sealing`), and opened when it is read.

Append-only and crash-safe: pictures are complete before the line that names them, a line counts once its line end is
written, and a half-written last line is ignored by readers and cut off by the next append.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.codec import Codec, LoadImage, SaveImage
from deepmmsearch.errors import UserError
from deepmmsearch.files import for_owner, lock_open_file, make_folder, replacing
from deepmmsearch.notation import parse_json
from deepmmsearch.sealing import MARK, is_sealed, seal, unseal
from deepmmsearch.types import Observation, Prompt, Question, Trajectory, Turn

VERSION = 1

FILE = "trajectories.jsonl"
# how every line of ours begins
_HEAD = b'{"version": '
_SHA = re.compile(r"[0-9a-f]{64}")
_NAMED = re.compile(r'"([0-9a-f]{64})"')
_MISSING = re.compile(r"(?:\S+|(?:Text|Image) search) is not available[.,]")


def _with_images(row: dict[str, Any]) -> dict[str, Any]:
    """Once a question had one image, or none."""
    if "image" in row:
        image = row.pop("image")
        row["images"] = [image] if image is not None else []
    return row


def _with_states(row: dict[str, Any]) -> dict[str, Any]:
    """Once there were three state texts, each in a field of its own."""
    if "after" not in row:
        row["after"] = {name: row.pop(f"after_{name}", "") for name in ("image", "text", "malformed")}
    return row


def _with_unavailable(observation: dict[str, Any]) -> dict[str, Any]:
    """Once only the error told that a tool was not there."""
    if "unavailable" not in observation:
        observation["unavailable"] = bool(_MISSING.match(observation.get("error") or ""))
    return observation


def _with_seconds(turn: dict[str, Any]) -> dict[str, Any]:
    """Seconds and money stood with the turn once, not with what took them: what no call tells is the policy's, and
    before there were calls the money is that of one."""
    if "seconds" not in turn:
        return turn
    seen = turn.get("observation")
    if seen is not None and turn["cost"] and not seen.get("calls"):
        seen = {**seen, "calls": [{"tool": "tools", "provider": "", "seconds": 0.0, "cost": turn["cost"]}]}
    waited = max((call["seconds"] for call in (seen or {}).get("calls", ())), default=0.0)
    completion = {**turn["completion"], "seconds": max(0.0, turn["seconds"] - waited)}
    return {"completion": completion, "action": turn["action"], "observation": seen}


# a class whose fields change gets an upgrade here, so that what was stored before still loads
CODEC = Codec(
    upgrades={Question: _with_images, Prompt: _with_states, Observation: _with_unavailable, Turn: _with_seconds}
)


class TrajectoryStore:
    """A folder of trajectories, in the order in which they were appended.

    Several processes may append and read at once; where the platform has no file locks (Windows), one may append.
    Raises UserError when the folder is a file, or holds something else.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{str(folder)!r} is a file, not a folder of trajectories. Give a folder.")
        self.path = self.folder / FILE
        self._own = False

    def append(self, trajectory: Trajectory, id: str | None = None, about: Mapping[str, Any] | None = None) -> str:
        """Stores the trajectory under `id` (default: its question's) and returns once it is on the disk. `about` is
        kept beside it, for `lines`.

        Raises UserError when the metadata of the question are no JSON, before a line is written.
        """
        name = trajectory.question.id if id is None else id
        self._write([self._line(name, trajectory, about)])
        return name

    def put(self, trajectory: Trajectory, about: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """As `append`; gives where the record stands and the record, as `spots` does."""
        return self.write(self.prepare(trajectory, about))

    def prepare(self, trajectory: Trajectory, about: Mapping[str, Any] | None = None) -> bytes:
        """The record for `write`, once its pictures are on the disk. Raises as `append`. Until it is written, nothing
        may be removed."""
        return self._line(trajectory.question.id, trajectory, about)

    def write(self, record: bytes) -> tuple[int, dict[str, Any]]:
        """Stores what `prepare` made; gives what `put` gives."""
        return self._write([record]), _parse(record, str(self.path))

    def save_picture(self, image: Image, *, packed: bool = True) -> Path:
        """Writes the picture as this store keeps it (`images.save`), and gives its path."""
        make_folder(self.folder, private=True)
        self._refuse_link(self.folder / "images")
        return images.save(image, self.folder / "images", private=True, packed=packed)

    def extend(self, rows: Iterable[tuple[str, Trajectory]]) -> None:
        """As `append`, for several: one wait for the disk. None is stored when one of them cannot be."""
        self._write([self._line(name, trajectory) for name, trajectory in rows])

    def _write(self, lines: Sequence[bytes]) -> int:
        """Where the first of the lines stands."""
        make_folder(self.folder, private=True)
        with self._appending() as file:
            self._refuse_foreign(file)
            _cut_half_line(file)
            place = file.tell()
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
            return place

    @contextmanager
    def _appending(self) -> Iterator[BinaryIO]:
        """The file, locked. Another process may have put a new one in its place before the lock was had."""
        while True:
            self._refuse_link(self.path)
            with open(self.path, "a+b", opener=for_owner) as file:
                lock_open_file(file)
                if self.path.exists() and os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    yield file
                    return

    def _refuse_foreign(self, file: BinaryIO) -> None:
        """Before its last line is taken for one of ours that is half-written."""
        if self._own:
            return
        file.seek(0)
        first = file.readline()
        if first.endswith(b"\n"):
            _parse(first, f"{self.path}, line 1")
        elif not (first.startswith(_HEAD) or _HEAD.startswith(first)):
            raise UserError(f"{self.path} is not a file of stored trajectories. Give another folder.")
        self._own = True

    def _line(self, name: str, trajectory: Trajectory, about: Mapping[str, Any] | None = None) -> bytes:
        """Pictures are complete before the line that names them."""
        record = to_dict(trajectory, lambda image: self.save_picture(image).stem)
        try:
            if is_sealed(trajectory.question):
                record = seal(record, str(trajectory.question.metadata[MARK]))
            line = {"version": VERSION, "id": name, **(about or {}), "trajectory": record}
            text = json.dumps(line, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise UserError(f"The trajectory of {name!r} cannot be stored: {error}. Use plain JSON metadata.") from None
        # surrogatepass: a model may write half a surrogate pair, and what it wrote must survive.
        return text.encode("utf-8", "surrogatepass") + b"\n"

    def ids(self) -> tuple[str, ...]:
        """The ids in order; one that was appended twice stands there twice."""
        return tuple(str(line["id"]) for line in self._lines())

    def get(self, id: str) -> Trajectory:
        """The trajectory last appended under `id`. Raises UserError when there is none."""
        found = None
        for line in self._lines():
            found = line if line["id"] == id else found
        if found is None:
            raise UserError(f"There is no trajectory {id!r} in {str(self.folder)!r}. `ids` lists those it holds.")
        return self._read(found)

    def items(self) -> Iterator[tuple[str, Trajectory]]:
        for line in self._lines():
            yield str(line["id"]), self._read(line)

    def spots(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """As `lines`, each with where it stands, for `read_at`."""
        return self._spots()

    def read_at(self, place: int) -> Trajectory:
        """The trajectory of the record that stands there."""
        with self.path.open("rb") as file:
            file.seek(place)
            return self._read(_parse(file.readline(), f"{self.path}, byte {place}"))

    def remove(self, ids: Collection[str]) -> None:
        """Deletes all records of these ids, and the pictures that no other record names. Nobody else may be storing
        pictures meanwhile."""
        if not self.path.exists():
            return
        with (
            self._appending() as file,
            replacing(self.path, durable=True, private=True) as draft,
            draft.open("wb") as kept,
        ):
            file.seek(0)
            named: set[str] = set()
            gone: set[str] = set()
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                removed = _parse(raw, str(self.path))["id"] in ids
                (gone if removed else named).update(_NAMED.findall(raw.decode("utf-8", "surrogatepass")))
                if not removed:
                    kept.write(raw)
        for sha in gone - named:
            path = self.folder / "images" / f"{sha}.png"
            self._refuse_link(path.parent)
            path.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[Trajectory]:
        return (trajectory for _, trajectory in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self._lines())

    def lines(self) -> Iterator[dict[str, Any]]:
        """The records as they stand on the disk (`id`, `trajectory`, and `about` as it was given), pictures named but
        not loaded."""
        return self._lines()

    def _lines(self) -> Iterator[dict[str, Any]]:
        return (line for _, line in self._spots())

    def _spots(self) -> Iterator[tuple[int, dict[str, Any]]]:
        if not self.path.exists():
            return
        place = 0
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    return
                yield place, _parse(raw, f"{self.path}, line {number}")
                place += len(raw)

    def _read(self, line: dict[str, Any]) -> Trajectory:
        return from_dict(line["trajectory"], self._image)

    def _image(self, sha: str) -> Image:
        """Only a picture of this store: whoever wrote it may name, or link to, any on the reader's disk."""
        path = self.folder / "images" / f"{sha}.png"
        if not _SHA.fullmatch(sha):
            raise UserError(f"{self.path} names a picture {sha[:80]!r}, which is not the name of one in a store.")
        self._refuse_link(path.parent)
        self._refuse_link(path)
        return images.load(path)

    def _refuse_link(self, path: Path) -> None:
        if path.is_symlink():
            raise UserError(f"{path} is a link, which may lead out of the store. Copy the store with its own files.")


def to_dict(trajectory: Trajectory, save_image: SaveImage) -> dict[str, Any]:
    """The trajectory as plain JSON values; `save_image` keeps a picture and gives its sha256.

    Dataclasses become objects; where several types are possible (the actions) `kind` names the one.
    """
    record: dict[str, Any] = CODEC.encode(trajectory, save_image)
    return record


def from_dict(record: Mapping[str, Any], load_image: LoadImage) -> Trajectory:
    """The inverse of `to_dict`. Raises UserError for fields or kinds that this version does not know."""
    loaded: Trajectory = CODEC.decode(record, Trajectory, load_image)
    return loaded


def _parse(raw: bytes, place: str) -> dict[str, Any]:
    try:
        line = parse_json(raw.decode("utf-8", "surrogatepass"))
        version = line["version"]
        line["trajectory"] = unseal(line["trajectory"])
        if not isinstance(line["id"], str) or not isinstance(line["trajectory"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{place}: this is no stored trajectory. Remove the line or give another folder.") from None
    if version != VERSION:
        raise UserError(
            f"{place}: written in version {version!r} of the format, this is {VERSION}. Update deepmmsearch."
        )
    return dict(line)


def _cut_half_line(file: BinaryIO) -> None:
    """Removes what a killed process left after the last line end."""
    end = file.seek(0, os.SEEK_END)
    at = end
    while at > 0:
        start = max(0, at - 65536)
        file.seek(start)
        found = file.read(at - start).rfind(b"\n")
        if found >= 0:
            at = start + found + 1
            break
        at = start
    if at < end:
        file.truncate(at)
    file.seek(0, os.SEEK_END)
