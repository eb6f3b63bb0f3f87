"""Arrays on disk: immutable segments, each a folder of .npy files, fsynced before anything names it.

Rows carry ids that never change, so segments can be merged without touching the documents that name the rows. What is
read may be somebody else's: names have one form, and arrays are checked against each other before they are used.
"""

from __future__ import annotations

import base64
import math
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]

IDS = "ids"
# ragged arrays come with an array of n + 1 offsets of the same name
OFFSETS = "_offsets"
BESIDE = ".computed"
MOST_ROWS = 1_000_000_000
_NAME = re.compile(r"[a-z]{1,20}-[0-9a-f]{16}")
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([<|][fiu]\d)', 'fortran_order': (True|False), 'shape': "
    rb"\(((?:\d{1,12},? ?){1,4})\), \}.*",
    re.DOTALL,
)


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
        """Raises ValueError, KeyError, TypeError for what `to_json` did not write."""
        name, kind, rows = str(value["name"]), str(value["kind"]), int(value["rows"])
        if not (_NAME.fullmatch(name) and name.startswith(f"{kind}-") and 0 <= rows <= MOST_ROWS):
            raise ValueError(f"{name!r} is not a segment of {rows} rows")
        # never more than the rows need: a few bytes may unpack to gigabytes
        bits = np.frombuffer(zlib.decompressobj().decompress(base64.b64decode(value["dead"]), rows // 8 + 1), np.uint8)
        dead = np.unpackbits(bits)[:rows].astype(bool)
        if len(dead) != rows:
            raise ValueError(f"{name} marks {len(dead)} of {rows} rows")
        return cls(name, kind, rows, dead)

    def without(self, ids: np.ndarray, dying: set[int]) -> Segment:
        if not dying:
            return self
        return replace(self, dead=self.dead | np.isin(ids, np.fromiter(dying, np.int64, len(dying))))


def stacked(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, np.ndarray]:
    """Rows to arrays. A value wrapped in a list is ragged: its rows are concatenated and offsets kept."""
    identities, values = zip(*rows, strict=True)
    arrays: dict[str, np.ndarray] = {IDS: np.array(identities, np.int64)}
    for key, first in values[0].items():
        column = [row[key] for row in values]
        if isinstance(first, list):
            pieces = [piece[0] for piece in column]
            arrays[key] = np.concatenate(pieces)
            arrays[key + OFFSETS] = np.concatenate([[0], np.cumsum([len(p) for p in pieces])]).astype(np.int64)
        else:
            arrays[key] = np.stack(column)
    return arrays


def write_segment(folder: Path, kind: str, arrays: Arrays, beside: Arrays | None = None) -> Segment:
    """Writes the arrays and makes them durable. A crash in between leaves a folder that no commit names.

    `beside`: what was computed from the arrays; kept with them, made anew where they are merged.
    """
    name = f"{kind}-{uuid.uuid4().hex[:16]}"
    target = folder / name
    target.mkdir(parents=True)
    named = {f"{key}.npy": array for key, array in arrays.items()}
    named |= {f"{key}{BESIDE}": array for key, array in (beside or {}).items()}
    for file_name, array in named.items():
        with (target / file_name).open("wb") as file:
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
    """Memory-mapped. Raises FileNotFoundError when a writer has merged it away since the commit was read, ValueError
    for arrays that do not belong together."""
    path = folder / segment.name
    arrays = {file.stem: _map(file) for file in sorted(path.glob("*.npy"))}
    if IDS not in arrays:
        raise FileNotFoundError(path)
    _check(arrays, segment)
    return arrays


def read_beside(folder: Path, segment: Segment) -> dict[str, np.ndarray]:
    """What `write_segment` was given as such, memory-mapped; whoever reads it checks that it fits."""
    return {file.name.removesuffix(BESIDE): _map(file) for file in sorted((folder / segment.name).glob(f"*{BESIDE}"))}


def _map(path: Path) -> np.ndarray:
    """As np.load maps it, for the headers that np.save writes of our arrays. np.load has Python evaluate the header,
    which is a stranger's text, and which threads cannot do at once in CPython 3.11."""
    with path.open("rb") as file:
        found = _HEADER.fullmatch(file.read(10 + 502))
    if found is None:
        raise ValueError(f"{path.name} is not an array")
    kind, shape = np.dtype(found[2].decode()), tuple(map(int, re.findall(rb"\d+", found[4])))
    if math.prod(shape) == 0:  # cannot be mapped
        return np.zeros(shape, kind)
    start = 10 + int.from_bytes(found[1], "little")
    return np.memmap(path, kind, "r", start, shape, "F" if found[3] == b"True" else "C")


def _check(arrays: Arrays, segment: Segment) -> None:
    for name, array in arrays.items():
        offsets = arrays.get(name + OFFSETS)
        if array.dtype.kind not in "fiu" or array.ndim == 0 or (name == IDS and array.ndim != 1):
            fits = False
        elif offsets is not None:
            fits = offsets.ndim == 1 and len(offsets) == segment.rows + 1 and _rise(offsets, len(array))
        elif name.endswith(OFFSETS):
            fits = name.removesuffix(OFFSETS) in arrays
        else:
            fits = len(array) == segment.rows
        if not fits:
            raise ValueError(f"{name} of {segment.name} does not fit its {segment.rows} rows")


def _rise(offsets: np.ndarray, last: int) -> bool:
    return (
        offsets.dtype.kind in "iu"
        and (offsets[0], offsets[-1]) == (0, last)
        and bool((offsets[1:] >= offsets[:-1]).all())
    )


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
    """What a killed writer left behind, and what a merge has replaced. Whatever has another name is not ours, and
    nothing is removed through a link."""
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.iterdir():
            if path.name not in named and _NAME.fullmatch(path.name) and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
