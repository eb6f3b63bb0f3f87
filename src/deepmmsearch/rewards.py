"""What a finished episode is worth: the rewards of both papers, with every part kept apart.

DeepMMSearch-R1 (arXiv 2510.12801, section 3.4): R = (1 - λ)·s + λ·s_fmt, λ = 0.1.
MMSearch-R1 (arXiv 2506.20670, section 3.3): R = (1 - α)·s·p + α·s_fmt, α = 0.1, where p = 0.9 once if the episode
searched at all, or 0.9 for each search. Cost and crop quality are terms of our own, off unless asked for.

A reward is an async function of a trajectory and a judge; its other arguments are its settings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepmmsearch.agent.regions import overlap
from deepmmsearch.arguments import check_settings, settings_of
from deepmmsearch.errors import UserError
from deepmmsearch.judge import Judge
from deepmmsearch.registry import Registry
from deepmmsearch.types import Box, Malformed, Trajectory


@dataclass(frozen=True)
class Score:
    """`value` is the reward; `parts` are the figures it was made of, by name, for the log."""

    value: float
    parts: Mapping[str, float]


Reward = Callable[[Trajectory], Awaitable[Score]]


REWARDS = Registry[Callable[..., Awaitable[Score]]](
    "deepmmsearch.rewards", "reward", callable, "a function of trajectory and judge; docs/extending.md shows one"
)
GIVEN = ("trajectory", "judge")


class RewardSettings(BaseModel):
    """`kind`: a reward of the entry-point group `deepmmsearch.rewards`, or `module:function`. The others are the
    reward's own settings, its arguments beside the trajectory and the judge."""

    model_config = ConfigDict(extra="allow")

    kind: str = "deepmmsearch-r1"

    @model_validator(mode="before")
    @classmethod
    def _that_it_takes(cls, given: Any) -> Any:
        """With the defaults, so that what is stored says everything."""
        if isinstance(given, str):
            given = {"kind": given}
        if not isinstance(given, Mapping) or not isinstance(given.get("kind", ""), str):
            return given
        kind = given.get("kind", cls.model_fields["kind"].default)
        own = {name: value for name, value in given.items() if name != "kind"}
        try:
            function = REWARDS.find(kind, code=True)
            checked = check_settings(f"reward {kind}", function, own, GIVEN, ["kind"])
        except UserError as error:
            raise ValueError(str(error)) from None
        usual = {name: argument.default for name, argument in settings_of(function, GIVEN).items()}
        return {"kind": kind, **usual, **checked}


def build_reward(settings: RewardSettings, judge: Judge) -> Reward:
    """The reward with its settings; what it returns raises JudgeError when no verdict could be had."""
    return partial(REWARDS.find(settings.kind, code=True), judge=judge, **(settings.model_extra or {}))


Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


async def deepmmsearch_r1(
    trajectory: Trajectory,
    judge: Judge,
    *,
    format_weight: Share = 0.1,
    call_cost: Weight = 0.0,
    crop_weight: Weight = 0.0,
) -> Score:
    """`format_weight`: λ. `call_cost` is taken off a right answer for each tool call, down to 0. `crop_weight` is added
    times the quality of the crops: their overlap (IoU) with the gold box where one is known, else the grounder's score.
    """
    return await _score(trajectory, judge, 1.0, format_weight, call_cost, crop_weight)


async def mmsearch_r1(
    trajectory: Trajectory,
    judge: Judge,
    *,
    format_weight: Share = 0.1,
    search_penalty: Annotated[float, Field(gt=0, le=1)] = 0.9,
    per_search: bool = False,
    call_cost: Weight = 0.0,
    crop_weight: Weight = 0.0,
) -> Score:
    """`format_weight`: α. `search_penalty`: what a right answer is multiplied by because the episode searched,
    `per_search`: once for each search. The others are as in `deepmmsearch_r1`."""
    searches = len(trajectory.searches)
    penalty = search_penalty ** (searches if per_search else min(searches, 1))
    return await _score(trajectory, judge, penalty, format_weight, call_cost, crop_weight)


async def _score(
    trajectory: Trajectory, judge: Judge, penalty: float, format_weight: float, call_cost: float, crop_weight: float
) -> Score:
    verdict = await judge.judge(trajectory.question, trajectory.answer)
    formed = float(well_formed(trajectory))
    right = max(0.0, verdict.score * penalty - call_cost * len(trajectory.searches))
    crop = crop_quality(trajectory)
    value = (1 - format_weight) * right + format_weight * formed
    parts = {"correct": verdict.score, "format": formed, "penalty": penalty}
    if crop is not None:
        value += crop_weight * crop
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
