"""Pictures in the tables of an engine: it proposes some of them, which are then compared as local ones are (image.py).

Proposed are those with the nearest short codes, in colour and without; those that have the same visual words; those
that an encoder finds alike; and of pictures with few features those that a colour window resembles, for which coarse
grids are in memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.engine import align, visual_words
from deepmmsearch.engine import descriptors as d
from deepmmsearch.engine.engine_tables import Is, Kind, Row, TableRows, TableShape, batches
from deepmmsearch.engine.image import (
    WINDOWED,
    Gallery,
    Match,
    PictureQuery,
    resembling,
    resembling_parts,
    without_colours,
)
from deepmmsearch.engine.picture_segment import FEW_FEATURES, PARTS, PictureSegment, coarse
from deepmmsearch.engine.segments import stacked

if TYPE_CHECKING:
    from deepmmsearch.engine.table_store import TableStore

PICTURES, GRIDS = "pictures", "grids"
NEAREST, WORDS, ENCODED, WINDOWS = 24, 24, 20, 12
"""Pictures that are proposed by each query of vectors, by visual words, by an encoder, by colour windows."""
_AT_ONCE = 100
_PLAIN = "B u1 i1 u2 f2 u4 f4 u8 f8 i8"
_MOST_BYTES = 4_000_000
_RAGGED = frozenset(("points", "descriptors", "words", "signatures", "thumbnail"))


def pictures_table(lengths: Mapping[str, int]) -> TableShape:
    """With columns of vectors: `colour`, `grey`, and `embedding` where an encoder makes some."""
    columns: dict[str, Kind] = {"id": "key", "row": "number", "arrays": "bytes", "features": "terms"}
    return TableShape(PICTURES, {**columns, **dict.fromkeys(lengths, "vector")}, lengths)


GRID_TABLE = TableShape(GRIDS, {"id": "key", "row": "number", "few": "number", "grid": "bytes"}, {})


def picture_rows(sha: str, identity: int, row: Mapping[str, Any]) -> tuple[Row, Row]:
    """Of the two tables; `row` as image.picture_row makes it."""
    words = row["words"][0]
    columns = {
        "id": sha,
        "row": identity,
        "arrays": packed({name: value[0] if isinstance(value, list) else value for name, value in row.items()}),
        "features": " ".join(f"{word:x}" for word in words),
        "colour": row["code"].astype(np.float32),
        "grey": row["code"][: d.CODE_GREY].astype(np.float32),
    }
    if "embedding" in row:
        columns["embedding"] = row["embedding"]
    few = int(len(row["points"][0]) < FEW_FEATURES)
    return columns, {"id": sha, "row": identity, "few": few, "grid": packed({"grid": row["grid"]})}


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Their types and shapes as a line of JSON, then their bytes."""
    own = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    told = {name: [array.dtype.str[1:], list(array.shape)] for name, array in own.items()}
    return json.dumps(told).encode() + b"\n" + b"".join(array.tobytes() for array in own.values())


def unpacked(content: bytes) -> dict[str, np.ndarray]:
    """The inverse of `packed`. ValueError for what that did not write: who can write to the tables may have."""
    head, _, rest = content.partition(b"\n")
    arrays: dict[str, np.ndarray] = {}
    told = json.loads(head)
    if not isinstance(told, dict):
        raise ValueError("no arrays of a picture")
    for name, (kind, shape) in told.items():
        if kind not in _PLAIN.split() or not all(type(side) is int and 0 <= side < 2**24 for side in shape):
            raise ValueError(f"{name!r} is no array of a picture")
        size = math.prod(shape) * np.dtype(kind).itemsize
        if size > min(len(rest), _MOST_BYTES):
            raise ValueError(f"{name!r} has fewer bytes than it says")
        arrays[name] = np.frombuffer(rest[:size], np.dtype(kind)).reshape(shape)
        rest = rest[size:]
    return arrays


class _Windows:
    """The grids of pictures that colour windows are compared with."""

    def __init__(self) -> None:
        self.rows = np.zeros(0, np.int64)
        self.whole = np.zeros((0, 0), np.float16)
        self.parts = np.zeros((0, len(PARTS), 0), np.float16)

    def read(self, rows: TableRows, few: bool) -> None:
        """All pictures', or those that have few features."""
        where = [Is("few", [1])] if few else []
        wanted = {row["row"] for row in rows.find(where, ["row"])}
        kept = np.array([row in wanted for row in self.rows.tolist()], bool)
        new = sorted(wanted - set(self.rows.tolist()))
        found = [row for some in batches(new, 500) for row in rows.find([Is("row", some)], ["row", "grid"])]
        if not found and kept.all():
            return
        grids = np.stack([unpacked(row["grid"])["grid"] for row in found]) if found else None
        self.rows = self.rows[kept]
        self.whole, self.parts = self.whole[kept], self.parts[kept]
        if grids is not None:
            whole, parts = coarse(grids, d.WHOLE), np.stack([coarse(grids, part) for part in PARTS], 1)
            self.whole = np.concatenate([self.whole, whole]) if len(self.rows) else whole
            self.parts = np.concatenate([self.parts, parts]) if len(self.rows) else parts
            self.rows = np.concatenate([self.rows, [row["row"] for row in found]])

    def resembling(self, query: PictureQuery) -> list[int]:
        if not len(self.rows):
            return []
        matrices, grids = align.windows(query.scene, align.MAX_COMPARISONS // len(self.rows))
        whole, parts = self.whole.astype(np.float32), self.parts.astype(np.float32)
        if query.is_grey:
            whole, parts = without_colours(whole), without_colours(parts)
        near = resembling(whole, matrices, grids) + resembling_parts(parts, grids[0])
        near.sort(key=lambda found: found[0])
        return list(dict.fromkeys(int(self.rows[position]) for _, position, _ in near))[:WINDOWS]


class TableGallery:
    """image.Gallery's contract, for the pictures of an engine."""

    def __init__(self, store: TableStore) -> None:
        self._rows = store.opened(PICTURES)
        self._encoded = "embedding" in store.lengths(PICTURES)
        self._windows = store.derived.setdefault("windows", _Windows())
        grids = store.opened(GRIDS)
        self._windows.read(grids, few=self._rows.count(()) > WINDOWED)
        self._thumbnails: dict[int, bytes] = {}

    def search(self, image: Image, k: int, embedding: np.ndarray | None = None) -> list[Match]:
        with d.one_thread():
            query = PictureQuery(image)
            proposed = self._proposed(query, embedding if self._encoded else None)
            found = self._read(proposed)
            if not found:
                return []
            segment = PictureSegment(stacked(found))
            return Gallery([segment]).compare(query, k, embedding)

    def similar(self, embedding: np.ndarray, k: int) -> dict[int, float]:
        if not self._encoded:
            return {}
        return {row["row"]: cosine for cosine, row in self._rows.nearest("embedding", embedding, k, ["row"])}

    def thumbnail(self, row: int) -> Future[Image] | None:
        if row not in self._thumbnails:
            self._read([row])
        content = self._thumbnails.get(row)
        return images.loading(content, max_pixels=1_000_000, formats=("JPEG",)) if content else None

    def _proposed(self, query: PictureQuery, embedding: np.ndarray | None) -> Iterable[int]:
        codes = d.short_code(query.vectors).astype(np.float32)
        grey = codes if query.is_grey else codes[:2]
        asked = [("colour", code) for code in codes] + [("grey", code[: d.CODE_GREY]) for code in grey]
        rows: dict[int, None] = {}
        for column, code in asked:
            if code.any():
                rows |= {row["row"]: None for _, row in self._rows.nearest(column, code, NEAREST, ["row"])}
        if len(query.features.rooted) >= 3:
            for features in (query.features, query.features.mirrored):
                words, _ = visual_words.word_and_signature(features.rooted)
                asked_for = {f"{word:x}": 1.0 for word in words.tolist()}
                ranked = self._rows.rank({"features": asked_for}, WORDS, ["row"])
                rows |= {row["row"]: None for _, row in ranked}
        if embedding is not None:
            rows |= dict.fromkeys(self.similar(embedding, ENCODED))
        return [*rows, *(row for row in self._windows.resembling(query) if row not in rows)]

    def _read(self, wanted: Iterable[int]) -> list[tuple[int, dict[str, Any]]]:
        found: list[tuple[int, dict[str, Any]]] = []
        self._thumbnails.clear()
        for some in batches(list(wanted), _AT_ONCE):
            for row in self._rows.find([Is("row", some)], ["row", "arrays"]):
                arrays = unpacked(row["arrays"])
                self._thumbnails[row["row"]] = arrays["thumbnail"].tobytes()
                found.append((row["row"], {n: [a] if n in _RAGGED else a for n, a in arrays.items()}))
        order = {row: position for position, row in enumerate(wanted)}
        return sorted(found, key=lambda pair: order[pair[0]])
