"""A data build put together: teacher, tools, judge and labels from one recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.protocols import LanguageModel
from deepmmsearch.atlas.oracle import OraclePolicy
from deepmmsearch.atlas.play import with_gold_boxes
from deepmmsearch.compose.keys import HUB, tool_keys
from deepmmsearch.compose.policies import PolicySettings, build_policy, choose_prompt
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.data.pipeline import Built, Makers, Watch, build
from deepmmsearch.data.recipe import BuildSettings, Taxonomy
from deepmmsearch.data.sources import world_folder
from deepmmsearch.data.tasks import Labeler, Player
from deepmmsearch.data.taxonomy import KnownLabels, ModelLabels
from deepmmsearch.errors import UserError
from deepmmsearch.judge import Judge, RuleJudge
from deepmmsearch.judge.llm import LlmJudge
from deepmmsearch.prompts import load_prompt
from deepmmsearch.types import Policy, Question

ORACLE = "oracle"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PlayerSettings(_Settings):
    """Who plays with which tools. `policy.kind: oracle` is the atlas's perfect player, which needs `gold_boxes` for it
    cannot see. Tools of kind local without an index search the question's own world. `prompt`: None is the one the
    policy was made for."""

    policy: PolicySettings = PolicySettings()
    tools: ToolSettings = Field(default_factory=ToolSettings)
    prompt: str | None = None
    gold_boxes: bool = False


class JudgeSettings(_Settings):
    """A rule (`deepmmsearch judge rules`), or a language model with the rules of `evaluation` or `reward`."""

    kind: Literal["rule", "model"] = "rule"
    rule: str = "reward"
    policy: PolicySettings | None = None
    rules: Literal["evaluation", "reward"] = "reward"


class DataRecipe(BuildSettings):
    """A whole data build. `labeler`: the model of `taxonomy.by: model`. `rollout_policy`: who plays the rollouts of
    `search.by: rollouts`."""

    teacher: PlayerSettings
    judge: JudgeSettings = JudgeSettings()
    labeler: PolicySettings | None = None
    rollout_policy: PlayerSettings | None = None


def run_build(recipe: DataRecipe, watch: Watch = lambda step: None) -> Built:
    """Everything that can be checked is checked before the first seed is drawn."""
    own_world = bool(recipe.seeds.worlds)
    for player in (recipe.teacher, *((recipe.rollout_policy,) if recipe.rollout_policy else ())):
        if player.policy.kind == ORACLE and not (own_world or player.tools.index or player.tools.kind == "none"):
            raise UserError("The oracle plays questions of the atlas. Set seeds.worlds, or teacher.policy.kind=chat.")
    if recipe.search.by == "rollouts" and recipe.rollout_policy is None:
        raise UserError(
            "search.by=rollouts needs a policy that plays them. Set rollout_policy, or search.by=trajectory."
        )
    judges = Judges(recipe.judge)
    judges()
    labelers = Labelers(recipe.taxonomy, recipe.labeler)
    if recipe.taxonomy.by == "model" and recipe.labeler is None:
        raise UserError(
            "taxonomy.by=model needs a model. Set labeler.base_url and labeler.model, or taxonomy.by=known."
        )
    settings: dict[str, dict[str, Any]] = {
        "teacher": _plain(recipe.teacher),
        "judge": _plain(recipe.judge),
        "labels": _plain(recipe.labeler) if recipe.labeler else {},
    }
    rollouts = None
    if recipe.rollout_policy is not None:
        settings["rollouts"] = _plain(recipe.rollout_policy)
        rollouts = Players(recipe.rollout_policy, recipe.output, own_world)
    teacher = Players(recipe.teacher, recipe.output, own_world)
    makers = Makers(teacher, judges, labelers, settings, rollouts, tuple(sorted(set(_keys(recipe)))))
    return build(BuildSettings.model_validate(_base(recipe)), makers, watch)


@dataclass(frozen=True)
class Players:
    """Makes a shard's player; sent to worker processes, where all shards share the policy, and the tools unless each
    has a world of its own."""

    settings: PlayerSettings
    output: Path
    own_world: bool

    def __reduce__(self) -> tuple[type[Players], tuple[PlayerSettings, Path, bool]]:
        return Players, (self.settings, self.output, self.own_world)

    @cached_property
    def _policy(self) -> Policy:
        return OraclePolicy() if self.settings.policy.kind == ORACLE else build_policy(self.settings.policy)

    @cached_property
    def _tools(self) -> Toolbox:
        return build_toolbox(self.settings.tools, self._policy)

    def __call__(self, shard: str, /) -> Player:
        settings, policy = self.settings, self._policy
        if self.own_world and settings.tools.kind == "local" and settings.tools.index is None:
            index = world_folder(self.output, shard) / "index"
            tools = build_toolbox(settings.tools.model_copy(update={"index": index}), policy)
        else:
            tools = self._tools
        if isinstance(policy, OraclePolicy):
            prompt = load_prompt(settings.prompt or ("atlas-direct" if settings.tools.kind == "none" else "atlas"))
        else:
            prompt = choose_prompt(policy, tools, settings.prompt)
        label = str(getattr(policy, "name", settings.policy.model or settings.policy.kind))
        return Player(policy, _tools_for(tools, settings.gold_boxes), prompt, label)


@dataclass(frozen=True)
class Judges:
    settings: JudgeSettings

    def __call__(self) -> Judge:
        if self.settings.kind == "rule":
            return RuleJudge(self.settings.rule)
        if self.settings.policy is None:
            raise UserError("A judge of kind model needs a model. Set judge.policy.base_url and judge.policy.model.")
        return LlmJudge(_language_model(self.settings.policy), self.settings.rules)


@dataclass(frozen=True)
class Labelers:
    settings: Taxonomy
    policy: PolicySettings | None

    def __call__(self) -> Labeler:
        settings = self.settings
        if settings.by == "known" or self.policy is None:
            return KnownLabels(settings.field, settings.mapping)
        return ModelLabels(_language_model(self.policy), settings.categories, settings.prompt)


def _keys(recipe: DataRecipe) -> Iterator[str]:
    """What the processes of this build are handed of the environment's keys."""
    players = [p for p in (recipe.teacher, recipe.rollout_policy) if p is not None]
    for player in players:
        yield from tool_keys(player.tools)
    for policy in (*(p.policy for p in players), recipe.judge.policy, recipe.labeler):
        if policy is None or policy.kind == ORACLE:
            continue
        if policy.kind == "chat" or policy.base_url:
            yield policy.key_variable
        elif policy.model is not None and not Path(policy.model).exists():
            yield HUB
    if recipe.seeds.benchmark is not None and not Path(recipe.seeds.benchmark).exists():
        yield HUB


def _language_model(settings: PolicySettings) -> LanguageModel:
    """The model behind a policy. Raises UserError for one that only plays."""
    chat = settings.model_copy(update={"kind": "chat"}) if settings.base_url else settings
    policy = build_policy(chat)
    if not hasattr(policy, "complete"):
        raise UserError(
            f"A policy of kind {settings.kind!r} answers no questions of ours. Give the base_url of a model."
        )
    model: LanguageModel = policy  # type: ignore[assignment]
    return model


def _tools_for(tools: Toolbox, gold_boxes: bool) -> Callable[[Question], Toolbox]:
    if not gold_boxes:
        return lambda question: tools
    if tools.grounder is not None:
        tools = replace(tools, grounder=None)
    return with_gold_boxes(tools)


def _plain(settings: BaseModel) -> dict[str, Any]:
    return settings.model_dump(mode="json")


def _base(recipe: DataRecipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in BuildSettings.model_fields}
