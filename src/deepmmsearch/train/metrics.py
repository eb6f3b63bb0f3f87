"""What is measured while a model is trained: logged lines, evaluations, trackers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from deepmmsearch.progress import Step, Watch
from deepmmsearch.train.plots import read_metrics

Evaluate = Callable[[PreTrainedModel | PeftModel, int], Mapping[str, float]]
"""Measures the model at an optimizer step; it may generate. The figures join the metrics under `eval/`."""


def panels(rows: Sequence[Mapping[str, Any]], wanted: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The panels to plot: `wanted`, and one of the evaluations where there are any."""
    measured = tuple(dict.fromkeys(name for row in rows for name in row if name.startswith("eval/")))
    return dict(wanted) | ({"evaluation": measured} if measured else {})


class MetricsJournal(TrainerCallback):
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


class EvaluateCallback(TrainerCallback):
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
