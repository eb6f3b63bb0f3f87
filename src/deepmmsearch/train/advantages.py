"""Advantages within groups of rollouts (GRPO), and which rollouts are left out of the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from deepmmsearch.train.rollouts import Rollout

Scale = Literal["none", "group", "batch"]
EPSILON = 1e-4


def group_advantages(rewards: Sequence[Sequence[float | None]], scale: Scale = "none") -> list[list[float]]:
    """A = R - mean(R) of the group (DeepMMSearch-R1, section 3.4, as printed), divided by the group's or the batch's
    standard deviation where `scale` says so (GRPO as in arXiv 2402.03300).

    None marks a rollout that is left out: its advantage is 0 and it does not count in the mean.
    """
    everything = [r for group in rewards for r in group if r is not None]
    batch = _deviation(everything)
    advantages = []
    for group in rewards:
        known = [r for r in group if r is not None]
        mean = sum(known) / len(known) if known else 0.0
        spread = {"none": 1.0, "group": _deviation(known) + EPSILON, "batch": batch + EPSILON}[scale]
        advantages.append([0.0 if r is None else (r - mean) / spread for r in group])
    return advantages


def is_flat(rewards: Sequence[float | None]) -> bool:
    """Does the group teach nothing: fewer than two rollouts that count, or all worth the same?"""
    known = [r for r in rewards if r is not None]
    return len(known) < 2 or math.isclose(min(known), max(known), abs_tol=1e-9)


def counted(rollout: Rollout, mask_failed: bool, mask_truncated: bool) -> float | None:
    """The rollout's reward, or None where the settings leave it out of loss and mean."""
    if rollout.score is None or not any(turn.completion.ids for turn in rollout.trajectory.turns):
        return None
    if (mask_failed and rollout.failed) or (mask_truncated and rollout.truncated):
        return None
    return rollout.score.value


def _deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1), 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
