"""Recipes of training, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deepmmsearch.bundled.pretrain_recipe import LessonStageSettings, PretrainRecipe, StageSettings
from deepmmsearch.compose.check_parts import Parts, StandIn
from deepmmsearch.compose.estimate import (
    SMALL,
    SMALL_SHARE,
    UNKNOWN_QUESTIONS,
    WORLD_QUESTION,
    Tempo,
    Work,
    episodes,
    judged,
    length,
    parameters_of,
    training,
)
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.training_recipes import AtlasExperiment, DataExperiment, FineTuning
from deepmmsearch.errors import UserError
from deepmmsearch.policies.agent_card import AgentCard
from deepmmsearch.rewards import REWARDS
from deepmmsearch.train.recipes import GrpoRecipe, RolloutSettings, SftRecipe

# seconds of a core, as measured when the bundled model was made: a lesson, one that is a picture alone
LESSON, PICTURE_LESSON = 0.1, 0.025
# tokens of a trajectory, in files of which only the rows are counted
TRAJECTORY = 3500
# bytes: what a training keeps of a model, besides the model itself
COPIES, PRETRAINED = 3, 5e8


def check_sft(recipe: FineTuning, parts: Parts) -> None:
    plan = parts.plan
    settings = _start(recipe, parts, None, None)
    if recipe.evaluate_on is not None and recipe.evaluate_every:
        parts.engine()
    rows = tokens = 0.0
    coming = [folder for folder in recipe.data if folder in parts.gone]
    for folder in recipe.data:
        if folder in coming:
            continue
        with plan.trying():
            count, each = _trajectories(folder)
            rows, tokens = rows + count, tokens + count * each
    if recipe.sample is not None and rows:
        rows, tokens = min(rows, recipe.sample), tokens * min(1, recipe.sample / rows)
    if settings is None:
        return
    parameters = parts.parameters(recipe.model)
    batch = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * settings.world_size
    if not rows and coming and settings.max_steps > 0:
        rows, each = settings.max_steps * batch, TRAJECTORY * (SMALL_SHARE if 0 < parameters < SMALL else 1)
        tokens = rows * each
        plan.assumed.add(f"A trajectory that is not there yet has {each:,.0f} tokens.")
    elif coming:
        plan.assumed.add("What is not there yet is not counted.")
    if not rows:
        return
    epochs = settings.max_steps * batch / rows if settings.max_steps > 0 else settings.num_train_epochs
    plan.assumed.add("A token of a stored trajectory is four characters.")
    work = training("training", rows * epochs, tokens * epochs, parameters, 4, plan.assumed, recipe.threads)
    plan.work.append(work)


def check_grpo(recipe: AtlasExperiment | DataExperiment, parts: Parts) -> None:
    plan = parts.plan
    settings = _start(recipe, parts, recipe.adapter, recipe.rollouts)
    parts.judge(recipe.judge)
    with plan.trying():
        REWARDS.find(recipe.reward.kind, code=True)
    tools: ToolSettings | None = None
    if isinstance(recipe, AtlasExperiment):
        parts.engine()
        questions: float = recipe.atlas.worlds * recipe.atlas.questions
        plan.room += questions * WORLD_QUESTION
    else:
        tools = parts.tools(recipe.tools, StandIn(recipe.model, AgentCard()))
        questions = _questions(recipe.data, parts)
    if settings is None:
        return
    batch = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * settings.world_size
    rollouts = settings.num_train_epochs * questions * settings.num_generations
    if settings.max_steps > 0:
        rollouts = settings.max_steps * batch / settings.num_iterations
    parameters, concurrency = parts.parameters(recipe.model), recipe.rollouts.concurrency
    vllm = recipe.rollouts.backend.startswith("vllm")
    tempo = Tempo(endpoint="vLLM") if vllm else Tempo(parameters=parameters)
    played = episodes("rollouts", rollouts, tempo, tools, plan.assumed, limits=recipe.limits, concurrency=concurrency)
    tokens = rollouts * length(played)
    plan.work += [played, training("updates", rollouts, tokens, parameters, 6, plan.assumed)]
    if (work := judged("judge", rollouts, recipe.judge, concurrency)) is not None:
        plan.work.append(work)


def check_pretrain(recipe: PretrainRecipe, parts: Parts) -> None:
    plan = parts.plan
    plan.has("Training", "train")
    for name, stage in recipe.__dict__.items():
        if isinstance(stage, StageSettings):
            each = LESSON if isinstance(stage, LessonStageSettings) else PICTURE_LESSON
            lessons = stage.steps * stage.batch
            plan.work.append(Work(name, lessons * stage.workers, seconds=lessons * each))
    plan.assumed.add(f"A lesson takes {LESSON:g} s of a core, {PICTURE_LESSON:g} s where it is a picture alone.")
    plan.room += PRETRAINED


def _start(recipe: SftRecipe | GrpoRecipe, parts: Parts, adapter: Path | None, rollouts: RolloutSettings | None) -> Any:
    """What training starts from, and TRL's settings; None where they cannot be made."""
    # a guess at the size of a model nobody knows refuses nothing
    parts.plan.room += COPIES * 2 * (parameters_of(recipe.model) or 0)
    if not parts.plan.has("Training", "train"):
        return None
    parts.adapter(adapter)
    parts.checkpoint(recipe.model)
    if Path(recipe.model).is_dir():
        with parts.plan.trying():
            from deepmmsearch.train.start import check_start

            check_start(recipe.model, None, rollouts)
    from deepmmsearch.train import grpo, sft

    make: Callable[[Any], Any] = grpo.trl_settings if isinstance(recipe, GrpoRecipe) else sft.trl_settings
    try:
        return make(recipe)
    except UserError as error:
        here = recipe.model_copy(update={"trl": {**recipe.trl, "use_cpu": True, "bf16": False, "fp16": False}})
        with parts.plan.trying():
            settings = make(here)
            # so it is the machine that does not fit
            reason = " ".join(str(error).split()).rpartition("recipe: ")[2]
            parts.plan.lacks(f"The trl section asks for what this machine does not have: {reason}")
            return settings
    return None


def _trajectories(place: Path) -> tuple[int, float]:
    """How many there are, and about how many tokens each has. Raises UserError where there are none."""
    from deepmmsearch.data.reader import holds_trajectories, parquet_files
    from deepmmsearch.store import FILE

    if not holds_trajectories(place):
        raise UserError(f"There are no trajectories in {place}. Give the folder of a store or of a data set.")
    if (place / FILE).is_file():
        count = _lines(place / FILE)
        return count, (place / FILE).stat().st_size / 4 / max(1, count)
    files = parquet_files(place)
    return (_parquet_rows(files), TRAJECTORY) if files else (_lines(place), TRAJECTORY)


def _questions(places: Sequence[Path], parts: Parts) -> float:
    """About how many, without reading them."""
    from deepmmsearch.data.reader import parquet_files

    count = 0.0
    for place in places:
        if place in parts.gone:
            count += UNKNOWN_QUESTIONS
            parts.plan.assumed.add(f"{place}, which is not there yet, holds {UNKNOWN_QUESTIONS:,} questions.")
        elif files := parquet_files(place):
            count += _parquet_rows(files)
        else:
            count += sum(map(_lines, [place] if place.is_file() else place.glob("*.jsonl")))
    return count


def _parquet_rows(files: Sequence[Path]) -> int:
    from deepmmsearch.data.tables import pyarrow_parquet

    return sum(pyarrow_parquet().ParquetFile(file).metadata.num_rows for file in files)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())
