"""Supervised fine-tuning on trajectories (DeepMMSearch-R1, section 3.3): LoRA on the language model's linear layers,
vision tower and projector frozen, loss only on what the policy wrote.

TRL's `SFTTrainer` trains; its preparation of data is bypassed, because labels come from the renderer's mask.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
import yaml
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, Field, model_validator
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.store import FILE, TrajectoryStore
from deepmmsearch.train.checkpoint import Checkpoint, load_checkpoint, parameter_hash, part_of, save_merged
from deepmmsearch.train.collate import Collator, Example, LengthGrouped, Pictures, encode_pictures, make_examples
from deepmmsearch.train.plots import LOSS_AND_ACCURACY, plot_curves, read_metrics
from deepmmsearch.types import Trajectory

LANGUAGE_LINEAR = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
Evaluate = Callable[[PreTrainedModel | PeftModel, int], Mapping[str, float]]
"""Measures the model at an optimizer step; it may generate. The figures join the metrics under `eval/`."""


class Lora(BaseModel):
    """`alpha` / `r` scales the update; `targets` is a regular expression over module names."""

    model_config = ConfigDict(extra="forbid")

    r: int = Field(default=8, gt=0)
    alpha: int = Field(default=16, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str = LANGUAGE_LINEAR


class SftRecipe(BaseModel):
    """One experiment. `trl` goes to TRL's SFTConfig as it is, except for what this file decides (see FIXED)."""

    model_config = ConfigDict(extra="forbid")

    model: str
    data: list[Path] = Field(min_length=1)
    output: Path
    lora: Lora | None = Field(default_factory=Lora)
    freeze: list[Literal["vision", "projector"]] = ["vision", "projector"]
    seed: int = 0
    threads: int | None = Field(default=None, gt=0)
    max_tokens: int = Field(default=8192, gt=0)
    dtype: Literal["float32", "bfloat16"] = "float32"
    save_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    cache_features: bool = False
    evaluate_every: int = Field(default=0, ge=0)
    trl: dict[str, Any] = {}

    @model_validator(mode="after")
    def _frozen_parts_fit(self) -> Self:
        if set(self.freeze) != {"vision", "projector"}:
            if self.lora is not None:
                raise ValueError("LoRA trains the language model alone: freeze vision and projector, or set lora: null")
            if self.cache_features:
                raise ValueError("cache_features keeps what vision and projector give: freeze both, or turn it off")
        return self


# what the data and the output folder dictate: a recipe that sets one of these is refused
FIXED: dict[str, Any] = {
    "remove_unused_columns": False,
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "packing": False,
    "padding_free": False,
    "max_length": None,
}
DEFAULTS: dict[str, Any] = {
    "report_to": "none",
    "disable_tqdm": True,
    "train_sampling_strategy": "group_by_length",
    "logging_steps": 10,
    "save_steps": 200,
    "save_total_limit": 1,
}


class TrajectoryTrainer(SFTTrainer):
    """TRL's trainer with an order of batches that survives an interruption, and without its usage statistics: nothing
    leaves this machine."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGrouped(list(data["length"]), batch, self.args.seed, lambda: int(self.state.epoch or 0))

    def _send_telemetry(self) -> None:
        return None


@dataclasses.dataclass(frozen=True)
class SftResult:
    """`merged` is the checkpoint folder; `metrics` the last logged figures."""

    merged: Path
    examples: int
    left_out: int
    metrics: Mapping[str, Any]


def train(recipe: SftRecipe, evaluate: Evaluate | None = None, report: Callable[[str], None] = print) -> SftResult:
    """`fine_tune` with the recipe's own checkpoint and trajectory folders."""
    missing = [str(folder) for folder in recipe.data if not (folder / FILE).is_file()]
    if missing:
        raise UserError(f"There are no trajectories in {', '.join(missing)}: {FILE} is missing. Give other data.")
    trajectories = (trajectory for folder in recipe.data for trajectory in TrajectoryStore(folder))
    checkpoint = load_checkpoint(recipe.model, getattr(torch, recipe.dtype))
    return fine_tune(recipe, trajectories, checkpoint, evaluate, report)


def fine_tune(
    recipe: SftRecipe,
    trajectories: Iterable[Trajectory],
    checkpoint: Checkpoint,
    evaluate: Evaluate | None = None,
    report: Callable[[str], None] = print,
) -> SftResult:
    """Trains, goes on from the last checkpoint in `recipe.output` where there is one, and writes there
    recipe.yaml, run.json, metrics.jsonl, curves.png and merged/.

    Raises UserError when the output folder belongs to another recipe or other data.
    """
    settings = trl_settings(recipe)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    pictures = Pictures(checkpoint.image_processor)
    examples, left_out = make_examples(trajectories, checkpoint.renderer(), pictures, recipe.max_tokens)
    tokens = sum(len(example.ids) for example in examples)
    report(f"{len(examples)} trajectories ({left_out} left out), {tokens} tokens, {len(pictures)} pictures")
    resume = _claim_output(recipe, examples)
    features = encode_pictures(checkpoint.model, pictures) if recipe.cache_features else None
    frozen = parameter_hash(checkpoint.model, recipe.freeze)
    pad = checkpoint.tokenizer.pad_token_id
    collator = Collator(examples, pictures, pad, checkpoint.image_token, features)
    journal = Journal(recipe.output / "metrics.jsonl", report)
    callbacks: list[TrainerCallback] = [journal]
    if evaluate is not None and recipe.evaluate_every:
        callbacks.append(Evaluation(evaluate, recipe.evaluate_every, journal))
    trainer = _make_trainer(recipe, settings, checkpoint, examples, collator, callbacks)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)

    model = trainer.accelerator.unwrap_model(trainer.model)
    assert parameter_hash(model, recipe.freeze) == frozen, f"training changed frozen weights: {recipe.freeze}"
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    assert parameter_hash(model, recipe.freeze) == frozen, f"merging changed frozen weights: {recipe.freeze}"
    merged = recipe.output / "merged"
    if trainer.is_world_process_zero():
        save_merged(checkpoint, model.to(getattr(torch, recipe.save_dtype)), merged)
        plot_curves(journal.rows, recipe.output / "curves.png", f"SFT {recipe.output.name}", _panels(journal.rows))
    return SftResult(merged, len(examples), left_out, journal.rows[-1] if journal.rows else {})


def _make_trainer(
    recipe: SftRecipe,
    settings: SFTConfig,
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    collator: Collator,
    callbacks: list[TrainerCallback],
) -> TrajectoryTrainer:
    model: PreTrainedModel | PeftModel = checkpoint.model
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) not in recipe.freeze)
    if recipe.lora is not None:
        # seeded here, because TRL seeds only after the adapter was made
        set_seed(recipe.seed)
        lora = LoraConfig(
            r=recipe.lora.r,
            lora_alpha=recipe.lora.alpha,
            lora_dropout=recipe.lora.dropout,
            target_modules=recipe.lora.targets,
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, lora)
    lengths = [len(example.ids) for example in examples]
    trainer = TrajectoryTrainer(
        model=model,
        args=settings,
        data_collator=collator,
        train_dataset=Dataset.from_dict({"row": list(range(len(examples))), "length": lengths}),
        processing_class=checkpoint.tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def trl_settings(recipe: SftRecipe) -> SFTConfig:
    """The recipe's `trl` section as TRL's config, with our defaults below it and FIXED above it."""
    known = {f.name for f in dataclasses.fields(SFTConfig)}
    ours = {"output_dir", "seed", "data_seed", *FIXED}
    for name in recipe.trl:
        if name in ours:
            raise UserError(f"trl.{name} follows from the rest of the recipe. Remove it.")
        if name not in known:
            raise UnknownName("TRL setting", name, known)
    # TRL turns bf16 on where nothing is said, which slows a CPU down
    defaults = DEFAULTS | {"bf16": torch.cuda.is_available()}
    run = {"output_dir": str(recipe.output / "checkpoints"), "seed": recipe.seed, "data_seed": recipe.seed}
    try:
        return SFTConfig(**defaults | recipe.trl | FIXED | run)
    # TRL and transformers check each setting in their own way
    except Exception as error:
        raise UserError(f"TRL refuses the trl section of the recipe: {error}") from error


def _claim_output(recipe: SftRecipe, examples: Sequence[Example]) -> Path | None:
    """Writes recipe and revision beside the result; gives the checkpoint to go on from."""
    content = hashlib.sha256()
    for example in examples:
        content.update(example.ids.tobytes() + example.mask.tobytes())
    settings = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    run = {"data": content.hexdigest(), "examples": len(examples), "revision": _revision()}
    described = recipe.output / "recipe.yaml"
    resume = _last_checkpoint(recipe.output / "checkpoints")
    if resume is not None:
        former = json.loads((recipe.output / "run.json").read_text(encoding="utf-8"))
        if described.read_text(encoding="utf-8") != settings or former["data"] != run["data"]:
            raise UserError(
                f"{recipe.output} holds a run of another recipe or other data. Choose another output, or remove it."
            )
    recipe.output.mkdir(parents=True, exist_ok=True)
    described.write_text(settings, encoding="utf-8")
    (recipe.output / "run.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    _truncate_metrics(recipe.output / "metrics.jsonl", _step_of(resume) if resume else 0)
    return resume


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint: the trainer's state is written last, so one without it was interrupted."""
    for path in sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return path
    return None


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _truncate_metrics(path: Path, step: int) -> None:
    """What was logged after the checkpoint will be logged again."""
    rows = [row for row in read_metrics(path) if row["step"] <= step] if path.exists() else []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _revision() -> str:
    """The git revision of this source tree, `+changed` where it differs; empty outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        status = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return head.stdout.strip() + ("+changed" if status.stdout.strip() else "")


def _panels(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    measured = tuple(dict.fromkeys(name for row in rows for name in row if name.startswith("eval/")))
    return dict(LOSS_AND_ACCURACY) | ({"evaluation": measured} if measured else {})


class Journal(TrainerCallback):
    """Appends each logged line to metrics.jsonl as it comes, and says it in words."""

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self._path = path
        self._report = report
        self._started: tuple[float, int] | None = None
        self.rows: list[dict[str, Any]] = read_metrics(path)

    def write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._started is None:
            self._started = (time.perf_counter(), state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or logs is None:
            return
        row = {"step": state.global_step, **logs}
        if "loss" in logs and self._started is not None:
            seconds, steps = time.perf_counter() - self._started[0], state.global_step - self._started[1]
            samples = args.train_batch_size * args.gradient_accumulation_steps * args.world_size * steps
            row["samples_per_second"] = round(samples / seconds, 2)
            accuracy = logs.get("mean_token_accuracy", float("nan"))
            self._report(
                f"{state.global_step}/{state.max_steps}  loss {logs['loss']:.4f}  token accuracy {accuracy:.3f}"
                f"  {row['samples_per_second']:.1f} samples/s"
            )
        self.write(row)


class Evaluation(TrainerCallback):
    """Calls `evaluate` every `every` optimizer steps, with the model in evaluation mode."""

    def __init__(self, evaluate: Evaluate, every: int, journal: Journal) -> None:
        self._evaluate = evaluate
        self._every = every
        self._journal = journal

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | PeftModel | None = None,
        **kwargs: Any,
    ) -> None:
        if model is None or state.global_step % self._every:
            return
        model.eval()
        with torch.no_grad():
            figures = self._evaluate(model, state.global_step)
        model.train()
        self._journal.write({"step": state.global_step} | {f"eval/{name}": value for name, value in figures.items()})
