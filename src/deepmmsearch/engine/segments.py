"""Arrays on disk: immutable segments, each a folder of .npy files, fsynced before anything names it.

Rows carry ids that never change, so segments can be merged without touching the documents that name the rows.
"""

from __future__ import annotations

import base64
import os
import shutil
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]

IDS = "ids"
# ragged arrays come with an array of n + 1 offsets of the same name
OFFSETS = "_offsets"


@dataclass(frozen=True)
class Segment:
    """`dead` marks the rows that nothing names any more; bool (rows,)."""

    name: str
    kind: str
    rows: int
    dead: np.ndarray

    def to_json(self) -> dict[str, Any]:
        packed = base64.b64encode(zlib.compress(np.packbits(self.dead).tobytes())).decode()
        return {"name": self.name, "kind": self.kind, "rows": self.rows, "dead": packed}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Segment:
        bits = np.frombuffer(zlib.decompress(base64.b64decode(value["dead"])), np.uint8)
        rows = int(value["rows"])
        return cls(str(value["name"]), str(value["kind"]), rows, np.unpackbits(bits)[:rows].astype(bool))

    def without(self, ids: np.ndarray, dying: set[int]) -> Segment:
        if not dying:
            return self
        return replace(self, dead=self.dead | np.isin(ids, np.fromiter(dying, np.int64, len(dying))))


def write_segment(folder: Path, kind: str, arrays: Arrays) -> Segment:
    """Writes the arrays and makes them durable. A crash in between leaves a folder that no commit names."""
    name = f"{kind}-{uuid.uuid4().hex[:16]}"
    target = folder / name
    target.mkdir(parents=True)
    for key, array in arrays.items():
        with (target / f"{key}.npy").open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
    for directory in (target, folder):
        _fsync_folder(directory)
    rows = len(arrays[IDS])
    return Segment(name, kind, rows, np.zeros(rows, bool))


def _fsync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_segment(folder: Path, segment: Segment) -> dict[str, np.ndarray]:
    """Memory-mapped. Raises FileNotFoundError when a writer has merged it away since the commit was read."""
    path = folder / segment.name
    arrays: dict[str, np.ndarray] = {}
    for file in sorted(path.glob("*.npy")):
        try:
            arrays[file.stem] = np.load(file, mmap_mode="r", allow_pickle=False)
        except ValueError:  # an array of no rows cannot be mapped
            arrays[file.stem] = np.load(file, allow_pickle=False)
    if IDS not in arrays:
        raise FileNotFoundError(path)
    return arrays


def concatenate(parts: Sequence[tuple[Arrays, np.ndarray]]) -> dict[str, np.ndarray]:
    """The live rows of several segments, as arrays in memory. Each part: its arrays and its dead rows."""
    keys = list(parts[0][0])
    merged: dict[str, np.ndarray] = {}
    for key in keys:
        if key.endswith(OFFSETS):
            lengths = [np.diff(np.asarray(arrays[key]))[~dead] for arrays, dead in parts]
            merged[key] = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))])
        elif key + OFFSETS in keys:
            merged[key] = np.concatenate([_live_ragged(arrays, key, dead) for arrays, dead in parts])
        else:
            merged[key] = np.concatenate([np.asarray(arrays[key])[~dead] for arrays, dead in parts])
    return merged


def _live_ragged(arrays: Arrays, key: str, dead: np.ndarray) -> np.ndarray:
    values = np.asarray(arrays[key])
    return values[np.repeat(~dead, np.diff(np.asarray(arrays[key + OFFSETS])))] if dead.any() else values


def remove_orphans(folder: Path, named: set[str]) -> None:
    """What a killed writer left behind, and what a merge has replaced."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in named:
                shutil.rmtree(path, ignore_errors=True)
