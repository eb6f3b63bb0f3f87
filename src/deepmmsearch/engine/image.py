"""Picture search: global similarity and SIFT votes propose, alignment decides.

A proposed picture is laid over the query by a similarity transform (RANSAC over its SIFT matches, or the best global
window); how well the colours agree after that is its `appearance`. A hit counts as matched only when the agreement is
good, and no other picture explains the query as well or explains another part of it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from deepmmsearch.engine import descriptors as d

GALLERY_FEATURES = 300
QUERY_FEATURES = 500
NEIGHBOURS = 4
GLOBAL_CANDIDATES = 10
VOTED_CANDIDATES = 12

# the query as a whole, then with each side trimmed: a jittered crop shows some of what surrounds the subject
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
    """`row` is the picture's id in the store. `appearance` in [0, 1]: agreement of colours after alignment;
    `region`: where in the query it was found, in fractions, None when nowhere in particular."""

    row: int
    score: float
    matched: bool
    appearance: float = 0.0
    inliers: int = 0
    similarity: float = 0.0
    region: tuple[float, float, float, float] | None = None


def picture_row(pixels: np.ndarray, embedding: np.ndarray | None = None) -> dict[str, Any]:
    """What the store keeps of a picture; ragged values wrapped in a list (store.add_row)."""
    features = d.local_features(pixels, GALLERY_FEATURES)
    row: dict[str, Any] = {
        "vector": d.global_vector(pixels).astype(np.float16),
        "size": np.array([features.width, features.height], np.float32),
        "points": [features.points],
        "descriptors": [features.descriptors],
        "thumbnail": [np.frombuffer(d.thumbnail(pixels), np.uint8)],
    }
    if embedding is not None:
        row["embedding"] = embedding.astype(np.float16)
    return row


@dataclass
class _Candidate:
    index: int
    similarity: float
    window: d.Window
    inliers: int = 0
    appearance: float = 0.0
    region: tuple[float, float, float, float] | None = None
    located: bool = False


@dataclass
class Gallery:
    """The pictures of one commit, ready to be searched. Not for two threads at once."""

    arrays: Mapping[str, np.ndarray]
    _vectors: np.ndarray = field(init=False)
    _descriptors: np.ndarray = field(init=False)
    _owner: np.ndarray = field(init=False)
    _starts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self._vectors = self.arrays["vector"].astype(np.float32)
        self._starts = self.arrays["points_offsets"]
        self._descriptors = d.root_sift(self.arrays["descriptors"])
        self._owner = np.repeat(np.arange(len(self._vectors)), np.diff(self._starts))

    def thumbnail(self, row: int) -> Image.Image | None:
        positions = np.flatnonzero(self.arrays["ids"] == row)
        return self._thumbnail(int(positions[0])) if len(positions) else None

    def _thumbnail(self, index: int) -> Image.Image:
        start, end = self.arrays["thumbnail_offsets"][index : index + 2]
        return Image.open(io.BytesIO(self.arrays["thumbnail"][start:end].tobytes())).convert("RGB")

    def search(self, image: Image.Image, k: int, embedding: np.ndarray | None = None) -> list[Match]:
        """At most k, best first. `embedding` replaces the global similarity where the index was built with one."""
        with d.one_thread():
            query = d.pixels(image)
            similarity, windows = self._global(query)
            if embedding is not None and "embedding" in self.arrays:
                ranking = self.arrays["embedding"].astype(np.float32) @ embedding
            else:
                ranking = similarity
            features = d.local_features(query, QUERY_FEATURES)
            rooted = d.root_sift(features.descriptors)
            chosen = list(np.argsort(-ranking)[:GLOBAL_CANDIDATES])
            chosen += list(self._voted(rooted))
            candidates = [
                _Candidate(int(i), float(ranking[i]), WINDOWS[windows[i]])
                for i in dict.fromkeys(int(i) for i in chosen)
            ]
            for candidate in candidates:
                self._align(candidate, query, features, rooted)
        return self._decide(candidates, k)

    def _global(self, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        vectors = np.stack([d.global_vector(query, window) for window in WINDOWS])
        all_similarities = self._vectors @ vectors.T
        return all_similarities.max(1), all_similarities.argmax(1)

    def _voted(self, rooted: np.ndarray) -> np.ndarray:
        """The pictures whose features are near those of the query (a vote per feature, by how much nearer than the
        next neighbours)."""
        if not len(rooted) or len(self._descriptors) <= NEIGHBOURS:
            return np.zeros(0, int)
        near, distance = self._nearest(rooted, NEIGHBOURS + 1)
        weight = np.maximum(0.0, distance[:, -1:] - distance[:, :-1]) / (distance[:, -1:] + 1e-6)
        counted = np.bincount(self._owner[near[:, :-1]].ravel(), weight.ravel(), len(self._vectors))
        # a picture with many features catches more chance votes
        votes = counted / np.sqrt(np.maximum(30, np.diff(self._starts)))
        best = np.argsort(-votes)[:VOTED_CANDIDATES]
        return best[votes[best] > 0]

    def _nearest(self, rooted: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        cosine = rooted @ self._descriptors.T
        near = np.argpartition(-cosine, k, axis=1)[:, :k] if cosine.shape[1] > k else np.argsort(-cosine, 1)
        values = np.take_along_axis(cosine, near, 1)
        order = np.argsort(-values, 1)
        near, values = np.take_along_axis(near, order, 1), np.take_along_axis(values, order, 1)
        return near, np.sqrt(np.maximum(0.0, 2 - 2 * values))

    def _align(self, candidate: _Candidate, query: np.ndarray, features: d.Features, rooted: np.ndarray) -> None:
        cv2 = d.cv2_module()
        picture = np.asarray(self._thumbnail(candidate.index))
        height, width = picture.shape[:2]
        rows, columns = query.shape[:2]
        best = None
        transform, inliers = self._transform(candidate.index, features, rooted)
        if transform is not None:
            gallery_width, gallery_height = self.arrays["size"][candidate.index]
            to_feature = np.diag([gallery_width / width, gallery_height / height, 1.0])
            to_query = np.diag([columns / features.width, rows / features.height, 1.0])
            best = to_query @ np.vstack([transform, [0, 0, 1]]) @ to_feature
            candidate.inliers, candidate.located = inliers, True
        left, top, right, bottom = candidate.window
        scale = np.array(
            [
                [(right - left) * columns / width, 0, left * columns],
                [0, (bottom - top) * rows / height, top * rows],
                [0, 0, 1.0],
            ]
        )
        options = [(scale, False)] + ([(best, True)] if best is not None else [])
        for matrix, located in options:
            warped = cv2.warpPerspective(
                query, np.linalg.inv(matrix), (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
            )
            agreement = appearance(warped, picture)
            if agreement > candidate.appearance:
                candidate.appearance, candidate.located = agreement, located
                corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], float) @ matrix.T
                x, y = corners[:, 0] / columns, corners[:, 1] / rows
                candidate.region = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))

    def _transform(self, index: int, features: d.Features, rooted: np.ndarray) -> tuple[np.ndarray | None, int]:
        cv2 = d.cv2_module()
        start, end = self._starts[index : index + 2]
        if end - start < 3 or len(rooted) < 3:
            return None, 0
        cosine = rooted @ self._descriptors[start:end].T
        near, _ = cosine.argmax(1), None
        value = cosine[np.arange(len(near)), near]
        # mutual nearest neighbours; the ratio test fails on the repeated corners of a flag
        mutual = (cosine.argmax(0)[near] == np.arange(len(near))) & (value > 0.75)
        if mutual.sum() < 3:
            return None, 0
        source = self.arrays["points"][start:end][near[mutual], :2]
        target = features.points[mutual, :2]
        transform, kept = cv2.estimateAffinePartial2D(
            source, target, method=cv2.RANSAC, ransacReprojThreshold=6.0, maxIters=500, confidence=0.995
        )
        if transform is None:
            return None, 0
        scale = float(np.hypot(transform[0, 0], transform[1, 0]))
        # corners that coincide are one observation
        distinct = len(np.unique(np.round(target[kept.ravel() > 0] / 4), axis=0))
        return (transform, distinct) if 0.08 < scale < 8 and distinct >= 3 else (None, 0)

    def _decide(self, candidates: list[_Candidate], k: int) -> list[Match]:
        ranked = sorted(candidates, key=score, reverse=True)[: max(0, k)]
        return [
            Match(
                int(self.arrays["ids"][c.index]),
                round(score(c), 4),
                c.appearance > 0.8,
                c.appearance,
                c.inliers,
                c.similarity,
                c.region,
            )
            for c in ranked
        ]


def score(candidate: _Candidate) -> float:
    return candidate.similarity + 2 * candidate.appearance + 0.3 * min(1.0, candidate.inliers / 20)


def appearance(warped: np.ndarray, picture: np.ndarray, grid: int = 24) -> float:
    """Agreement of two pictures of one shape, in [0, 1]: mean colour difference on a coarse grid, brightness and
    contrast fitted first."""
    found, expected = d.lab(warped, grid, grid), d.lab(picture, grid, grid)
    shift = np.clip(np.mean(expected[..., 0] - found[..., 0]), -15, 15)
    difference = found - expected
    difference[..., 0] = (difference[..., 0] + shift) * 0.7
    distance = np.minimum(np.sqrt((difference**2).sum(-1)), 60).mean()
    return float(max(0.0, 1 - distance / 40))
