"""Recipes of training as a user writes them: with where questions, tools and reward come from, and what is played
meanwhile. Free of the heavy packages, so that a recipe can be checked without them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from deepmmsearch.compose.judges import JudgeSettings, RuleJudgeSettings
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.rewards import RewardSettings
from deepmmsearch.settings import Aside, LimitSettings, OneOf, Settings
from deepmmsearch.train.recipes import GrpoRecipe, OwnRollouts, SftRecipe


class AtlasSettings(Settings):
    """`worlds` of `questions` each, from `seed` on, kept in `folder`; `search_share` of them need a search (0.78 if not
    given). `evaluate` questions of the unseen world `evaluate_seed` measure the policy during training."""

    folder: Aside[Path]
    seed: int = 3000
    worlds: int = Field(default=4, gt=0)
    questions: int = Field(default=400, gt=0)
    search_share: float | None = Field(default=None, ge=0, le=1)
    evaluate_seed: int = 90
    evaluate: int = Field(default=100, gt=0)


class Experiment(GrpoRecipe):
    """A GRPO recipe with its judge and its reward."""

    judge: JudgeSettings = RuleJudgeSettings(rule="exact")
    reward: RewardSettings = Field(default_factory=RewardSettings)


class AtlasExperiment(Experiment):
    """Questions about invented worlds, each searched with its own index."""

    atlas: AtlasSettings

    @model_validator(mode="after")
    def _is_measured(self) -> Self:
        measured = self.atlas.model_fields_set & {"evaluate", "evaluate_seed"}
        if measured and "evaluate_every" not in self.model_fields_set:
            raise ValueError(f"atlas.{min(measured)} does nothing without evaluate_every. Set both or none")
        if self.evaluate_every and not isinstance(self.rollouts, OwnRollouts):
            raise ValueError(
                "evaluate_every needs a sampler in this process (rollouts.backend local or slots). Remove it and "
                "measure checkpoints with: deepmmsearch eval RECIPE"
            )
        return self


class DataExperiment(Experiment):
    """Questions of `data`, searched with `tools`."""

    data: Aside[list[Path]] = Field(min_length=1)
    tools: ToolSettings

    @model_validator(mode="after")
    def _is_not_measured(self) -> Self:
        if self.evaluate_every:
            raise ValueError(
                "evaluate_every belongs to questions from atlas. Remove it and measure checkpoints with: deepmmsearch "
                "eval RECIPE"
            )
        return self


AnyExperiment = Annotated[
    AtlasExperiment | DataExperiment, OneOf(None, meant={"atlas": "atlas", "data": "data"}, noun="a recipe with")
]


class HeldOut(Settings):
    """`questions` of the unseen world `seed`, kept in `folder`, that measure a policy during training."""

    folder: Aside[Path]
    seed: int = 90
    questions: int = Field(default=100, gt=0)
    limits: LimitSettings = LimitSettings()
    prompt: str | None = None
    max_new_tokens: int | None = Field(default=None, gt=0)


class FineTuning(SftRecipe):
    """An SFT recipe with what is played every `evaluate_every` steps."""

    evaluate_on: HeldOut | None = None

    @model_validator(mode="after")
    def _is_measured(self) -> Self:
        if self.evaluate_every and self.evaluate_on is None:
            raise ValueError("evaluate_every does nothing without evaluate_on, what is played then. Set both or none")
        if self.evaluate_on is not None and "evaluate_every" not in self.model_fields_set:
            raise ValueError("evaluate_on does nothing without evaluate_every, the steps between. Set both or none")
        return self
