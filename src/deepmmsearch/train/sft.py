"""Supervised fine-tuning on trajectories (DeepMMSearch-R1, section 3.3): LoRA on the language model's linear layers,
vision tower and projector frozen, loss only on what the policy wrote.

TRL's `SFTTrainer` trains; its preparation of data is bypassed, because labels come from the renderer's mask.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PrinterCallback
from trl import SFTConfig, SFTTrainer

from deepmmsearch.data.load_report import LoadReport
from deepmmsearch.data.reader import holds_trajectories, read_trajectories
from deepmmsearch.errors import UserError
from deepmmsearch.outputs import Output, content, digest_of
from deepmmsearch.policies.local.adapter import save_adapter
from deepmmsearch.policies.local.checkpoint import Checkpoint, load_checkpoint
from deepmmsearch.policies.local.families import refuse_untrainable
from deepmmsearch.progress import Watch, silent, tracked
from deepmmsearch.store import FILE
from deepmmsearch.train.collate import Collator, Example, PictureSet, encode_pictures, make_examples
from deepmmsearch.train.lora import prepare_model
from deepmmsearch.train.merging import save_merged
from deepmmsearch.train.metrics import Evaluate, EvaluateCallback, MetricsJournal, panels
from deepmmsearch.train.order import LengthGrouped
from deepmmsearch.train.output import claim_output, explained
from deepmmsearch.train.parts import PARTS, check_frozen, part_hashes
from deepmmsearch.train.plots import LOSS_AND_ACCURACY, plot_curves
from deepmmsearch.train.recipes import SftRecipe
from deepmmsearch.train.shards import gathered, shard_layers, will_shard
from deepmmsearch.train.trl_settings import trl_config
from deepmmsearch.types import Trajectory

# what the data and the output folder dictate: a recipe that sets one of these is refused
FIXED: dict[str, Any] = {
    "remove_unused_columns": False,
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "packing": False,
    "padding_free": False,
    "max_length": None,
    # what processes taught at once counts as one batch
    "average_tokens_across_devices": True,
}
DEFAULTS: dict[str, Any] = {
    "train_sampling_strategy": "group_by_length",
    "logging_steps": 10,
    "save_steps": 200,
    "save_total_limit": 1,
}


class TrajectoryTrainer(SFTTrainer):
    """TRL's trainer with an order of batches that survives an interruption, a loss that does not depend on how a step
    is split, and without usage statistics: nothing leaves this machine."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # Qwen's models deny this, and the trainer would take the mean of each micro-batch's mean: tokens in short
        # ones would count for more. TRL's loss never hands the count to the model
        self.model_accepts_loss_kwargs = True

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGrouped(list(data["length"]), batch, self.args.seed, lambda: int(self.state.epoch or 0))

    def _send_telemetry(self) -> None:
        return None


COMMAND = "sft"
MakeEvaluate = Callable[[Checkpoint], Evaluate]
"""Gets the model as it was loaded, before an adapter is put into it."""


@dataclasses.dataclass(frozen=True)
class SftResult:
    """`merged` is the checkpoint folder; `metrics` the last logged figures."""

    merged: Path
    examples: int
    left_out: int
    metrics: Mapping[str, Any]


def train(recipe: SftRecipe, make_evaluate: MakeEvaluate | None = None, report: Watch = silent) -> SftResult:
    """`fine_tune` with the recipe's own checkpoint and trajectory folders."""
    Output(recipe.output, COMMAND)  # refuses what is not its own before anything is loaded
    missing = [str(place) for place in recipe.data if not holds_trajectories(place)]
    if missing:
        raise UserError(f"There are no trajectories in {', '.join(missing)}: {FILE} is missing. Give other data.")

    def trajectories() -> Iterator[Trajectory]:
        for place in recipe.data:
            counted = LoadReport()
            yield from read_trajectories(place, images=recipe.images, report=counted)
            if counted.left_out:
                report(f"{place}: {counted.left_out}")

    checkpoint = _open_checkpoint(recipe)
    evaluate = make_evaluate(checkpoint) if make_evaluate is not None else None
    return fine_tune(recipe, trajectories(), checkpoint, evaluate, report)


def fine_tune(
    recipe: SftRecipe,
    trajectories: Iterable[Trajectory],
    checkpoint: Checkpoint,
    evaluate: Evaluate | None = None,
    report: Watch = silent,
) -> SftResult:
    """Trains, goes on from the last checkpoint in `recipe.output` where there is one, and writes there
    recipe.yaml, metrics.jsonl, curves.png, adapter/ and merged/. A finished run is left as it is.

    Raises UserError when the output folder belongs to another recipe or other data, or to something else.
    """
    output = Output(recipe.output, COMMAND)
    refuse_untrainable(checkpoint.family, recipe.model)
    settings = trl_settings(recipe)
    # refuses what could not be saved
    will_shard(settings)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    pictures = PictureSet(checkpoint.family)
    trajectories = tracked(trajectories, "Reading trajectories", None, report)
    examples, left_out = make_examples(trajectories, checkpoint.renderer(), pictures, recipe.max_tokens)
    examples = _drawn(examples, pictures, recipe)
    tokens = sum(len(example.ids) for example in examples)
    report(f"{len(examples)} trajectories ({left_out} left out), {tokens} tokens, {len(pictures)} pictures")
    made_of: dict[str, Any] = {"data": content(f"{len(examples)} trajectories", _digest(examples, pictures))}
    if settings.gradient_accumulation_steps * settings.world_size > 1:
        # the mean of micro-batches' means is what this was before, and a run does not change it half way
        made_of["loss"] = "mean over the tokens of a step"
    claimed = claim_output(output, recipe, settings, report, **made_of)
    merged = recipe.output / "merged"
    if claimed.finished:
        return SftResult(merged, len(examples), left_out, claimed.metrics)
    features = encode_pictures(checkpoint.model, pictures, watch=report) if recipe.cache_features else None
    frozen = part_hashes(checkpoint.model, PARTS if recipe.lora is not None else recipe.freeze)
    collator = Collator(examples, pictures, checkpoint.tokenizer.pad_token_id, features)
    journal = MetricsJournal(recipe.output / "metrics.jsonl", report, _describe)
    trainer = _make_trainer(recipe, settings, checkpoint, examples, collator, journal)
    if evaluate is not None and recipe.evaluate_every:
        trainer.add_callback(EvaluateCallback(evaluate, recipe.evaluate_every, trainer.callback_handler))
    with explained(recipe.output):
        claimed.train(trainer)
        model = trainer.accelerator.unwrap_model(trainer.model)
        check_frozen(model, frozen)
        model = gathered(trainer, model, lambda: _prepared(_open_checkpoint(recipe), recipe))
        if trainer.is_world_process_zero():
            if isinstance(model, PeftModel):
                save_adapter(model, recipe.output / "adapter")
                model = model.merge_and_unload()
            check_frozen(model, {part: frozen[part] for part in recipe.freeze})
            save_merged(checkpoint, model.to(getattr(torch, recipe.save_dtype)), merged)
            shown = panels(journal.rows, LOSS_AND_ACCURACY)
            plot_curves(journal.rows, recipe.output / "curves.png", f"SFT {recipe.output.name}", shown)
            output.finish()
    return SftResult(merged, len(examples), left_out, journal.rows[-1] if journal.rows else {})


def _drawn(examples: list[Example], pictures: PictureSet, recipe: SftRecipe) -> list[Example]:
    """Those that the recipe's `sample` chooses; `pictures` holds only theirs afterwards."""
    if recipe.sample is None:
        return examples
    if recipe.sample > len(examples):
        raise UserError(f"sample: {recipe.sample} was asked for, but there are {len(examples)} trajectories.")
    rows = sorted(random.Random(recipe.seed).sample(range(len(examples)), recipe.sample))
    chosen = [examples[row] for row in rows]
    new = pictures.keep(number for example in chosen for number in example.pictures)
    return [dataclasses.replace(e, pictures=tuple(new[number] for number in e.pictures)) for e in chosen]


def _open_checkpoint(recipe: SftRecipe) -> Checkpoint:
    return load_checkpoint(recipe.model, getattr(torch, recipe.dtype))


def _prepared(checkpoint: Checkpoint, recipe: SftRecipe) -> PreTrainedModel | PeftModel:
    return prepare_model(checkpoint.model, recipe.lora, recipe.freeze, recipe.seed)


def _make_trainer(
    recipe: SftRecipe,
    settings: SFTConfig,
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    collator: Collator,
    journal: MetricsJournal,
) -> TrajectoryTrainer:
    model = _prepared(checkpoint, recipe)
    lengths = [len(example.ids) for example in examples]
    trainer = TrajectoryTrainer(
        model=model,
        args=settings,
        data_collator=collator,
        train_dataset=Dataset.from_dict({"row": list(range(len(examples))), "length": lengths}),
        processing_class=checkpoint.tokenizer,
        callbacks=[journal],
    )
    trainer.remove_callback(PrinterCallback)
    shard_layers(trainer, checkpoint.model)
    return trainer


def trl_settings(recipe: SftRecipe) -> SFTConfig:
    """The recipe's `trl` section as TRL's config, with our defaults below it and FIXED above it."""
    return trl_config(SFTConfig, recipe.trl, defaults=DEFAULTS, fixed=FIXED, output=recipe.output, seed=recipe.seed)


def _digest(examples: Sequence[Example], pictures: PictureSet) -> str:
    seen = pictures.digests()
    parts: list[str | bytes] = []
    for example in examples:
        parts += [example.ids.tobytes(), example.mask.tobytes(), *(seen[number] for number in example.pictures)]
    return digest_of(*parts)


def _describe(row: Mapping[str, Any]) -> str:
    accuracy = row.get("mean_token_accuracy", float("nan"))
    return f"loss {row['loss']:.4f}, token accuracy {accuracy:.3f}"
