"""Judges put together: a rule, or a language model whose verdicts may be recorded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from deepmmsearch.compose.endpoints import chat_model
from deepmmsearch.compose.tool_settings import LiveSettings, RecorderSettings
from deepmmsearch.compose.toolbox import build_recorder
from deepmmsearch.errors import UserError
from deepmmsearch.judge import JUDGES, Judge, RuleJudge
from deepmmsearch.settings import Aside, EndpointSettings, OneOf, Settings


class RuleJudgeSettings(Settings):
    """`rule`: a judge of the entry-point group `deepmmsearch.judges`, or `module:function`."""

    kind: Literal["rule"] = "rule"
    rule: str = "reward"

    @field_validator("rule")
    @classmethod
    def _is_known(cls, rule: str) -> str:
        try:
            JUDGES.find(rule, code=True)
        except UserError as error:
            raise ValueError(str(error)) from None
        return rule


class LlmJudgeSettings(EndpointSettings):
    """A language model behind an endpoint, with the rules of DeepMMSearch-R1's tables (`prompt: evaluation`) or of its
    reinforcement learning (reward). What it said is kept where `recorder` says."""

    kind: Literal["llm"] = "llm"
    prompt: Literal["evaluation", "reward"] = "evaluation"
    max_new_tokens: int = Field(default=512, gt=0)
    recorder: Aside[RecorderSettings] = LiveSettings()


JudgeSettings = Annotated[RuleJudgeSettings | LlmJudgeSettings, OneOf(default="rule")]


def build_judge(settings: JudgeSettings) -> Judge:
    """Raises UserError, MissingExtra for an endpoint that cannot be asked."""
    if isinstance(settings, RuleJudgeSettings):
        return RuleJudge(settings.rule)
    from deepmmsearch.judge.llm import LlmJudge

    model = chat_model(settings)
    recorder = build_recorder(settings.recorder)
    if recorder is None:
        return LlmJudge(model, settings.prompt)
    from deepmmsearch.tools.recorded import RecordedModel

    # what it was asked before is not asked and paid for again
    known = {"model": model.model, "base_url": model.base_url}
    return LlmJudge(RecordedModel(model, recorder, "judge", known), settings.prompt)
