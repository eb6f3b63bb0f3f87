"""Approximate search over many vectors: cells around centroids (an inverted file), and eight bits a dimension.

Everything is plain arrays beside the vectors in their segment: an index of somebody else brings no file that native
code would have to believe, a commit is as safe as before, and a merge makes the cells anew. The products of eight-bit
numbers come from numkong where it is installed, else from numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

FEWEST = 20_000
"""Vectors of a segment from which it has cells; fewer are compared one by one."""
SAMPLE = 48  # vectors per cell from which the centroids are learnt
ROUNDS = 6
# how many cells are searched is measured when they are made: enough to find this share of the ten nearest of some of
# their own vectors, and more, because questions lie further from passages than these from each other
FOUND, MORE, LEAST = 0.99, 1.5, 16
TRIED = 64
BLOCK = 16_384


@dataclass(frozen=True, eq=False)
class Cells:
    """`codes` int8 (n, dimensions) are the vectors times `scale`, cell by cell; cell c holds positions starts[c] to
    starts[c + 1], and position p is vector order[p]. `centroids` int8 (cells, dimensions); the `probed` ones
    that are nearest to a query are searched."""

    codes: np.ndarray
    scale: float
    order: np.ndarray
    starts: np.ndarray
    centroids: np.ndarray
    probed: int = 1

    @classmethod
    def whole(cls, vectors: np.ndarray) -> Cells:
        """One cell, which is searched without centroids."""
        scale = _scale(vectors)
        count, dimensions = vectors.shape
        codes = _codes(vectors, scale)
        return cls(codes, scale, np.arange(count), np.array([0, count]), np.zeros((1, dimensions), np.int8))

    @classmethod
    def learnt(cls, vectors: np.ndarray) -> Cells:
        """By spherical k-means over a sample. The same vectors give the same cells."""
        rng = np.random.default_rng(0)
        count = max(1, round(2 * len(vectors) ** 0.5))
        sample = vectors[np.sort(rng.choice(len(vectors), min(len(vectors), SAMPLE * count), replace=False))]
        sample = _unit(sample.astype(np.float32))
        centroids = sample[rng.choice(len(sample), count, replace=False)]
        for _ in range(ROUNDS):
            centroids = _moved(sample, _nearest(sample, centroids), centroids)
        cell = _nearest(vectors, centroids)
        order = np.argsort(cell, kind="stable").astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=count))]).astype(np.int64)
        scale = _scale(vectors)
        cells = cls(_codes(vectors[order], scale), scale, order, starts, _codes(centroids, 127.0))
        return replace(cells, probed=cells._needed(rng.choice(len(vectors), min(TRIED, len(vectors)), replace=False)))

    def _needed(self, tried: np.ndarray) -> int:
        ranks = [self._ranks(int(position)) for position in tried]
        needed = int(np.quantile(np.concatenate(ranks), FOUND, method="higher")) + 1
        return min(max(LEAST, math.ceil(MORE * needed)), len(self.centroids))

    def _ranks(self, position: int) -> np.ndarray:
        """At which place among the cells those come that hold the ten nearest of a vector."""
        wanted = self.codes[position : position + 1]
        products = _kernel()(wanted, self.codes)
        products[position] = -np.inf
        nearest = np.argpartition(-products, min(10, len(products) - 1))[:10]
        place = np.empty(len(self.centroids), np.int64)
        place[self._ranked(wanted)] = np.arange(len(self.centroids))
        return place[np.searchsorted(self.starts, nearest, "right") - 1]

    def _ranked(self, wanted: np.ndarray) -> np.ndarray:
        return np.argsort(-_kernel()(wanted, self.centroids), kind="stable")

    @classmethod
    def read(cls, arrays: Mapping[str, np.ndarray], count: int, dimensions: int) -> Cells:
        """As `arrays` gave them. Raises ValueError, KeyError for what does not belong to (count, dimensions)."""
        codes, order, starts, centroids = (
            np.asarray(arrays[name]) for name in ("codes", "order", "starts", "centroids")
        )
        fits = (
            (codes.shape, codes.dtype) == ((count, dimensions), np.int8)
            and (order.shape, order.dtype) == ((count,), np.int32)
            and (centroids.shape, centroids.dtype) == ((len(starts) - 1, dimensions), np.int8)
            and (starts.ndim, starts.dtype, int(starts[0]), int(starts[-1])) == (1, np.int64, 0, count)
            and bool((starts[1:] >= starts[:-1]).all())
            and 0 <= int(order.min()) <= int(order.max()) < count
        )
        scale, probed = float(arrays["scale"][0]), int(arrays["probed"][0])
        if not fits or not 0 < scale < np.inf:
            raise ValueError("the cells do not fit their vectors")
        return cls(codes, scale, order, starts, centroids, probed)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "codes": self.codes,
            "scale": np.array([self.scale], np.float32),
            "order": self.order,
            "starts": self.starts,
            "centroids": self.centroids,
            "probed": np.array([self.probed], np.int64),
        }

    def nearest(self, query: np.ndarray, count: int, dead: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Which vectors are among the nearest, at most `count`, and about how near (their products with the unit
        vector `query`); unordered. `dead` marks vectors that are passed over."""
        wanted = _codes(query[None], _scale(query[None]))
        positions, products = self._probe(wanted, count)
        if dead is not None:
            alive = ~dead[self.order[positions]]
            positions, products = positions[alive], products[alive]
        if len(products) > count:
            best = np.argpartition(-products, count)[:count]
            positions, products = positions[best], products[best]
        return self.order[positions], products / (self.scale * _scale(query[None]))

    def _probe(self, wanted: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        cells = len(self.centroids)
        if cells == 1:
            return np.arange(len(self.codes)), _kernel()(wanted, self.codes)
        ranked = self._ranked(wanted)
        sizes = np.cumsum(np.diff(self.starts)[ranked])
        # at least so many cells that what is asked for can be among them
        probed = max(self.probed, int(np.searchsorted(sizes, 2 * count)) + 1)
        chosen = np.sort(ranked[:probed])
        spans = [(int(self.starts[c]), int(self.starts[c + 1])) for c in chosen]
        spans = [(start, end) for start, end in spans if end > start]
        if not spans:
            return np.zeros(0, np.int64), np.zeros(0)
        products = np.concatenate([_kernel()(wanted, self.codes[start:end]) for start, end in spans])
        return np.concatenate([np.arange(start, end) for start, end in spans]), products


Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


@cache
def _kernel() -> Kernel:
    """Products of one eight-bit vector (1, dimensions) with many."""
    try:
        import numkong
    except ImportError:
        return _plain_products
    return lambda query, codes: np.asarray(numkong.cdist(query, codes, "dot"))[0]


def _plain_products(query: np.ndarray, codes: np.ndarray) -> np.ndarray:
    wanted = query[0].astype(np.float32)
    blocks = [codes[start : start + BLOCK].astype(np.float32) @ wanted for start in range(0, len(codes), BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _scale(vectors: np.ndarray) -> float:
    return 127.0 / max(1e-6, float(np.abs(vectors).max(initial=0.0)))


def _codes(vectors: np.ndarray, scale: float) -> np.ndarray:
    codes = np.empty(vectors.shape, np.int8)
    for start in range(0, len(vectors), BLOCK):
        scaled = np.rint(vectors[start : start + BLOCK].astype(np.float32) * scale)
        codes[start : start + BLOCK] = np.clip(np.nan_to_num(scaled), -127, 127)
    return codes


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9), np.float32)


def _nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    blocks = range(0, len(vectors), BLOCK)
    turned = np.ascontiguousarray(centroids.T)
    return np.concatenate([(vectors[start : start + BLOCK].astype(np.float32) @ turned).argmax(1) for start in blocks])


def _moved(sample: np.ndarray, cell: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """To the mean of what is in each cell; an empty one takes a place in the fullest."""
    order = np.argsort(cell, kind="stable")
    counts = np.bincount(cell, minlength=len(centroids))
    filled = np.flatnonzero(counts)
    sums = np.add.reduceat(sample[order], (np.cumsum(counts) - counts)[filled], axis=0)
    moved = centroids.copy()
    moved[filled] = _unit(sums)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        fullest = np.flatnonzero(cell == counts.argmax())
        moved[empty] = sample[np.resize(fullest, len(empty))]
    return moved
