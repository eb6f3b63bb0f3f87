"""A study, checked before hours of it: every job's recipe with its overrides, and what is played afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
from deepmmsearch.compose.check import check_recipe
from deepmmsearch.compose.estimate import BUNDLED_PARAMETERS
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.plan import RunPlan
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.compose.training_recipes import AnyExperiment, FineTuning
from deepmmsearch.reproduce.study import Jobs

MODELS = {"pretrain": PretrainRecipe, "sft": FineTuning, "grpo": AnyExperiment}


def check_study(study: Jobs, made_first: Iterable[Path] = ()) -> RunPlan:
    """What one job makes the next one reads, so it is not missing; no more is what is `made_first`."""
    whole = RunPlan()
    jobs = study.jobs()
    coming = {job.result for job in jobs} | {study.out / job.name for job in jobs} | set(made_first)
    for job in jobs:
        verb, *words = job.command
        if job.result.exists():
            continue
        if verb not in MODELS:
            whole.makes[job.result.parent] = f"what the job {job.name} makes"
            continue
        recipe, *overrides = words
        with whole.trying():
            plan = check_recipe(
                load_recipe(Path(recipe), MODELS[verb], overrides), coming=coming, size=BUNDLED_PARAMETERS
            )
            _join(whole, plan, job.name)
    return whole


def check_played(whole: RunPlan, parts: Iterable[EvalRecipe]) -> RunPlan:
    """`whole` with what these take."""
    for part in parts:
        with whole.trying():
            _join(whole, check_recipe(part), part.output.name)
    return whole


def _join(whole: RunPlan, plan: RunPlan, name: str) -> None:
    for problem in plan.problems:
        whole.lacks(problem)
    for text in plan.assumed.texts:
        whole.assumed.add(text)
    whole.makes |= plan.makes
    whole.work += [replace(work, name=f"{name}: {work.name}") for work in plan.work]
    whole.room += plan.room
