"""What becomes of a grounder's boxes: the region that is cropped, or why the whole image is searched instead.

The paper (DeepMMSearch-R1, section 3.1) crops the box of the expression and says nothing of the doubtful ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from deepmmsearch import images
from deepmmsearch.errors import ToolError
from deepmmsearch.types import Box, Grounding, GroundingOutcome, Trajectory

WHOLE = 0.98  # share of the image from which a box has nothing to crop
AS_GOOD = 0.95  # share of the best score from which another box counts as equally good
APART = 0.5  # overlap (intersection over union) below which two boxes are of different things
RECORDED = 8


def choose_region(
    phrase: str, boxes: Sequence[Box], size: tuple[int, int], threshold: float, min_side: float
) -> Grounding:
    """The best box by score within an image of `size`; of equal ones the first.

    A box below `threshold` or thinner than `min_side` pixels is no box. One over the whole image is kept in the record,
    but there is nothing to crop.
    """
    finite = [b for b in boxes if all(map(math.isfinite, (b.left, b.top, b.right, b.bottom, b.score)))]
    found = tuple(sorted((images.clamp(b, size) for b in finite), key=lambda b: -b.score))
    kept = found[:RECORDED]
    if not found:
        return no_region(phrase, "none", "no box was found")
    best = found[0]
    if best.score < threshold:
        return no_region(phrase, "weak", f"the best box scores {best.score:.2f}, below {threshold:.2f}", kept)
    if _thin(best, min_side):
        width, height = best.right - best.left, best.bottom - best.top
        return no_region(phrase, "tiny", f"the best box is only {width:.0f} x {height:.0f} pixels", kept)
    if best.area >= WHOLE * size[0] * size[1]:
        return Grounding(phrase, best, "the box covers the whole image", "whole", kept)
    good = [b for b in found if b.score >= max(threshold, AS_GOOD * best.score) and not _thin(b, min_side)]
    rivals = any(overlap(best, b) < APART for b in good[1:])
    return Grounding(phrase, best, None, "several" if rivals else "box", kept)


def named_region(box: Box, size: tuple[int, int], min_side: float) -> Grounding:
    """The box that the policy gave in pixels of the image itself. Raises ToolError for one that holds nothing."""
    sides = (box.left, box.top, box.right, box.bottom)
    found = images.clamp(box, size) if all(map(math.isfinite, sides)) else None
    if found is None or _thin(found, min_side):
        raise ToolError(f"The box holds less than {min_side:.0f} x {min_side:.0f} pixels of {size[0]} x {size[1]}.")
    return Grounding("", found, None, "box", (found,))


def no_region(phrase: str, outcome: GroundingOutcome, why: str, found: tuple[Box, ...] = ()) -> Grounding:
    return Grounding(phrase, None, why, outcome, found)


def told(grounding: Grounding | None) -> list[str]:
    """What the policy reads of it: nothing where the one region it named was searched."""
    if grounding is None:
        return []
    if grounding.box is None:
        return [f'No region for "{grounding.phrase}" was found, so the whole image was searched.']
    if grounding.outcome == "several":
        return [f'Several regions fit "{grounding.phrase}" equally well, one of them was searched.']
    return []


def count_outcomes(trajectories: Iterable[Trajectory]) -> Counter[str]:
    """How often each outcome of grounding occurred (`types.GroundingOutcome`), and "fallback": how often the whole
    image was searched although a region had been asked for."""
    counted: Counter[str] = Counter()
    for trajectory in trajectories:
        for turn in trajectory.turns:
            grounding = turn.observation.grounding if turn.observation else None
            if grounding is not None:
                counted[grounding.outcome or ("none" if grounding.box is None else "box")] += 1
                counted["fallback"] += grounding.fallback is not None
    return counted


def _thin(box: Box, min_side: float) -> bool:
    return min(box.right - box.left, box.bottom - box.top) < min_side


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, in [0, 1]."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(0.0, width) * max(0.0, height)
    union = one.area + other.area - shared
    return shared / union if union > 0 else 0.0
