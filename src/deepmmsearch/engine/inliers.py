"""Do the local features of a query and a picture agree on one place? Mutual nearest neighbours, then RANSAC."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from deepmmsearch.engine import descriptors as d

ALIKE = 0.75  # cosine from which two features may be the same
REACH = 6.0  # pixels between features that agree
MOST = 12.0  # times that a picture may be larger or smaller than the query
CELL = 4.0  # pixels: features nearer to each other are one place


@dataclass(frozen=True)
class Agreed:
    """`matrix` (2, 3): picture to query, both in fractions of their sides. `inliers`: distinct places that agree.
    `spread`: the share that their hull has of what the picture and the query have in common."""

    matrix: np.ndarray
    inliers: int
    spread: float
    mirrored: bool = False


@dataclass(frozen=True)
class Rooted:
    """Local features with their descriptors Hellinger-normalised, float32 (n, 128)."""

    features: d.Features
    rooted: np.ndarray

    @classmethod
    def of(cls, features: d.Features) -> Rooted:
        return cls(features, d.root_sift(features.descriptors))

    @property
    def mirrored(self) -> Rooted:
        return Rooted.of(d.mirrored(self.features))


def agreed(query: Rooted, points: np.ndarray, descriptors: np.ndarray, size: np.ndarray) -> Agreed | None:
    """None where fewer than three places agree. `points`, `descriptors` and `size` (width, height) are a picture's."""
    if len(points) < 3 or len(query.rooted) < 3:
        return None
    cosine = query.rooted @ d.root_sift(descriptors).T
    near = cosine.argmax(1)
    rows = np.arange(len(near))
    # no ratio test: it fails on the repeated corners of a flag
    mutual = (cosine.argmax(0)[near] == rows) & (cosine[rows, near] > ALIKE)
    if mutual.sum() < 3:
        return None
    source, target = points[near[mutual], :2], query.features.points[mutual, :2]
    cv2 = d.cv2_module()
    transform, kept = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=REACH, maxIters=500, confidence=0.995
    )
    if transform is None:
        return None
    shown = np.hypot(transform[0, 0], transform[1, 0]) * max(size) / max(query.features.width, query.features.height)
    if not 1 / MOST < shown < MOST:
        return None
    target = target[kept.ravel() > 0]
    inliers = min(_distinct(target), _distinct(source[kept.ravel() > 0]))
    if inliers < 3:
        return None
    extent = np.array([query.features.width, query.features.height], np.float32)
    matrix = np.diag(1 / extent) @ transform @ np.diag([*size, 1.0])
    return Agreed(matrix, inliers, _spread(target / extent, matrix))


def mirrored_back(found: Agreed) -> Agreed:
    """Of the mirrored query, as a transform to the query itself."""
    return replace(found, matrix=np.diag([-1, 1]) @ found.matrix + np.array([[0, 0, 1], [0, 0, 0]]), mirrored=True)


def _distinct(points: np.ndarray) -> int:
    return len(np.unique(np.round(points / CELL), axis=0))


def _spread(places: np.ndarray, matrix: np.ndarray) -> float:
    cv2 = d.cv2_module()
    corners = (np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], float) @ matrix.T).astype(np.float32)
    query = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    common, _ = cv2.intersectConvexConvex(corners, query)
    return float(cv2.contourArea(cv2.convexHull(places.astype(np.float32)))) / common if common > 1e-6 else 0.0
