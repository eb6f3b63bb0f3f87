"""What every training run leaves beside its weights, and how an interrupted one goes on.

OUTPUT/recipe.yaml, output.json  what was run, on which data, at which git revision
OUTPUT/metrics.jsonl, curves.png what was measured
OUTPUT/checkpoints/              the trainer's own, from which a run goes on
OUTPUT/adapter, merged           the result
"""

from __future__ import annotations

import dataclasses
import errno
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from peft import PeftModel
from pydantic import BaseModel
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_callback import CallbackHandler

from deepmmsearch.digests import contents_of
from deepmmsearch.errors import MissingExtra, UnknownName, UserError
from deepmmsearch.files import write_text
from deepmmsearch.outputs import Output
from deepmmsearch.progress import Step, Watch
from deepmmsearch.train.plots import read_metrics

Evaluate = Callable[[PreTrainedModel | PeftModel, int], Mapping[str, float]]
"""Measures the model at an optimizer step; it may generate. The figures join the metrics under `eval/`."""

# each comes with an extra of its name
TRACKERS = ("tensorboard", "wandb", "trackio")
# as TRL has it, and nothing leaves this machine unless it is asked to
COMMON: Mapping[str, Any] = {
    "activation_checkpointing": True,
    "report_to": "none",
    "disable_tqdm": True,
    "project": "deepmmsearch",
    "trackio_static_space_id": False,
}

Config = TypeVar("Config", bound=TrainingArguments)

TRL_ASIDE = frozenset(
    "logging_steps logging_first_step logging_strategy report_to run_name project disable_tqdm log_level "
    "save_steps save_strategy save_total_limit dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor "
    "dataloader_persistent_workers use_cpu gradient_checkpointing gradient_checkpointing_kwargs "
    "activation_checkpointing trackio_space_id trackio_bucket_id trackio_static_space_id".split()
)
"""Settings of TRL that cannot change a result."""


def trl_config(
    kind: type[Config],
    given: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    fixed: Mapping[str, Any],
    output: Path,
    seed: int,
) -> Config:
    """A recipe's `trl` section as TRL's config, with our defaults below it and what the recipe fixes above it."""
    known = {f.name for f in dataclasses.fields(kind)}
    for name in given:
        if name in {"output_dir", "seed", "data_seed", *fixed}:
            raise UserError(f"trl.{name} follows from the rest of the recipe. Remove it.")
        if name not in known:
            raise UnknownName("TRL setting", name, known)
    _refuse_missing_trackers(given.get("report_to"))
    # TRL turns bf16 on where nothing is said, which slows a CPU down; pinned memory without a GPU is only warned of
    cuda = torch.cuda.is_available()
    below = {"bf16": cuda, "dataloader_pin_memory": cuda, **COMMON, "run_name": output.name, **defaults}
    run = {"output_dir": str(output / "checkpoints"), "seed": seed, "data_seed": seed}
    # transformers renames these and warns of the old names, one of which TRL sets to True
    renamed = {f"gradient_checkpointing{end}": f"activation_checkpointing{end}" for end in ("", "_kwargs")}
    asked = {renamed.get(name, name): value for name, value in given.items()}
    try:
        return kind(**{**below, **asked, **fixed, **run})
    # TRL and transformers check each setting in their own way
    except Exception as error:
        raise UserError(f"TRL refuses the trl section of the recipe: {error}") from error


def _refuse_missing_trackers(asked: str | Sequence[str] | None) -> None:
    """Trackers are called when training begins: what is not installed is said before the model is loaded."""
    installed = get_available_reporting_integrations()
    for name in [asked] if isinstance(asked, str) else asked or ():
        if name in TRACKERS and name not in installed:
            raise MissingExtra(f"trl.report_to={name}", name)
        if name not in {"none", "all", *TRACKERS, *installed}:
            raise UnknownName("tracker in trl.report_to, or one that is not installed", name, ["none", *TRACKERS])


@dataclasses.dataclass(frozen=True)
class Claimed:
    """The output of a run. `finished`: its result is there; else `resume` is the checkpoint to go on from."""

    output: Output
    finished: bool
    resume: Path | None

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The last line that was logged."""
        rows = read_metrics(self.output.folder / "metrics.jsonl")
        return rows[-1] if rows else {}

    def train(self, trainer: Trainer) -> None:
        """To the end, from the checkpoint on. Where that is the end already, nothing but its weights is taken."""
        if self.resume is not None and _is_end(self.resume):
            # the trainer makes a step before it looks how many it was to make
            trainer.args.max_steps, trainer.args.num_train_epochs = -1, 0
        trainer.train(resume_from_checkpoint=str(self.resume) if self.resume else None)


def made_with(recipe: BaseModel) -> dict[str, Any]:
    """What of a recipe can change the result."""
    found = contents_of(recipe)
    return found | {"trl": {name: value for name, value in found["trl"].items() if name not in TRL_ASIDE}}


def claim_output(
    output: Output, recipe: BaseModel, settings: TrainingArguments, report: Watch, **contents: Any
) -> Claimed:
    """Takes the folder for this recipe and the `contents` of what it names, and writes the recipe there. A finished run
    is left as it is. Raises UserError when the folder belongs to something else."""
    folder = output.folder
    wanted = made_with(recipe) | contents | {"processes": settings.world_size}
    if output.claim(wanted) and (folder / "merged").is_dir():
        report(f"{folder} is finished, its checkpoint is in {folder / 'merged'}. Nothing was changed.")
        return Claimed(output, True, None)
    resume = last_checkpoint(folder / "checkpoints")
    write_text(folder / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    _truncate_metrics(folder / "metrics.jsonl", _step_of(resume) if resume else 0)
    return Claimed(output, False, resume)


def _is_end(checkpoint: Path) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint: the trainer's state is written last, so one without it was interrupted."""
    for path in sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return path
    return None


@contextmanager
def explained(output: Path) -> Iterator[None]:
    """What stops a run from outside, in one sentence; the run can go on from its last checkpoint."""
    again = f"The same command goes on from the last checkpoint in {output / 'checkpoints'}."
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            "The device ran out of memory. Lower trl.per_device_train_batch_size (and raise "
            "trl.gradient_accumulation_steps), max_tokens or limits.tokens, or set trl.activation_checkpointing: true. "
            + again
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"The disk is full ({error.filename or output}). Make room. {again}") from error


def panels(rows: Sequence[Mapping[str, Any]], wanted: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The panels to plot: `wanted`, and one of the evaluations where there are any."""
    measured = tuple(dict.fromkeys(name for row in rows for name in row if name.startswith("eval/")))
    return dict(wanted) | ({"evaluation": measured} if measured else {})


class Journal(TrainerCallback):
    """Appends each logged line to metrics.jsonl as it comes, and tells of each optimizer step with what `describe`
    makes of the last line."""

    def __init__(self, path: Path, report: Watch, describe: Callable[[Mapping[str, Any]], str]) -> None:
        self._path, self._report, self._describe, self._said = path, report, describe, ""
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
            self._tell(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._tell(state)

    def _tell(self, state: TrainerState) -> None:
        if state.is_world_process_zero:
            self._report(Step("Training", state.global_step, state.max_steps, self._said))

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
        named = {f"eval/{name[5:]}" if name.startswith("eval_") else name: value for name, value in logs.items()}
        row: dict[str, Any] = {"step": state.global_step, **named}
        if "loss" in logs and self._started is not None:
            seconds, steps = time.perf_counter() - self._started[0], state.global_step - self._started[1]
            samples = args.train_batch_size * args.gradient_accumulation_steps * args.world_size * steps
            row["samples_per_second"] = round(samples / seconds, 2)
            self._said = self._describe(row)
        self.write(row)


class Evaluation(TrainerCallback):
    """Calls `evaluate` every `every` optimizer steps, with the model in evaluation mode; `log` tells the journal and
    the trackers of it."""

    def __init__(self, evaluate: Evaluate, every: int, log: CallbackHandler) -> None:
        self._evaluate = evaluate
        self._every = every
        self._log = log

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
        # every process measures, because all take part in putting a sharded model together; one of them writes. Not by
        # the trainer's own log, into which TRL puts what it has of the training so far.
        if state.is_world_process_zero:
            named = {f"eval_{name}": value for name, value in figures.items()}
            self._log.call_event("on_log", args, state, control, logs=named)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _truncate_metrics(path: Path, step: int) -> None:
    """What was logged after the checkpoint will be logged again."""
    rows = [row for row in read_metrics(path) if row["step"] <= step] if path.exists() else []
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
