"""What a finished episode is worth: the rewards of both papers, with every part kept apart.

DeepMMSearch-R1 (arXiv 2510.12801, section 3.4): R = (1 - λ)·s + λ·s_fmt, λ = 0.1.
MMSearch-R1 (arXiv 2506.20670, section 3.3): R = (1 - α)·s·p + α·s_fmt, α = 0.1, where p = 0.9 once if the episode
searched at all, or 0.9 for each search. Cost and crop quality are terms of our own, off unless asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepmmsearch.judge import Judge
from deepmmsearch.types import Box, Malformed, Trajectory


@dataclass(frozen=True)
class Score:
    """`value` is the reward; `parts` are the figures it was made of, by name, for the log."""

    value: float
    parts: Mapping[str, float]


Reward = Callable[[Trajectory], Awaitable[Score]]


class RewardSettings(BaseModel):
    """`format_weight`: λ, or α. `search_penalty`: what a right answer is multiplied by because of searches (1: no
    penalty), `per_search`: once for each of them. `call_cost` is taken off a right answer for each tool call, down to
    0. `crop_weight` is added times the quality of the crops: their overlap (IoU) with the gold box where one is known,
    else the grounder's score."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["deepmmsearch-r1", "mmsearch-r1"] = "deepmmsearch-r1"
    format_weight: float = Field(default=0.1, ge=0, le=1)
    search_penalty: float | None = Field(default=None, gt=0, le=1)
    per_search: bool = False
    call_cost: float = Field(default=0.0, ge=0)
    crop_weight: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _penalty_belongs_to_mmsearch(self) -> Self:
        if self.kind == "deepmmsearch-r1" and (self.search_penalty is not None or self.per_search):
            raise ValueError("the reward deepmmsearch-r1 has no search penalty: set kind: mmsearch-r1")
        return self

    @property
    def penalty(self) -> float:
        """The factor for one search: MMSearch-R1's 0.9 unless the recipe says otherwise."""
        if self.kind == "deepmmsearch-r1":
            return 1.0
        return 0.9 if self.search_penalty is None else self.search_penalty


class AgentReward:
    """A `Reward`: correctness by `judge`, form by the protocol, penalties by the settings."""

    def __init__(self, settings: RewardSettings, judge: Judge) -> None:
        self.settings, self.judge = settings, judge

    async def __call__(self, trajectory: Trajectory) -> Score:
        """Raises JudgeError when no verdict could be had."""
        settings = self.settings
        verdict = await self.judge.judge(trajectory.question, trajectory.answer)
        formed = float(well_formed(trajectory))
        searches = len(trajectory.searches)
        penalty = settings.penalty ** (searches if settings.per_search else min(searches, 1))
        right = max(0.0, verdict.score * penalty - settings.call_cost * searches)
        crop = crop_quality(trajectory)
        value = (1 - settings.format_weight) * right + settings.format_weight * formed
        parts = {"correct": verdict.score, "format": formed, "penalty": penalty}
        if crop is not None:
            value += settings.crop_weight * crop
            parts["crop"] = crop
        return Score(value, parts)


def well_formed(trajectory: Trajectory) -> bool:
    """Every turn one valid action, the last an answer; for any number of turns."""
    valid = all(not isinstance(turn.action, Malformed) for turn in trajectory.turns)
    return valid and trajectory.answer is not None


def crop_quality(trajectory: Trajectory) -> float | None:
    """Mean over the searches by region, in [0, 1]; a region that was not found counts 0. None without such a search."""
    gold = trajectory.question.metadata.get("gold_box")
    qualities = []
    for turn in trajectory.turns:
        grounding = turn.observation.grounding if turn.observation else None
        if grounding is None or not grounding.phrase:
            continue
        box = grounding.box
        if box is None:
            qualities.append(0.0)
        else:
            qualities.append(overlap(box, Box(*gold)) if gold else min(1.0, max(0.0, box.score)))
    return sum(qualities) / len(qualities) if qualities else None


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, in [0, 1]."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(0.0, width) * max(0.0, height)
    union = one.area + other.area - shared
    return shared / union if union > 0 else 0.0
