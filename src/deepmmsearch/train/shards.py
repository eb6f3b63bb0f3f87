"""Models that FSDP2 spreads over processes: each holds a part of every weight, and it takes all to have one whole."""

from __future__ import annotations

import atexit
import copy
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled

from deepmmsearch.errors import UserError
from deepmmsearch.streams import flush_output

if TYPE_CHECKING:
    from peft import PeftModel

M = TypeVar("M", bound="PreTrainedModel | PeftModel")


def whole(tensor: Tensor) -> Tensor:
    """The tensor in one piece. Of a sharded one every process must ask at the same time."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def will_shard(settings: TrainingArguments) -> bool:
    """Whether the trainer will spread its model. Raises UserError for ways to do so that are not supported."""
    if is_deepspeed_zero3_enabled():
        raise UserError("ZeRO-3 is not supported. Use FSDP2 (recipes/accelerate/fsdp2_8.yaml) or a lower ZeRO stage.")
    if not settings.fsdp and not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return False
    if parse_flag_from_env("FSDP_CPU_RAM_EFFICIENT_LOADING"):
        raise UserError(
            "With fsdp_cpu_ram_efficient_loading only one process has the model's weights, but each looks at pictures "
            "by itself. Set it to false."
        )
    return True


def apart(model: PreTrainedModel, settings: TrainingArguments) -> PreTrainedModel:
    """The model for what samples or looks at pictures beside the training: itself, or a copy on the device of this
    process where the trainer will spread it, because nobody can compute with a part."""
    return copy.deepcopy(model).to(settings.device).requires_grad_(False) if will_shard(settings) else model


def shard_layers(trainer: Trainer, model: PreTrainedModel) -> None:
    """Makes the language model's layers alone units of their own, unless the launcher's configuration names others.

    The vision tower does not run for a batch without pictures, nor where its features are kept; a unit that runs in one
    process and not in another would wait for ever. Raises UserError for what cannot be sharded.
    """
    if not trainer.is_fsdp_enabled:
        return
    plugin = trainer.accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise UserError("FSDP 1 is not supported. Set fsdp_version: 2, as in recipes/accelerate/fsdp2_8.yaml.")
    # TRL's loss takes the whole output layer, and its gradients from the other processes are lost
    if model.get_output_embeddings().weight.requires_grad:
        raise UserError("FSDP2 cannot train all weights here. Train a LoRA (lora: {r: 8, alpha: 16}), or do not shard.")
    layer = type(model.get_decoder().layers[0])
    plugin.transformer_cls_names_to_wrap = plugin.transformer_cls_names_to_wrap or [layer.__name__]


def gathered(trainer: Trainer, trained: M, remake: Callable[[], M]) -> M:
    """The trained model in one piece. Every process must call this; a sharded one is whole in the main process alone,
    on the CPU, in a model that `remake` gives; the others get what they hold."""
    if not trainer.is_fsdp_enabled:
        return trained
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if not trainer.is_world_process_zero():
        return trained
    model = remake()
    # the adapter that served as reference is not part of what was trained
    found = model.load_state_dict(weights, strict=False)
    assert not found.missing_keys, f"no weights for {found.missing_keys[:3]}"
    return model


def leave_processes() -> None:
    """Ends the group of processes, where there is one, once all have come here: a process that merely ends may be
    aborted by a thread of the group."""
    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()


def end_process() -> None:
    """Ends this process, where it is one of several, once what is registered for its end has run. Torch leaves threads
    behind, and an interpreter that takes itself apart beside them may be aborted, when all is written."""
    if PartialState().num_processes > 1:
        flush_output()
        atexit._run_exitfuncs()
        os._exit(0)
