"""Local features of a gallery's pictures: which pictures those of a query vote for, and where in the query they lie."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deepmmsearch.engine import align
from deepmmsearch.engine import descriptors as d

VOTERS = 200
NEIGHBOURS = 4
REDUCED = 48  # dimensions in which the neighbours of features are sought
BLOCK = 64


class Votes:
    """`arrays` are the gallery's; `most`: so many pictures are proposed."""

    def __init__(self, arrays: Mapping[str, np.ndarray], most: int) -> None:
        self._arrays, self._most = arrays, most
        self._starts = np.asarray(arrays["points_offsets"])
        self._axes = _principal_axes(arrays["descriptors"])
        self._reduced = self._project(arrays["descriptors"])
        self._owner = np.repeat(np.arange(len(self._starts) - 1), np.diff(self._starts))

    def proposed(self, rooted: np.ndarray) -> np.ndarray:
        """The pictures whose features are near those of the query (a vote per feature, by how much nearer than the
        next neighbours)."""
        if not len(rooted) or len(self._reduced) <= NEIGHBOURS:
            return np.zeros(0, int)
        near, distance = self._nearest(rooted[:VOTERS] @ self._axes, NEIGHBOURS + 1)
        weight = np.maximum(0.0, distance[:, -1:] - distance[:, :-1]) / (distance[:, -1:] + 1e-6)
        counted = np.bincount(self._owner[near[:, :-1]].ravel(), weight.ravel(), len(self._starts) - 1)
        # a picture with many features catches more chance votes
        votes = counted / np.sqrt(np.maximum(30, np.diff(self._starts)))
        best = np.argsort(-votes)[: self._most]
        return np.asarray(best[votes[best] > 0])

    def transform(self, index: int, features: d.Features, rooted: np.ndarray) -> tuple[np.ndarray | None, int]:
        """Picture to query, from mutual nearest SIFT features, and how many distinct places agree on it."""
        start, end = self._starts[index : index + 2]
        if end - start < 3 or len(rooted) < 3:
            return None, 0
        cosine = rooted @ d.root_sift(self._arrays["descriptors"][start:end]).T
        near = cosine.argmax(1)
        # no ratio test: it fails on the repeated corners of a flag
        mutual = (cosine.argmax(0)[near] == np.arange(len(near))) & (cosine[np.arange(len(near)), near] > 0.75)
        if mutual.sum() < 3:
            return None, 0
        source = self._arrays["points"][start:end][near[mutual], :2]
        target = features.points[mutual, :2]
        cv2 = d.cv2_module()
        transform, kept = cv2.estimateAffinePartial2D(
            source, target, method=cv2.RANSAC, ransacReprojThreshold=6.0, maxIters=500, confidence=0.995
        )
        if transform is None:
            return None, 0
        distinct = len(np.unique(np.round(target[kept.ravel() > 0] / 4), axis=0))
        width, height = self._arrays["size"][index]
        to_fractions = np.diag([1 / features.width, 1 / features.height])
        matrix = to_fractions @ transform @ np.diag([width, height, 1.0])
        return (matrix, distinct) if distinct >= 3 and align.sane(matrix) else (None, 0)

    def _project(self, descriptors: np.ndarray, rows: int = 16_384) -> np.ndarray:
        """float32 (n, REDUCED), by blocks: the whole in 128 floats each would be the largest thing in memory."""
        reduced = np.empty((len(descriptors), self._axes.shape[1]), np.float32)
        for start in range(0, len(descriptors), rows):
            reduced[start : start + rows] = d.root_sift(descriptors[start : start + rows]) @ self._axes
        return reduced

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


def _principal_axes(descriptors: np.ndarray) -> np.ndarray:
    """float32 (128, REDUCED): where the features of the gallery vary most; not centred: products stay cosines."""
    sample = d.root_sift(descriptors[:: max(1, len(descriptors) // 20_000)])
    _, axes = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(axes[:, -REDUCED:], np.float32)
