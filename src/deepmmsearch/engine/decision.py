"""Which of the pictures that were proposed does a query show, if any: the thresholds, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deepmmsearch.engine.align import Placement
from deepmmsearch.engine.inliers import Agreed

# Calibrated on crops, scenes and clutter with and without the pictured flag (docs/engine.md has the figures).
FILLS = 0.35  # share of the query from which a place counts as the subject of the query
SMALL = 0.03  # share below which a place says nothing: at that size plain regions agree with anything
AGREES = 0.42  # agreement that identifies the subject of the query
AGREES_INSIDE = 0.7  # agreement that identifies a small part of it
NEVER = 2.0  # no agreement: of a picture in colours with a query that has none
RIVAL = 0.4  # agreement of another picture elsewhere that makes a small part ambiguous
MARGIN = 0.03  # by which a picture must agree better than another one at its place
SAME = 0.85  # agreement of two pictures of the index that count as copies of one, not as rivals
VERIFIES = 14  # inliers, spread over what both show, that identify a picture
SPREAD = 0.3  # share of what both show that inliers of one picture span
RIVALS = 0.6  # share of the best one's inliers with which another picture makes them ambiguous
CHANCE, SHARED = 5, 8  # inliers that say nothing, and that two pictures of one thing have where both have many features
RICH = 100  # many features
SEEN = 0.5  # agreement from which a picture goes before all that an encoder finds alike, as from SHARED inliers
INSIDE = 0.2  # share of its worth that agreement loses on a small part of the query


@dataclass(eq=False)
class Candidate:
    """`window`: the part of the query (image.WINDOWS) that is most similar. `needed`: the agreement that identifies it
    as the subject of the query. `features`: how many the picture has, None where they were not compared. `cosine`: of
    an encoder, None without one."""

    index: int
    similarity: float
    grey_similarity: float = 0.0
    window: int = 0
    needed: float = AGREES
    placement: Placement | None = None
    agreed: Agreed | None = None
    grey: Placement | None = None
    features: int | None = None
    cosine: float | None = None

    @property
    def agreement(self) -> float:
        return self.placement.agreement if self.placement else 0.0

    @property
    def inliers(self) -> int:
        return self.agreed.inliers if self.agreed else 0

    @property
    def seen(self) -> float:
        """How much of what both show is the same, by alignment and by local features."""
        return self.aligned + min(1.5, max(0, self.inliers - CHANCE) / 10)

    @property
    def aligned(self) -> float:
        """What of that alignment shows."""
        grey = 0.8 * self.grey.agreement if self.grey else 0.0
        return max(self.agreement * (1 - INSIDE + INSIDE * min(1.0, self.share / FILLS)), grey)

    @property
    def score(self) -> float:
        """Orders the candidates. Where little has been seen that is the same, an encoder knows better what is alike."""
        if self.cosine is None:
            return self.seen + 0.1 * self.similarity
        if self.aligned < SEEN and self.inliers < SHARED:
            return SEEN * self.cosine
        return max(self.seen, SEEN) + 0.1 * self.cosine

    @property
    def share(self) -> float:
        """Of the query that the picture covers where it agrees best."""
        if self.placement is None:
            return 0.0
        left, top, right, bottom = np.clip(self.placement.region, 0, 1)
        return float((right - left) * (bottom - top))


Same = Callable[[Candidate, Candidate], bool]


def identified(ranked: Sequence[Candidate], same: Same, rich: bool) -> Candidate | None:
    """The picture that the query shows, where no other explains it as well or explains another part of it: `same` tells
    copies, which are no rivals. `rich`: the query has many local features."""
    by_features = max(ranked, key=lambda c: c.inliers, default=None)
    sure = by_features is not None and verified(by_features)
    by_colour = max(ranked, key=lambda c: 0.1 * c.similarity + c.agreement, default=None)
    claims = by_colour is not None and _agrees(by_colour) and not (rich and _contradicted(by_colour, sure))
    if by_features is not None and by_colour is not None and sure and by_colour is not by_features:
        # a place in it whose colours agree says less than features all over it
        claims = claims and (covers(by_colour) or same(by_colour, by_features))
    if by_colour is not None and claims and all(same(c, by_colour) for c in ranked if _rivals(c, by_colour)):
        return by_colour
    if by_features is not None and sure:
        rivals = (c for c in ranked if c.inliers >= RIVALS * by_features.inliers)
        return by_features if all(same(c, by_features) for c in rivals) else None
    return None


def _contradicted(candidate: Candidate, other: bool) -> bool:
    """Both it and the query have many features, and hardly more than by chance are the same; `other`: another picture
    has more in common with the query."""
    if candidate.features is None or candidate.inliers >= SHARED:
        return False
    return candidate.features >= RICH and (other or candidate.agreement < AGREES_INSIDE)


def _agrees(best: Candidate) -> bool:
    least = best.needed if best.share >= FILLS else max(best.needed, AGREES_INSIDE)
    return best.share >= SMALL and best.agreement >= least


def _rivals(other: Candidate, best: Candidate) -> bool:
    """Explains the query as well as the best one does, or another part of it."""
    if other.placement is None or best.placement is None or other is best:
        return False
    if _overlap(best.placement.region, other.placement.region) < 0.3:
        return best.share < FILLS and other.agreement >= RIVAL and other.share >= SMALL
    return other.agreement > best.agreement - MARGIN and other.share >= 0.3 * best.share


def verified(candidate: Candidate) -> bool:
    """By so many local features that nothing else needs to be looked for. They must not lie together, for a crest is on
    many flags."""
    return candidate.inliers >= VERIFIES and candidate.agreed is not None and candidate.agreed.spread >= SPREAD


def covers(candidate: Candidate) -> bool:
    """So clearly the subject of the query that nothing else needs to be looked for within it."""
    return candidate.agreement >= max(candidate.needed, AGREES_INSIDE) and candidate.share >= FILLS


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over the smaller of the two."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(0.0, width) * max(0.0, height) / max(smaller, 1e-9)
