"""Picture search: global similarity, SIFT votes and colour windows propose pictures, alignment decides (align.py).

A hit counts as matched only when the picture agrees with a part of the query, and no other picture explains the query
as well or explains another part of it: a scene with several flags is a match of none of them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from deepmmsearch.engine import align
from deepmmsearch.engine import descriptors as d
from deepmmsearch.engine.align import Placement, Scene, Template

GALLERY_FEATURES = 300
QUERY_FEATURES = 500
VOTERS = 200
NEIGHBOURS = 4
REDUCED = 48  # dimensions in which the neighbours of features are sought
BLOCK = 64
PROPOSED = {"global": 8, "votes": 10, "windows": 12}

# Calibrated on crops, scenes and clutter with and without the pictured flag (docs/engine.md has the figures).
FILLS = 0.35  # share of the query from which a place counts as the subject of the query
SMALL = 0.03  # share below which a place says nothing: at that size plain regions agree with anything
AGREES = 0.42  # agreement that identifies the subject of the query
AGREES_INSIDE = 0.7  # agreement that identifies a small part of it
RIVAL = 0.4  # agreement of another picture elsewhere that makes a small part ambiguous
MARGIN = 0.03  # by which a picture must agree better than another one at its place
SAME = 0.85  # agreement of two pictures of the index that count as copies of one, not as rivals

# the query as a whole, then with its sides trimmed: a jittered crop shows some of what surrounds the subject
WINDOWS: tuple[d.Window, ...] = (
    d.WHOLE,
    (0.08, 0.08, 0.92, 0.92),
    (0.14, 0.0, 1.0, 1.0),
    (0.0, 0.14, 1.0, 1.0),
    (0.0, 0.0, 0.86, 1.0),
    (0.0, 0.0, 1.0, 0.86),
)


@dataclass(frozen=True)
class Match:
    """`row` is the picture's id in the store; `placement` where in the query it shows best, None where unknown."""

    row: int
    score: float
    matched: bool
    similarity: float
    placement: Placement | None = None

    @property
    def agreement(self) -> float:
        return self.placement.agreement if self.placement else 0.0


@dataclass(eq=False)
class _Candidate:
    index: int
    similarity: float
    placement: Placement | None = None

    @property
    def agreement(self) -> float:
        return self.placement.agreement if self.placement else 0.0

    @property
    def score(self) -> float:
        inliers = self.placement.inliers if self.placement else 0
        return 0.1 * self.similarity + self.agreement + 0.2 * min(1.0, inliers / 20)

    @property
    def share(self) -> float:
        """Of the query that the picture covers where it agrees best."""
        if self.placement is None:
            return 0.0
        left, top, right, bottom = np.clip(self.placement.region, 0, 1)
        return float((right - left) * (bottom - top))


def picture_row(pixels: np.ndarray, embedding: np.ndarray | None = None) -> dict[str, Any]:
    """What the store keeps of a picture; ragged values wrapped in a list (store.add_row)."""
    features = d.local_features(pixels, GALLERY_FEATURES)
    row: dict[str, Any] = {
        "vector": d.global_vector(pixels).astype(np.float16),
        "grid": align.grid(pixels).astype(np.float16),
        "size": np.array([features.width, features.height], np.float32),
        "points": [features.points],
        "descriptors": [features.descriptors],
        "thumbnail": [np.frombuffer(d.thumbnail(pixels), np.uint8)],
    }
    if embedding is not None:
        row["embedding"] = embedding.astype(np.float16)
    return row


def compare(query: Image.Image, picture: Image.Image) -> Match:
    """Does `picture` show as the query, or within it? `Match.row` is 0."""
    arrays: dict[str, np.ndarray] = {"ids": np.zeros(1, int)}
    for name, value in picture_row(d.pixels(picture)).items():
        if isinstance(value, list):
            arrays |= {name: value[0], f"{name}_offsets": np.array([0, len(value[0])])}
        else:
            arrays[name] = value[None]
    return Gallery(arrays).search(query, 1)[0]


class Gallery:
    """The pictures of one commit, ready to be searched. Not for two threads at once."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self._vectors = arrays["vector"].astype(np.float32)
        self._starts = np.asarray(arrays["points_offsets"])
        self._axes = _principal_axes(arrays["descriptors"])
        self._reduced = self._project(arrays["descriptors"])
        self._owner = np.repeat(np.arange(len(self._vectors)), np.diff(self._starts))
        self._coarse = align.coarse(arrays["grid"].astype(np.float32))
        self._templates: dict[int, Template] = {}

    def thumbnail(self, row: int) -> Image.Image | None:
        positions = np.flatnonzero(self.arrays["ids"] == row)
        if not len(positions):
            return None
        start, end = self.arrays["thumbnail_offsets"][positions[0] : positions[0] + 2]
        return Image.open(io.BytesIO(self.arrays["thumbnail"][start:end].tobytes())).convert("RGB")

    def search(self, image: Image.Image, k: int, embedding: np.ndarray | None = None) -> list[Match]:
        """At most k, best first. `embedding` replaces the global similarity where the index was built with one."""
        with d.one_thread():
            query = d.pixels(image)
            scene = Scene(query)
            ranking, trimmed = self._global(query, embedding)
            candidates: dict[int, _Candidate] = {}
            for index in np.argsort(-ranking)[: PROPOSED["global"]]:
                self._consider(candidates, ranking, int(index), scene, [_matrix(WINDOWS[trimmed[index]])])
            if not any(_covers(c) for c in candidates.values()):
                self._search_inside(candidates, ranking, query, scene)
        return self._decide(list(candidates.values()), k)

    def _global(self, query: np.ndarray, embedding: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        vectors = np.stack([d.global_vector(query, window) for window in WINDOWS])
        similarities = self._vectors @ vectors.T
        if embedding is not None and "embedding" in self.arrays:
            return self.arrays["embedding"].astype(np.float32) @ embedding, similarities.argmax(1)
        return similarities.max(1), similarities.argmax(1)

    def _search_inside(
        self, candidates: dict[int, _Candidate], ranking: np.ndarray, query: np.ndarray, scene: Scene
    ) -> None:
        features = d.local_features(query, QUERY_FEATURES)
        rooted = d.root_sift(features.descriptors)
        voted = {int(i) for i in self._voted(rooted)}
        for index in voted | set(candidates):
            matrix, inliers = self._transform(index, features, rooted)
            if matrix is not None:
                self._consider(candidates, ranking, index, scene, [matrix], inliers)
        for index, matrices in self._windows(scene).items():
            self._consider(candidates, ranking, index, scene, matrices)

    def _consider(
        self,
        candidates: dict[int, _Candidate],
        ranking: np.ndarray,
        index: int,
        scene: Scene,
        matrices: list[np.ndarray],
        inliers: int = 0,
    ) -> None:
        candidate = candidates.setdefault(index, _Candidate(index, float(ranking[index])))
        for matrix in matrices:
            placed = align.refine(scene, self._template(index), matrix)
            if placed.agreement > candidate.agreement or (candidate.placement is None):
                candidate.placement = Placement(placed.matrix, placed.agreement, inliers)

    def _template(self, index: int) -> Template:
        if index not in self._templates:
            self._templates[index] = align.template(self.arrays["grid"][index].astype(np.float32))
        return self._templates[index]

    def _project(self, descriptors: np.ndarray, rows: int = 16_384) -> np.ndarray:
        """float32 (n, REDUCED), by blocks: the whole in 128 floats each would be the largest thing in memory."""
        reduced = np.empty((len(descriptors), self._axes.shape[1]), np.float32)
        for start in range(0, len(descriptors), rows):
            reduced[start : start + rows] = d.root_sift(descriptors[start : start + rows]) @ self._axes
        return reduced

    def _voted(self, rooted: np.ndarray) -> np.ndarray:
        """The pictures whose features are near those of the query (a vote per feature, by how much nearer than the
        next neighbours)."""
        if not len(rooted) or len(self._reduced) <= NEIGHBOURS:
            return np.zeros(0, int)
        near, distance = self._nearest(rooted[:VOTERS] @ self._axes, NEIGHBOURS + 1)
        weight = np.maximum(0.0, distance[:, -1:] - distance[:, :-1]) / (distance[:, -1:] + 1e-6)
        counted = np.bincount(self._owner[near[:, :-1]].ravel(), weight.ravel(), len(self._vectors))
        # a picture with many features catches more chance votes
        votes = counted / np.sqrt(np.maximum(30, np.diff(self._starts)))
        best = np.argsort(-votes)[: PROPOSED["votes"]]
        return np.asarray(best[votes[best] > 0])

    def _nearest(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest features of each of the queries, exact in the reduced space: indices and distances (n, k).

        By the best value of every block of columns first: a partition of whole rows costs more than the product.
        """
        total = len(self._reduced)
        cosine = queries @ self._reduced.T
        if total > 64 * BLOCK:
            whole = total // BLOCK * BLOCK
            peaks = cosine[:, :whole].reshape(len(queries), -1, BLOCK).max(2)
            blocks = np.argpartition(-peaks, k, axis=1)[:, :k]
            columns = (blocks[:, :, None] * BLOCK + np.arange(BLOCK)).reshape(len(queries), -1)
            tail = np.broadcast_to(np.arange(whole, total), (len(queries), total - whole))
            columns = np.concatenate([columns, tail], 1)
        else:
            columns = np.broadcast_to(np.arange(total), cosine.shape)
        values = np.take_along_axis(cosine, columns, 1)
        order = np.argsort(-values, 1)[:, :k]
        best = np.take_along_axis(values, order, 1)
        return np.take_along_axis(columns, order, 1), np.sqrt(np.maximum(0.0, 2 - 2 * best))

    def _transform(self, index: int, features: d.Features, rooted: np.ndarray) -> tuple[np.ndarray | None, int]:
        """Picture to query, from mutual nearest SIFT features, and how many distinct places agree on it."""
        start, end = self._starts[index : index + 2]
        if end - start < 3 or len(rooted) < 3:
            return None, 0
        cosine = rooted @ d.root_sift(self.arrays["descriptors"][start:end]).T
        near = cosine.argmax(1)
        # no ratio test: it fails on the repeated corners of a flag
        mutual = (cosine.argmax(0)[near] == np.arange(len(near))) & (cosine[np.arange(len(near)), near] > 0.75)
        if mutual.sum() < 3:
            return None, 0
        source = self.arrays["points"][start:end][near[mutual], :2]
        target = features.points[mutual, :2]
        cv2 = d.cv2_module()
        transform, kept = cv2.estimateAffinePartial2D(
            source, target, method=cv2.RANSAC, ransacReprojThreshold=6.0, maxIters=500, confidence=0.995
        )
        if transform is None:
            return None, 0
        distinct = len(np.unique(np.round(target[kept.ravel() > 0] / 4), axis=0))
        width, height = self.arrays["size"][index]
        to_fractions = np.diag([1 / features.width, 1 / features.height])
        matrix = to_fractions @ transform @ np.diag([width, height, 1.0])
        return (matrix, distinct) if distinct >= 3 and align.sane(matrix) else (None, 0)

    def _windows(self, scene: Scene) -> dict[int, list[np.ndarray]]:
        """The pictures that some colour window resembles most, each with its best windows."""
        matrices, grids = align.windows(scene, align.MAX_COMPARISONS // max(1, len(self._coarse)))
        # squared differences by one product, (pictures, windows), less what is the same for all windows of a picture
        pictures = np.column_stack([-2 * self._coarse, np.ones(len(self._coarse), np.float32)])
        product = pictures @ np.column_stack([grids, (grids**2).sum(1)]).T
        # relative to the picture's own contrast: a plain one resembles any plain region
        spread = self._coarse.reshape(len(self._coarse), -1, 3).var(1).sum(1) + 60
        best = (product.min(1) + (self._coarse**2).sum(1)) / spread
        chosen = np.argsort(best)[: PROPOSED["windows"]]
        return {int(i): [matrices[j] for j in _distinct(product[i], matrices)] for i in chosen}

    def _decide(self, candidates: list[_Candidate], k: int) -> list[Match]:
        ranked = sorted(candidates, key=lambda c: -c.score)
        copies = [c for c in ranked if self._same(c, ranked[0])]
        confident = bool(ranked) and _confident(ranked[0], [c for c in ranked if c not in copies])
        return [
            Match(
                int(self.arrays["ids"][c.index]),
                round(c.score, 4),
                confident and c in copies and c.agreement >= AGREES,
                round(c.similarity, 4),
                c.placement,
            )
            for c in ranked[: max(0, k)]
        ]

    def _same(self, a: _Candidate, b: _Candidate) -> bool:
        grids = self._template(a.index).grid, self._template(b.index).grid
        return a is b or align.raw_agreement(*grids) >= SAME


def _confident(best: _Candidate, others: list[_Candidate]) -> bool:
    if best.placement is None or best.share < SMALL:
        return False
    fills = best.share >= FILLS
    if best.agreement < (AGREES if fills else AGREES_INSIDE):
        return False
    for other in others:
        if other.placement is None:
            continue
        if _overlap(best.placement.region, other.placement.region) < 0.3:
            if not fills and other.agreement >= RIVAL and other.share >= SMALL:
                return False
        elif other.agreement > best.agreement - MARGIN and other.share >= 0.3 * best.share:
            return False
    return True


def _covers(candidate: _Candidate) -> bool:
    """So clearly the subject of the query that nothing else need be looked for inside of it."""
    return candidate.agreement >= AGREES_INSIDE and candidate.share >= FILLS


def _principal_axes(descriptors: np.ndarray) -> np.ndarray:
    """float32 (128, REDUCED): where the features of the gallery vary most; not centred: products stay cosines."""
    sample = d.root_sift(descriptors[:: max(1, len(descriptors) // 20_000)])
    _, axes = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(axes[:, -REDUCED:], np.float32)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over the smaller of the two."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(0.0, width) * max(0.0, height) / max(smaller, 1e-9)


def _matrix(window: d.Window) -> np.ndarray:
    left, top, right, bottom = window
    return np.array([[right - left, 0, left], [0, bottom - top, top]], float)


def _distinct(distance: np.ndarray, matrices: np.ndarray, count: int = 2) -> list[int]:
    """The best windows, no two about the same place."""
    chosen: list[int] = []
    near = np.argpartition(distance, 60)[:60] if len(distance) > 60 else np.arange(len(distance))
    for position in near[np.argsort(distance[near], kind="stable")]:
        centre = matrices[position] @ (0.5, 0.5, 1)
        reach = 0.4 * np.diag(matrices[position][:, :2])
        if all((np.abs(matrices[c] @ (0.5, 0.5, 1) - centre) > reach).any() for c in chosen):
            chosen.append(int(position))
        if len(chosen) == count:
            break
    return chosen
