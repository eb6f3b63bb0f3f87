"""A data build put together: teacher, tools, judge and labels from one recipe."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, model_validator

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.atlas.oracle import OraclePolicy
from deepmmsearch.atlas.play import with_gold_boxes
from deepmmsearch.compose.cassettes import with_own_cassettes
from deepmmsearch.compose.endpoints import chat_model
from deepmmsearch.compose.judges import JudgeSettings, RuleJudgeSettings, build_judge
from deepmmsearch.compose.keys import keys_of
from deepmmsearch.compose.local_inputs import with_local_inputs
from deepmmsearch.compose.policies import (
    LocalPolicySettings,
    OraclePolicySettings,
    PlayerPolicySettings,
    build_policy,
    choose_prompt,
    policy_content,
)
from deepmmsearch.compose.tool_settings import LocalToolSettings, NoToolSettings, ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.data.pipeline import Built, Makers, build, build_part
from deepmmsearch.data.recipe import AtlasSeeds, BuildSettings, KnownTaxonomy, SearchByRollouts, Taxonomy
from deepmmsearch.data.sources import world_folder
from deepmmsearch.data.tasks import Labeler
from deepmmsearch.data.taxonomy import KnownLabels, ModelLabels
from deepmmsearch.digests import contents_of
from deepmmsearch.judge import Judge
from deepmmsearch.outputs import WHOLE, RunPart
from deepmmsearch.progress import Watch, silent
from deepmmsearch.prompts import load_prompt
from deepmmsearch.settings import Settings
from deepmmsearch.types import Policy, Question


class PlayerSettings(Settings):
    """Who plays with which tools. The atlas's oracle cannot see, so it needs `gold_boxes`. Local tools without an index
    search the question's own world. `prompt`: None is the one the policy was made for."""

    policy: PlayerPolicySettings = LocalPolicySettings()
    tools: ToolSettings = LocalToolSettings()
    prompt: str | None = None
    gold_boxes: bool = False


class DataRecipe(BuildSettings):
    """A whole data build. `rollout_policy`: who plays the rollouts of `search.by: rollouts`."""

    teacher: PlayerSettings
    judge: JudgeSettings = RuleJudgeSettings()
    rollout_policy: PlayerSettings | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        atlas = isinstance(self.seeds, AtlasSeeds)
        for name, player in self.players().items():
            oracle = isinstance(player.policy, OraclePolicySettings)
            if oracle and not (atlas or isinstance(player.tools, NoToolSettings) or player.tools.index):
                raise ValueError(
                    f"{name}.policy is the oracle, which plays questions of the atlas. Set seeds.worlds, or another "
                    "policy"
                )
            if player.gold_boxes and not atlas:
                raise ValueError(f"{name}.gold_boxes belongs to seeds from worlds. Remove it")
            if isinstance(player.tools, LocalToolSettings) and not (atlas or player.tools.index):
                raise ValueError(f"{name}.tools is local and has no index. Set {name}.tools.index, or other tools")
        rollouts = isinstance(self.search, SearchByRollouts)
        if rollouts and self.rollout_policy is None:
            raise ValueError(
                "search.by=rollouts needs a policy that plays them. Set rollout_policy, or search.by=trajectory"
            )
        if self.rollout_policy is not None and not rollouts:
            raise ValueError("rollout_policy belongs to search.by rollouts, but it is trajectory. Remove it")
        return self

    def players(self) -> dict[str, PlayerSettings]:
        return {"teacher": self.teacher} | ({"rollout_policy": self.rollout_policy} if self.rollout_policy else {})


def run_build(recipe: DataRecipe, watch: Watch = silent, *, retry_errors: bool = False) -> Built:
    """Everything that can be checked is checked before the first seed is drawn. `retry_errors`: episodes that ended in
    an error are played again."""
    return build(*composed(recipe), watch, retry_errors=retry_errors)


def run_part(
    recipe: DataRecipe,
    part: RunPart,
    watch: Watch = silent,
    *,
    retry_errors: bool = False,
    elsewhere: Collection[str] = (),
    former: Path | None = None,
) -> list[dict[str, Any]]:
    """As `run_build`, but of a part of the shards, into a folder and cassettes of its own; see `build_part`."""
    made = composed(recipe, part)
    return build_part(*made, part, watch, retry_errors=retry_errors, elsewhere=elsewhere, former=former)


def build_of(recipe: DataRecipe, part: RunPart) -> DataRecipe:
    """The recipe with the folder and the cassettes of a part."""
    return with_own_cassettes(recipe, part).model_copy(update={"output": part.folder(recipe.output)})


def composed(whole: DataRecipe, part: RunPart = WHOLE) -> tuple[BuildSettings, Makers]:
    """What a build is made of. Raises UserError where the judge cannot be made."""
    whole = with_local_inputs(whole)
    recipe = build_of(whole, part)
    own_world = isinstance(recipe.seeds, AtlasSeeds)
    judges = Judges(recipe.judge)
    judges()
    settings = {"teacher": _plain(recipe.teacher), "judge": _plain(recipe.judge), "labels": {}}
    rollouts = None
    if recipe.rollout_policy is not None:
        settings["rollouts"] = _plain(recipe.rollout_policy)
        rollouts = Players(recipe.rollout_policy, recipe.output, own_world)
    teacher = Players(recipe.teacher, recipe.output, own_world)
    keys = tuple(sorted(set(keys_of(recipe))))
    # of the whole: that a part has cassettes of its own does not make it another build
    made_with = {name: _made_with(player) for name, player in whole.players().items()}
    made_with |= {"judge": contents_of(whole.judge), "labels": {}, "rollouts": made_with.pop("rollout_policy", {})}
    makers = Makers(teacher, judges, Labelers(recipe.taxonomy), settings, made_with, rollouts, keys)
    return BuildSettings.model_validate(_base(recipe)), makers


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
        chosen = self.settings.policy
        return OraclePolicy() if isinstance(chosen, OraclePolicySettings) else build_policy(chosen)

    @cached_property
    def _tools(self) -> Toolbox:
        return build_toolbox(self.settings.tools, self._policy)

    def __call__(self, shard: str, /) -> AgentWorkflow:
        settings, policy = self.settings, self._policy
        if self.own_world and isinstance(settings.tools, LocalToolSettings) and settings.tools.index is None:
            index = world_folder(self.output, shard) / "index"
            tools = build_toolbox(settings.tools.model_copy(update={"index": index}), policy)
        else:
            tools = self._tools
        if isinstance(policy, OraclePolicy):
            prompt = load_prompt(settings.prompt or ("atlas-direct" if settings.tools.kind == "none" else "atlas"))
        else:
            prompt = choose_prompt(policy, tools, settings.prompt)
        label = str(getattr(policy, "name", settings.policy.kind))
        return AgentWorkflow(policy, prompt, _tools_for(tools, settings.gold_boxes), label=label)


@dataclass(frozen=True)
class Judges:
    settings: JudgeSettings

    def __call__(self) -> Judge:
        return build_judge(self.settings)


@dataclass(frozen=True)
class Labelers:
    settings: Taxonomy

    def __call__(self) -> Labeler:
        settings = self.settings
        if isinstance(settings, KnownTaxonomy):
            return KnownLabels(settings.field, settings.mapping)
        return ModelLabels(chat_model(settings), settings.categories, settings.prompt)


def _tools_for(tools: Toolbox, gold_boxes: bool) -> Callable[[Question], Toolbox]:
    if not gold_boxes:
        return lambda question: tools
    if tools.grounder is not None:
        tools = replace(tools, grounder=None)
    return with_gold_boxes(tools)


def _made_with(player: PlayerSettings) -> dict[str, Any]:
    return contents_of(player) | {"policy": policy_content(player.policy)}


def _plain(settings: BaseModel) -> dict[str, Any]:
    return settings.model_dump(mode="json")


def _base(recipe: DataRecipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in BuildSettings.model_fields}
