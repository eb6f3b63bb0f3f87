"""What a recipe for verl may say: how its agent loop plays a question. verl's own configuration says how it trains."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from deepmmsearch.compose.judges import JudgeSettings, RuleJudgeSettings
from deepmmsearch.compose.tool_settings import NoToolSettings, ProviderToolSettings, ToolSettings
from deepmmsearch.rewards import RewardSettings
from deepmmsearch.settings import LimitSettings, Recipe, Settings


class LoopSettings(Settings):
    """`max_new_tokens`: of one turn. `tool_timeout`: seconds of one tool use. `failed`, `truncated`: are episodes that
    a tool failed, or that were cut off, left out of the loss (mask) or kept? `max_pixels`: area of a picture as the
    model sees it, None is what the checkpoint says. `parts`: of the reward, which verl logs; one that an episode does
    not have is 0."""

    max_new_tokens: int = Field(default=1024, gt=0)
    tool_timeout: float = Field(default=120.0, gt=0)
    failed: Literal["mask", "keep"] = "mask"
    truncated: Literal["mask", "keep"] = "mask"
    max_pixels: int | None = Field(default=None, gt=0)
    parts: tuple[str, ...] = ("format", "penalty")


class AgentLoopRecipe(Recipe):
    """Each question with the tools, the judge and the reward of this one file; every process of verl opens it anew."""

    episodes: LoopSettings
    prompt: str | None = None
    limits: LimitSettings = LimitSettings()
    tools: ToolSettings
    judge: JudgeSettings = RuleJudgeSettings(rule="reward")
    reward: RewardSettings = Field(default_factory=RewardSettings)

    @model_validator(mode="after")
    def _asks_no_model_of_its_own(self) -> Self:
        tools = self.tools
        if isinstance(tools, NoToolSettings):
            return self
        pictures = not isinstance(tools, ProviderToolSettings) or bool(tools.image)
        for name, asked in (("grounding", pictures), ("summarizer", True)):
            if asked and getattr(tools, name).kind == "own":
                raise ValueError(
                    f"tools.{name} is own, the policy as it was at the start, and verl keeps no such model. Set "
                    "another kind, such as chat or none"
                )
        return self
