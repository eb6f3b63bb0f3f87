"""A recipe's `trl` section as TRL's own settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from deepmmsearch.errors import MissingExtra, UnknownName, UserError

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
