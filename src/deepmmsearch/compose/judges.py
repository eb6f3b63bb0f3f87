"""Judges put together: a rule, or a language model whose verdicts may be recorded."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from deepmmsearch.agent.protocols import LanguageModel
from deepmmsearch.compose.endpoints import chat_model
from deepmmsearch.compose.tool_settings import LiveSettings, RecorderSettings
from deepmmsearch.compose.toolbox import build_recorder
from deepmmsearch.errors import UserError
from deepmmsearch.judge import JUDGES, Judge, RuleJudge
from deepmmsearch.prompts import OFFICIAL_PROMPTS, judge_prompt, official_prompt
from deepmmsearch.settings import Aside, EndpointSettings, OneOf, Settings

OFFICIAL = "official"


class RuleJudgeSettings(Settings):
    """`rule`: a judge of the entry-point group `deepmmsearch.judges`, or `module:function`. `bem`: with official, the
    model that compares answers of Encyclopedic-VQA, a folder or a name on the Hub; None asks none."""

    kind: Literal["rule"] = "rule"
    rule: str = "reward"
    bem: str | None = None

    @field_validator("rule")
    @classmethod
    def _is_known(cls, rule: str) -> str:
        try:
            JUDGES.find(rule, code=True)
        except UserError as error:
            raise ValueError(str(error)) from None
        return rule

    @model_validator(mode="after")
    def _asks_bem(self) -> Self:
        if self.bem is not None and self.rule != OFFICIAL:
            raise ValueError(f"bem belongs to the rule official, and this is {self.rule}. Remove it")
        return self


class LlmJudgeSettings(EndpointSettings):
    """A language model behind an endpoint, with the rules of DeepMMSearch-R1's tables (`prompt: evaluation`), of its
    reinforcement learning (reward), or each benchmark's own scoring (official), which asks it where its authors ask a
    model. What it said is kept where `recorder` says. `bem` as for rules."""

    kind: Literal["llm"] = "llm"
    prompt: Literal["evaluation", "reward", "official"] = "evaluation"
    max_new_tokens: int = Field(default=512, gt=0)
    bem: str | None = None
    recorder: Aside[RecorderSettings] = LiveSettings()

    @model_validator(mode="after")
    def _asks_bem(self) -> Self:
        if self.bem is not None and self.prompt != OFFICIAL:
            raise ValueError(f"bem belongs to the prompt official, and this is {self.prompt}. Remove it")
        return self


JudgeSettings = Annotated[RuleJudgeSettings | LlmJudgeSettings, OneOf(default="rule")]


def build_judge(settings: JudgeSettings) -> Judge:
    """Raises UserError, MissingExtra for an endpoint that cannot be asked."""
    if isinstance(settings, RuleJudgeSettings):
        return RuleJudge(settings.rule) if settings.bem is None else _official(None, settings.bem)
    from deepmmsearch.judge.llm import LlmJudge

    chat = chat_model(settings)
    model: LanguageModel = chat
    if (recorder := build_recorder(settings.recorder)) is not None:
        from deepmmsearch.tools.recorded import RecordedModel

        # what it was asked before is not asked and paid for again
        model = RecordedModel(chat, recorder, "judge", {"model": chat.model, "base_url": chat.base_url})
    return _official(model, settings.bem) if settings.prompt == OFFICIAL else LlmJudge(model, settings.prompt)


def _official(model: LanguageModel | None, bem: str | None) -> Judge:
    from deepmmsearch.judge.bem import Bem
    from deepmmsearch.judge.officially import OfficialJudge

    return OfficialJudge(model, Bem(bem) if bem else None)


def judge_texts(settings: JudgeSettings) -> list[str]:
    """The prompts that a judge is asked with."""
    if isinstance(settings, RuleJudgeSettings):
        return []
    if settings.prompt == OFFICIAL:
        return [judge_prompt("mm-vet"), *map(official_prompt, OFFICIAL_PROMPTS)]
    return [judge_prompt(settings.prompt)]
