"""A recipe of any kind, checked before it runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
from deepmmsearch.compose.agent_loop_recipe import AgentLoopRecipe
from deepmmsearch.compose.check_parts import Parts, StandIn
from deepmmsearch.compose.check_play import (
    check_build,
    check_evaluation,
    check_harness,
    check_loop,
    check_serve,
    narrowed,
)
from deepmmsearch.compose.check_training import check_grpo, check_pretrain, check_sft
from deepmmsearch.compose.data_build import DataRecipe
from deepmmsearch.compose.estimate import UNKNOWN_PARAMETERS, Tempo, episodes
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.flow import makes
from deepmmsearch.compose.harness_recipe import HarnessRecipe
from deepmmsearch.compose.local_inputs import with_local_inputs
from deepmmsearch.compose.plan import RunPlan
from deepmmsearch.compose.recipe_kinds import KINDS
from deepmmsearch.compose.serving import ServeRecipe
from deepmmsearch.compose.tool_settings import LocalToolSettings, ProviderToolSettings
from deepmmsearch.compose.training_recipes import AtlasExperiment, DataExperiment, FineTuning
from deepmmsearch.policies.agent_card import AgentCard
from deepmmsearch.settings import Recipe, models


def check_recipe(
    recipe: Any,
    *,
    network: bool = False,
    only: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    coming: Collection[Path] = (),
    size: float = UNKNOWN_PARAMETERS,
) -> RunPlan:
    """Everything in it is built but the weights of models. `network`: ask endpoints, search providers and the Hub too.
    `only`, `benchmarks`: as of `play_recipe`. `coming`: what will be there when the recipe runs; `size`: parameters of
    a model that is not here and whose name does not tell.

    Raises UnknownName for one of those that is not in the recipe.
    """
    if isinstance(recipe, EvalRecipe):
        recipe = narrowed(recipe, only, benchmarks)
    recipe = with_local_inputs(recipe)
    plan = RunPlan()
    parts = Parts(plan, network, size=size)
    if isinstance(recipe, Recipe):
        parts.inputs(recipe, coming)
        plan.makes = makes(recipe)
    match recipe:
        case EvalRecipe():
            check_evaluation(recipe, parts)
        case DataRecipe():
            check_build(recipe, parts)
        case FineTuning():
            check_sft(recipe, parts)
        case AtlasExperiment() | DataExperiment():
            check_grpo(recipe, parts)
        case PretrainRecipe():
            check_pretrain(recipe, parts)
        case HarnessRecipe():
            check_harness(recipe, parts)
        case AgentLoopRecipe():
            check_loop(recipe, parts)
        case ServeRecipe():
            check_serve(recipe, parts)
        case LocalToolSettings() | ProviderToolSettings():
            tools = parts.tools(recipe, StandIn("a model", AgentCard()))
            plan.work.append(episodes("a question", 1, Tempo(endpoint="the model's"), tools, plan.assumed))
    command = next((kind.command for kind in KINDS if isinstance(recipe, tuple(models(kind.model)))), "")
    if hasattr(recipe, "output"):
        parts.folder(recipe.output, command, int(plan.room))
    return plan
