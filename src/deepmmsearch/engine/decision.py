"""Which of the pictures that were proposed does a query show, if any: the thresholds, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepmmsearch.engine.align import Placement

# Calibrated on crops, scenes and clutter with and without the pictured flag (docs/engine.md has the figures).
FILLS = 0.35  # share of the query from which a place counts as the subject of the query
SMALL = 0.03  # share below which a place says nothing: at that size plain regions agree with anything
AGREES = 0.42  # agreement that identifies the subject of the query
AGREES_INSIDE = 0.7  # agreement that identifies a small part of it
RIVAL = 0.4  # agreement of another picture elsewhere that makes a small part ambiguous
MARGIN = 0.03  # by which a picture must agree better than another one at its place
SAME = 0.85  # agreement of two pictures of the index that count as copies of one, not as rivals


@dataclass(eq=False)
class Candidate:
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


def identifies(best: Candidate, others: Sequence[Candidate]) -> bool:
    """The query shows the best one, and no other explains it as well or explains another part of it."""
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


def covers(candidate: Candidate) -> bool:
    """So clearly the subject of the query that nothing else needs to be looked for within it."""
    return candidate.agreement >= AGREES_INSIDE and candidate.share >= FILLS


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over the smaller of the two."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(0.0, width) * max(0.0, height) / max(smaller, 1e-9)
