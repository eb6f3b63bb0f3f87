"""The pictures of one segment, ready to be searched: codes and inverted lists in memory, the rest stays on disk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deepmmsearch.engine import align
from deepmmsearch.engine import descriptors as d
from deepmmsearch.engine.segments import IDS, OFFSETS
from deepmmsearch.engine.votes import Lists

FEW_FEATURES = 150  # pictures with fewer are looked for by colour windows, however many pictures there are
BLOCK = 8_192  # pictures whose codes are compared at once

# parts of such a picture that a query may show: its middle, its corners
PARTS: tuple[d.Window, ...] = (
    (1 / 8, 1 / 8, 7 / 8, 7 / 8),
    (5 / 24, 5 / 24, 19 / 24, 19 / 24),
    (0.0, 0.0, 0.75, 0.75),
    (0.25, 0.0, 1.0, 0.75),
    (0.0, 0.25, 0.75, 1.0),
    (0.25, 0.25, 1.0, 1.0),
)


class PictureSegment:
    """`arrays` are memory-mapped, and read for the few pictures that a query is compared with."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.ids = np.asarray(arrays[IDS])
        self.codes = np.asarray(arrays["code"])
        grey = self.codes[:, : d.CODE_GREY].astype(np.float32)
        self._grey_length = np.linalg.norm(grey, axis=1) + 1e-6
        self.lists = Lists(arrays)
        self.few = np.flatnonzero(np.diff(np.asarray(arrays["points" + OFFSETS])) < FEW_FEATURES)
        grids = np.asarray(arrays["grid"])
        self.coarse = coarse(grids, d.WHOLE)
        # (few, PARTS, dimensions)
        self.coarse_parts = np.stack([coarse(grids[self.few], part) for part in PARTS], 1)

    def __len__(self) -> int:
        return len(self.ids)

    def nearness(self, colour: np.ndarray, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(pictures,) each: the best cosine, about, of a picture's code with those of a query (n, CODE), and with its
        codes less the colours."""
        best = np.empty((2, len(self)), np.float32)
        queries = np.concatenate([colour, np.pad(grey[:, : d.CODE_GREY], ((0, 0), (0, d.CODE - d.CODE_GREY)))])
        queries = (queries / (np.linalg.norm(queries, axis=1, keepdims=True) + 1e-6)).T
        for start in range(0, len(self), BLOCK):
            rows = slice(start, start + BLOCK)
            product = self.codes[rows].astype(np.float32) @ queries
            best[0, rows] = product[:, : len(colour)].max(1)
            best[1, rows] = product[:, len(colour) :].max(1) / self._grey_length[rows]
        return best[0], best[1]

    def cosines(self, embedding: np.ndarray) -> np.ndarray:
        """(pictures,) of the encoder's vectors with that of a query."""
        vectors = self.arrays["embedding"]
        starts = range(0, len(vectors), BLOCK)
        return np.concatenate([np.asarray(vectors[i : i + BLOCK], np.float32) @ embedding for i in starts])

    def size(self, row: int) -> np.ndarray:
        """Width and height in which its features lie."""
        return np.asarray(self.arrays["size"][row])

    def ragged(self, name: str, row: int) -> np.ndarray:
        start, end = self.arrays[name + OFFSETS][row : row + 2]
        return np.asarray(self.arrays[name][start:end])

    def grid(self, row: int) -> np.ndarray:
        return np.asarray(self.arrays["grid"][row], np.float32)


def coarse(grids: np.ndarray, part: d.Window) -> np.ndarray:
    """float16 (n, dimensions), by blocks."""
    blocks = [grids[start : start + BLOCK].astype(np.float32) for start in range(0, max(1, len(grids)), BLOCK)]
    return np.concatenate([align.coarse(_part(block, part)).astype(np.float16) for block in blocks])


def _part(grids: np.ndarray, part: d.Window) -> np.ndarray:
    """(n, GRID, GRID, 3) of a part of the pictures."""
    left, top, right, bottom = (round(side * align.GRID) for side in part)
    if (right - left, bottom - top) == (align.GRID, align.GRID):
        return grids
    cells = np.linspace(0, 1, align.GRID, endpoint=False)
    x, y = (left + cells * (right - left)).astype(int), (top + cells * (bottom - top)).astype(int)
    return np.asarray(grids[:, y][:, :, x])
