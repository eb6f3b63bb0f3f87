"""LoRA on the language model's linear layers (DeepMMSearch-R1, section 3.3), and what is trained at all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from transformers import PreTrainedModel, set_seed

from deepmmsearch.errors import UserError
from deepmmsearch.train.checkpoint import load_checkpoint, part_of, save_merged

LANGUAGE_LINEAR = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


class Lora(BaseModel):
    """`alpha` / `r` scales the update; `targets` is a regular expression over module names."""

    model_config = ConfigDict(extra="forbid")

    r: int = Field(default=8, gt=0)
    alpha: int = Field(default=16, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str = LANGUAGE_LINEAR


def prepare_model(
    model: PreTrainedModel, lora: Lora | None, freeze: Collection[str], seed: int, adapter: Path | None = None
) -> PreTrainedModel | PeftModel:
    """The model with what is trained marked: a new adapter, the one in `adapter`, or all that is not frozen.

    Raises UserError for an adapter that does not fit the model.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) not in freeze)
    if adapter is not None:
        return load_adapter(model, adapter, trainable=True)
    if lora is None:
        return model
    # seeded here, because TRL seeds only after the adapter was made
    set_seed(seed)
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets, task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def load_adapter(model: PreTrainedModel, folder: Path, trainable: bool = False) -> PeftModel:
    """Raises UserError when `folder` holds no adapter, or one that was made for another model."""
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"{str(folder)!r} is no adapter: there is no adapter_config.json in it.")
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    # what PEFT raises depends on which of names, shapes or settings disagree
    except (RuntimeError, ValueError, KeyError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"The adapter in {folder} does not fit the model ({reason}). Give the model it was made for."
        ) from error


def merge(source: str, adapter: Path, out: Path, dtype: str = "bfloat16") -> None:
    """The model with the adapter in its weights, as a checkpoint that serves like its base; whole or not at all.

    Merged in float32, then saved as `dtype`. Raises UserError for what cannot be loaded or does not fit.
    """
    checkpoint = load_checkpoint(source, torch.float32)
    merged = load_adapter(checkpoint.model, adapter).merge_and_unload()
    save_merged(checkpoint, merged.to(getattr(torch, dtype)), out)
