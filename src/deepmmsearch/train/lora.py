"""LoRA on the language model's linear layers (DeepMMSearch-R1, section 3.3), and what is trained at all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, set_seed

from deepmmsearch.errors import UserError
from deepmmsearch.policies.bounded import check_patterns
from deepmmsearch.policies.local.adapter import load_adapter, peft_quiet
from deepmmsearch.train.parts import part_of
from deepmmsearch.train.recipes import Lora


def prepare_model(
    model: PreTrainedModel, lora: Lora | None, freeze: Collection[str], seed: int, adapter: Path | None = None
) -> PreTrainedModel | PeftModel:
    """The model with what is trained marked: a new adapter, the one in `adapter`, or all that is not frozen.

    Raises UserError for an adapter that does not fit the model, and for `targets` that are not a pattern or take too
    long.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) not in freeze)
    if adapter is not None:
        return load_adapter(model, adapter, trainable=True)
    if lora is None:
        return model
    try:
        check_patterns([lora.targets], [name for name, _ in model.named_modules()])
    except ValueError as error:
        raise UserError(f"lora.targets cannot be used: {error}. Give a regular expression over module names.") from None
    # seeded here, because TRL seeds only after the adapter was made
    set_seed(seed)
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets, task_type="CAUSAL_LM"
    )
    with peft_quiet():
        return get_peft_model(model, config)
