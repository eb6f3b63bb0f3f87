"""Where rollouts get their tokens from: copies of the policy's model in this process, with the adapter merged in.

A twin shares every parameter with the model that is trained except those that an adapter changes: those are computed
anew after each update, so that sampling costs no more than without an adapter.
"""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from deepmmsearch.policies.card import read_card
from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.train.checkpoint import Checkpoint
from deepmmsearch.types import Policy


class Generation(Protocol):
    """What the trainer asks of a back end. `policy` samples with the weights of the last `sync`."""

    @property
    def policy(self) -> Policy: ...

    def sync(self, model: PreTrainedModel | PeftModel) -> None:
        """Takes over the weights of the model that is trained."""
        ...


class Twin:
    """A copy of a model that shares its parameters, until `sync` gives it those of a model in training."""

    def __init__(self, model: PreTrainedModel) -> None:
        shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
        self.model: PreTrainedModel = copy.deepcopy(model, shared)
        self.model.eval()

    @torch.no_grad()
    def sync(self, model: PreTrainedModel | PeftModel) -> None:
        if not isinstance(model, PeftModel):
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    _set(self.model, name, parameter)
            return
        for name, module in model.get_base_model().named_modules():
            if isinstance(module, LoraLayer):
                merged = module.get_base_layer().weight + module.get_delta_weight(module.active_adapters[0])
                _set(self.model, f"{name}.weight", merged)


def _set(model: nn.Module, name: str, value: torch.Tensor) -> None:
    owner_name, _, own = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    kept = getattr(owner, own)
    if getattr(kept, "own_of_twin", False):
        kept.copy_(value)
        return
    # the first time: until now it was the trained model's own
    parameter = nn.Parameter(value.detach().to(kept.dtype).clone(), requires_grad=False)
    parameter.own_of_twin = True  # type: ignore[attr-defined]
    setattr(owner, own, parameter)


def policy_of(
    twin: Twin,
    checkpoint: Checkpoint,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    max_new_tokens: int | None = None,
    max_batch: int = 64,
) -> LocalPolicy:
    """The twin as a policy; `checkpoint` gives tokenizer, image processor and card."""
    return LocalPolicy(
        twin.model,
        checkpoint.tokenizer,
        checkpoint.image_processor,
        card=read_card(checkpoint.source),
        name=checkpoint.source,
        temperature=temperature,
        seed=seed,
        max_new_tokens=max_new_tokens,
        max_batch=max_batch,
    )


class LocalGeneration:
    """Rollouts in this process, batched over whatever episodes wait; every turn reads its prompt anew, which suits
    short episodes."""

    def __init__(
        self, checkpoint: Checkpoint, *, temperature: float, seed: int, max_new_tokens: int | None, max_batch: int
    ) -> None:
        self._twin = Twin(checkpoint.model)
        self.policy = policy_of(
            self._twin,
            checkpoint,
            temperature=temperature,
            seed=seed,
            max_new_tokens=max_new_tokens,
            max_batch=max_batch,
        )
        self.greedy = policy_of(self._twin, checkpoint, max_new_tokens=max_new_tokens, max_batch=max_batch)

    def sync(self, model: PreTrainedModel | PeftModel) -> None:
        self._twin.sync(model)
