"""What a recipe for somebody else's harness may say: our agent as a model of lmms-eval."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from deepmmsearch.compose.policies import LocalPolicySettings, ModelSettings
from deepmmsearch.compose.tool_settings import NoToolSettings, ToolSettings
from deepmmsearch.settings import LimitSettings, Recipe


class HarnessRecipe(Recipe):
    """Who answers, with what. `trajectories`: a folder to keep the episodes in, None keeps none. `timeout`: seconds for
    one question. `stop_after_errors`: so many failed questions in a row end the run (null: never), since an endpoint
    that is down would only give empty answers."""

    policy: ModelSettings = LocalPolicySettings()
    tools: ToolSettings = NoToolSettings()
    prompt: str | None = None
    limits: LimitSettings = LimitSettings()
    concurrency: int = Field(default=16, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    stop_after_errors: int | None = Field(default=8, ge=1)
    trajectories: Path | None = None
