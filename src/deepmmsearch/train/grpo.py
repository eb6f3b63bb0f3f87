"""GRPO with live tools (DeepMMSearch-R1, section 3.4; MMSearch-R1, section 3.3), on TRL.

The trainer and its rollouts are in `rollout_trainer`; this puts a run together and saves what was learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback
from trl import GRPOConfig

from deepmmsearch.digests import prompt_content, questions_content
from deepmmsearch.errors import UserError
from deepmmsearch.outputs import Output
from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.policies.local.adapter import save_adapter
from deepmmsearch.policies.local.checkpoint import Checkpoint, load_checkpoint
from deepmmsearch.policies.local.families import refuse_untrainable
from deepmmsearch.policies.local.vision import Eyes
from deepmmsearch.progress import Watch, silent
from deepmmsearch.train.generation import (
    LocalGeneration,
    SamplerSettings,
    Twin,
    policy_of,
    sampler_settings,
)
from deepmmsearch.train.lora import prepare_model
from deepmmsearch.train.merging import save_merged
from deepmmsearch.train.metrics import Evaluate, EvaluateCallback, MetricsJournal, panels
from deepmmsearch.train.output import claim_output, explained
from deepmmsearch.train.parts import PARTS, check_frozen, part_hashes
from deepmmsearch.train.plots import plot_curves
from deepmmsearch.train.recipes import GrpoRecipe, VllmRollouts, VllmServerRollouts
from deepmmsearch.train.rollout_trainer import NumberedQuestions, RolloutSetup, RolloutTrainer
from deepmmsearch.train.rollouts import Player
from deepmmsearch.train.shards import apart, gathered, shard_layers
from deepmmsearch.train.trl_settings import trl_config

COMMAND = "grpo"
FROZEN = ("vision", "projector")
CURVES = {
    "reward": ("reward/mean", "reward/correct", "reward/format"),
    "searches an episode": ("search/each", "search/text", "search/image_crop", "search/image_whole"),
    "KL, entropy": ("kl", "entropy"),
}


# what the rollouts dictate: a recipe that sets one of these is refused
FIXED: dict[str, Any] = {
    "remove_unused_columns": False,
    "mask_truncated_completions": False,
    "log_completions": False,
    "ddp_find_unused_parameters": False,
}
# TRL's own rollouts, which are not played, read these alone; where there is another setting for it, it is named
UNREAD: dict[str, str] = {
    "max_completion_length": "limits.tokens bounds an episode, rollouts.max_new_tokens a turn",
    "max_tool_calling_iterations": "limits.calls bounds the calls of an episode",
    **dict.fromkeys(("top_p", "top_k", "min_p"), "tokens are sampled from the whole distribution, as the loss has it"),
    "repetition_penalty": "tokens are sampled from the whole distribution, as the loss has it",
    **dict.fromkeys(("generation_kwargs", "cache_implementation"), "rollouts has the settings of sampling"),
    "chat_template_kwargs": "episodes are rendered by the checkpoint's template as it is",
    "vllm_structured_outputs_regex": "turns are free text",
    "vllm_tensor_parallel_size": "each process has an engine of its own on its device; a server may take several",
    "trust_remote_code": "code that comes with a model is never run",
    **dict.fromkeys(
        ("use_transformers_paged", "use_transformers_continuous_batching"), "rollouts.backend says who samples"
    ),
}
# settings that one way to vLLM reads, and the other does not
READ_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port"),
        ("vllm-server",),
    ),
    **dict.fromkeys(
        ("vllm_gpu_memory_utilization", "vllm_max_model_length", "vllm_enable_sleep_mode", "vllm_model_impl"),
        ("vllm-colocate",),
    ),
}
# the paper's where TRL's own differ (DeepMMSearch-R1, section 3.4)
DEFAULTS: dict[str, Any] = {
    "loss_type": "grpo",
    "scale_rewards": "none",
    "beta": 0.001,
    "use_bias_correction_kl": False,
    "epsilon": 0.2,
    "num_generations": 8,
    "activation_checkpointing": False,
    "logging_steps": 1,
    "save_steps": 20,
    "save_total_limit": 2,
}


@dataclass(frozen=True)
class GrpoResult:
    """`merged` is the checkpoint folder, `adapter` the LoRA alone; `metrics` the last logged figures."""

    merged: Path
    adapter: Path
    metrics: Mapping[str, Any]


MakePlayer = Callable[[LocalPolicy], Player]
EvaluatePolicy = Callable[[LocalPolicy, int], Mapping[str, float]]


def train(
    recipe: GrpoRecipe,
    questions: NumberedQuestions,
    checkpoint: Checkpoint,
    make_player: MakePlayer,
    evaluate: EvaluatePolicy | None = None,
    report: Watch = silent,
    contents: Mapping[str, Any] | None = None,
) -> GrpoResult:
    """Trains, goes on from the last checkpoint in `recipe.output` where there is one, and writes there recipe.yaml,
    metrics.jsonl, curves.png, samples/, adapter/ and merged/. A finished run is left as it is.

    `make_player` gets the model as it was at the start, greedy: tools that ask a model (grounding) ask that one, so
    that they stay the same while the policy learns. `evaluate` gets the policy of the moment, greedy.
    `contents`: what else can change the result, beside recipe, questions and prompt.

    Raises UserError when there is nothing to train on, an adapter does not fit, or the output belongs to another run.
    """
    output = Output(recipe.output, COMMAND)
    if not len(questions):
        raise UserError("There are no questions to train on. Check the recipe's data.")
    refuse_untrainable(checkpoint.family, recipe.model)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    settings = trl_settings(recipe)
    if not _vllm(recipe):
        # twins share parameters, not buffers, so the move comes before them
        checkpoint.model.to(settings.device)
    beside = apart(checkpoint.model, settings)
    eyes = Eyes(beside, checkpoint.family)
    generation = None if _vllm(recipe) else LocalGeneration(replace(checkpoint, model=beside), sampler_settings(recipe))
    start = Twin(beside)
    model = _prepared(checkpoint, recipe)
    start.sync(model)
    player = make_player(policy_of(start, checkpoint, SamplerSettings(max_new_tokens=recipe.rollouts.max_new_tokens)))
    asked = questions_content(questions[number] for number in range(len(questions)))
    more = {"questions": asked, "texts": prompt_content(player.prompt), **(contents or {})}
    claimed = claim_output(output, recipe, settings, report, **more)
    result = recipe.output / "merged", recipe.output / "adapter"
    if claimed.finished:
        return GrpoResult(*result, claimed.metrics)
    frozen = part_hashes(model, PARTS)
    setup = RolloutSetup(questions, player, generation, checkpoint, checkpoint.renderer(), eyes, frozen)
    journal = MetricsJournal(recipe.output / "metrics.jsonl", report, _describe)
    measure = _measuring(generation, evaluate) if evaluate is not None and recipe.evaluate_every else None
    trainer = make_trainer(recipe, settings, setup, model, checkpoint, [journal])
    if measure is not None:
        trainer.add_callback(EvaluateCallback(measure, recipe.evaluate_every, trainer.callback_handler))
    shard_layers(trainer, checkpoint.model)
    with explained(recipe.output):
        claimed.train(trainer)
        trained = trainer.accelerator.unwrap_model(trainer.model)
        check_frozen(trained, frozen)
        trained = gathered(trainer, trained, lambda: _prepared(open_checkpoint(recipe), recipe))
        if trainer.is_world_process_zero():
            _save(recipe, checkpoint, trained)
            title = f"GRPO {recipe.output.name}"
            plot_curves(journal.rows, recipe.output / "curves.png", title, panels(journal.rows, CURVES))
            output.finish()
    return GrpoResult(*result, journal.rows[-1] if journal.rows else {})


def trl_settings(recipe: GrpoRecipe) -> GRPOConfig:
    """The recipe's `trl` section as TRL's config, with our defaults below it and FIXED above it."""
    backend = recipe.rollouts.backend
    for name in recipe.trl:
        readers = READ_BY.get(name, ("vllm-server", "vllm-colocate"))
        if name.startswith("vllm_") and backend not in readers:
            raise UserError(
                f"trl.{name} belongs to rollouts.backend {' and '.join(readers)}, but it is {backend}. Remove it, or "
                "set rollouts.backend."
            )
    if unread := next((name for name in recipe.trl if name in UNREAD), None):
        raise UserError(f"trl.{unread} changes nothing here: {UNREAD[unread]}. Remove it.")
    sync = recipe.rollouts.sync if isinstance(recipe.rollouts, VllmServerRollouts) else None
    if sync == "folder" and "vllm_group_port" in recipe.trl:
        raise UserError("trl.vllm_group_port changes nothing with rollouts.sync: folder. Remove it.")
    # of TRL's ways to vLLM its connection over NCCL alone is used
    fixed = {**FIXED, "temperature": recipe.rollouts.temperature, "use_vllm": sync == "nccl"}
    if _vllm(recipe):
        # truncated per token, which suits long rollouts; the other ways are not computed here
        fixed |= {
            "vllm_mode": backend.removeprefix("vllm-"),
            "vllm_importance_sampling_mode": "token_truncate",
        }
    return trl_config(GRPOConfig, recipe.trl, defaults=DEFAULTS, fixed=fixed, output=recipe.output, seed=recipe.seed)


def make_trainer(
    recipe: GrpoRecipe,
    settings: GRPOConfig,
    setup: RolloutSetup,
    model: PreTrainedModel | PeftModel,
    checkpoint: Checkpoint,
    callbacks: list[TrainerCallback],
    kind: type[RolloutTrainer] = RolloutTrainer,
) -> RolloutTrainer:
    numbers = list(range(len(setup.questions)))
    trainer = kind(
        model=model,
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": [""] * len(numbers), "row": numbers}),
        processing_class=checkpoint.tokenizer,
        callbacks=callbacks,
        recipe=recipe,
        setup=setup,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def open_checkpoint(recipe: GrpoRecipe) -> Checkpoint:
    """The recipe's model, in its dtype. Raises UserError when it cannot be loaded."""
    return load_checkpoint(recipe.model, getattr(torch, recipe.dtype))


def _vllm(recipe: GrpoRecipe) -> bool:
    return isinstance(recipe.rollouts, VllmRollouts)


def _measuring(generation: LocalGeneration | None, evaluate: EvaluatePolicy) -> Evaluate:
    """`evaluate` for the model in training. Raises UserError where nothing in this process can sample."""
    if generation is None:
        raise UserError(
            "evaluate_every needs a sampler in this process (rollouts.backend local or slots). Set it to 0 and measure "
            "checkpoints with: deepmmsearch eval RECIPE"
        )

    def measure(model: PreTrainedModel | PeftModel, step: int) -> Mapping[str, float]:
        generation.sync(model)
        return evaluate(generation.greedy, step)

    return measure


def _prepared(checkpoint: Checkpoint, recipe: GrpoRecipe) -> PreTrainedModel | PeftModel:
    return prepare_model(checkpoint.model, recipe.lora, FROZEN, recipe.seed, recipe.adapter)


def _save(recipe: GrpoRecipe, checkpoint: Checkpoint, model: PreTrainedModel | PeftModel) -> None:
    if isinstance(model, PeftModel):
        if "ref" in model.peft_config:
            model.delete_adapter("ref")
        save_adapter(model, recipe.output / "adapter")
        model = model.merge_and_unload()
    save_merged(checkpoint, model.to(getattr(torch, recipe.save_dtype)), recipe.output / "merged")


def _describe(row: Mapping[str, Any]) -> str:
    shown = [("reward", "reward/mean"), ("right", "reward/correct"), ("searches", "search/each"), ("kl", "kl")]
    return ", ".join(f"{label} {row[name]:.3f}" for label, name in shown if row.get(name) is not None)
