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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel
from transformers import Trainer, TrainingArguments

from deepmmsearch.digests import contents_of
from deepmmsearch.errors import UserError
from deepmmsearch.files import write_text
from deepmmsearch.outputs import Output
from deepmmsearch.progress import Watch
from deepmmsearch.redaction import public_settings
from deepmmsearch.train.plots import read_metrics
from deepmmsearch.train.trl_settings import TRL_ASIDE


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
    write_text(folder / "recipe.yaml", yaml.safe_dump(public_settings(recipe.model_dump(mode="json")), sort_keys=False))
    _truncate_metrics(folder / "metrics.jsonl", _step_of(resume) if resume else 0)
    return Claimed(output, False, resume)


def _is_end(checkpoint: Path) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint: the trainer's state is written last, so one without it was interrupted."""
    numbered = (path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal())
    for path in sorted(numbered, key=_step_of, reverse=True):
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


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _truncate_metrics(path: Path, step: int) -> None:
    """What was logged after the checkpoint will be logged again."""
    rows = [row for row in read_metrics(path) if row["step"] <= step] if path.exists() else []
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
