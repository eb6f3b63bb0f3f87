"""LoRA adapters: put into the model that they were made for, and into no other."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.files import replacing, write_json
from deepmmsearch.policies.bounded import check_patterns
from deepmmsearch.policies.local.checkpoint import read_object, tensor_names

if TYPE_CHECKING:
    from peft import PeftModel

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# what our own adapters say of their base; others do not have it
BASE = "base.json"
# weights that make the digest of a base: all of 7 B parameters would take a minute
SAMPLED = 8
# settings with which PEFT imports modules, or loads adapters, that the settings name
_IMPORTING = ("megatron_config", "arrow_config")
_PATTERNS = ("target_modules", "exclude_modules", "modules_to_save", "layers_pattern", "rank_pattern", "alpha_pattern")


def load_adapter(model: PreTrainedModel, folder: str | Path, trainable: bool = False) -> PeftModel:
    """The model with the LoRA in `folder` put into it.

    Raises UserError when `folder` holds no adapter, a damaged one, or one that was made for another model.
    """
    check_adapter(folder)
    _refuse_other_base(model, Path(folder))
    _refuse_slow_patterns(model, Path(folder))
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError:
        raise MissingExtra("A LoRA adapter", "train") from None
    try:
        with peft_quiet():
            found = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
        wanted = set(get_peft_model_state_dict(found, save_embedding_layers=False))
    # what PEFT raises depends on which of names, shapes or settings disagree
    except Exception as error:
        raise _misfit(folder, " ".join(str(error).split())[:300]) from error
    if apart := wanted ^ tensor_names(Path(folder) / WEIGHTS):
        raise _misfit(folder, f"{len(apart)} tensors are in one of them alone, the first is {min(apart)}")
    return found


def save_adapter(model: PeftModel, folder: Path) -> None:
    """The adapter, and which weights it belongs to."""
    with replacing(folder) as draft:
        model.save_pretrained(draft)
        write_json(draft / BASE, {"digest": _digest(model.get_base_model())})


def check_adapter(folder: str | Path) -> None:
    """Raises UserError for what is not an adapter or is damaged, without a model."""
    for name in (SETTINGS, WEIGHTS):
        if not (Path(folder) / name).is_file():
            raise UserError(f"{str(folder)!r} is not an adapter: there is no {name} in it.")
    settings = read_object(Path(folder) / SETTINGS)
    if settings.get("peft_type") != "LORA" or any(settings.get(name) for name in _IMPORTING):
        raise UserError(f"The adapter in {folder} is not a plain LoRA, which is the only kind that is read here.")
    tensor_names(Path(folder) / WEIGHTS)


@contextmanager
def peft_quiet() -> Iterator[None]:
    """Without what nobody but PEFT can change (0.21 asks transformers by an old name), or what is an error here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
        yield


def _refuse_other_base(model: PreTrainedModel, folder: Path) -> None:
    # float16 rounds in a way of its own
    if not (folder / BASE).is_file() or model.dtype not in (torch.float32, torch.bfloat16):
        return
    if read_object(folder / BASE).get("digest") != _digest(model):
        raise _misfit(folder, "it was made for other weights")


def _refuse_slow_patterns(model: PreTrainedModel, folder: Path) -> None:
    """PEFT puts the patterns in an adapter's settings to the name of every module."""
    settings = read_object(folder / SETTINGS)
    patterns = []
    for name in _PATTERNS:
        found = settings.get(name) or ()
        patterns += [found] if isinstance(found, str) else [text for text in found if isinstance(text, str)]
    try:
        check_patterns(patterns, [name for name, _ in model.named_modules()])
    except ValueError as error:
        raise _misfit(folder, f"a pattern for names of modules: {error}") from None


def _digest(model: PreTrainedModel) -> str:
    """sha256 of some of the weights that adapters change, rounded as they are loaded most coarsely."""
    named = {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in model.named_parameters()
        if name.endswith("_proj.weight") or name.endswith("_proj.base_layer.weight")
    }
    names = sorted(named)
    content = hashlib.sha256()
    for name in names[:: max(1, len(names) // SAMPLED)]:
        weights = named[name].detach().to("cpu", torch.bfloat16).contiguous()
        content.update(name.encode() + weights.view(torch.int16).numpy().tobytes())
    return content.hexdigest()


def _misfit(folder: str | Path, reason: str) -> UserError:
    return UserError(f"The adapter in {folder} does not fit the model ({reason}). Give the model it was made for.")
