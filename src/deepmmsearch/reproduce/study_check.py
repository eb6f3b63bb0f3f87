"""A study, checked before hours of it: every job's recipe with its overrides, and what is played afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
from deepmmsearch.compose.check import check_recipe
from deepmmsearch.compose.estimate import BUNDLED_PARAMETERS, Work
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.plan import RunPlan
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.compose.training_recipes import AnyExperiment, FineTuning
from deepmmsearch.reproduce.study import Jobs
from deepmmsearch.reproduce.tool_study import ToolTraining

# seconds of a core, as measured: a question that the oracle plays for others to learn from, a picture of the sign stage
TAUGHT, SIGN_PICTURE = 0.1, 0.033
# of each world, where a job names no number: the default of `atlas teach`
TAUGHT_QUESTIONS = 400
# what that stage takes: `bundled.sign_stage.SIGNS`, which comes with torch
SIGN_PICTURES = 6_400
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
            if job.command[:2] == ("atlas", "teach"):
                given = dict(zip(words[1::2], words[2::2], strict=False))
                count = int(given["--worlds"]) * int(given.get("--questions", TAUGHT_QUESTIONS))
                whole.work.append(Work(job.name, count, seconds=count * TAUGHT))
                whole.assumed.add(f"The oracle plays a question that teaches in {TAUGHT:g} s.")
            continue
        recipe, *overrides = words
        with whole.trying():
            plan = check_recipe(
                load_recipe(Path(recipe), MODELS[verb], overrides), coming=coming, size=BUNDLED_PARAMETERS
            )
            _join(whole, plan, job.name)
    return whole


def check_tool_training(training: ToolTraining) -> RunPlan:
    """With what is made before the first job."""
    plan = check_study(training, [training.words, training.start])
    if not training.start.exists():
        whole = RunPlan(work=[Work("signs", SIGN_PICTURES, seconds=SIGN_PICTURES * SIGN_PICTURE)])
        whole.assumed.add(f"A picture of a sign is learnt in {SIGN_PICTURE:g} s.")
        if not training.words.exists():
            whole.makes[training.words] = "the bundled model with more words"
        whole.makes[training.start] = "the same with a tower that sees signs"
        _join(whole, plan)
        return whole
    return plan


def check_played(whole: RunPlan, parts: Iterable[EvalRecipe]) -> RunPlan:
    """`whole` with what these take."""
    for part in parts:
        with whole.trying():
            _join(whole, check_recipe(part), part.output.name)
    return whole


def _join(whole: RunPlan, plan: RunPlan, name: str = "") -> None:
    for problem in plan.problems:
        whole.lacks(problem)
    for text in plan.assumed.texts:
        whole.assumed.add(text)
    whole.makes |= plan.makes
    whole.work += [replace(work, name=f"{name}: {work.name}" if name else work.name) for work in plan.work]
    whole.room += plan.room
