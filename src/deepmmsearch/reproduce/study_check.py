"""The training study, checked before hours of it: every job's recipe with its overrides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
from deepmmsearch.compose.check import check_recipe
from deepmmsearch.compose.estimate import BUNDLED_PARAMETERS
from deepmmsearch.compose.plan import RunPlan
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.compose.training_recipes import AnyExperiment, FineTuning
from deepmmsearch.reproduce.study import Study

MODELS = {"pretrain": PretrainRecipe, "sft": FineTuning, "grpo": AnyExperiment}


def check_study(study: Study) -> RunPlan:
    """What one job makes the next one reads, so it is not missing."""
    whole = RunPlan()
    jobs = study.jobs()
    coming = {job.result for job in jobs} | {study.out / job.name for job in jobs}
    for job in jobs:
        verb, *words = job.command
        if verb not in MODELS or job.result.exists():
            continue
        recipe, *overrides = words
        with whole.trying():
            plan = check_recipe(
                load_recipe(Path(recipe), MODELS[verb], overrides), coming=coming, size=BUNDLED_PARAMETERS
            )
            for problem in plan.problems:
                whole.lacks(problem)
            for text in plan.assumed.texts:
                whole.assumed.add(text)
            whole.makes |= plan.makes
            whole.work += [replace(work, name=f"{job.name}: {work.name}") for work in plan.work]
            whole.room += plan.room
    return whole
