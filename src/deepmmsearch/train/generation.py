"""Where rollouts get their tokens from: copies of the policy's model in this process, with the adapter merged in.

A twin shares every parameter with the model that is trained except those that an adapter changes: those are computed
anew after each update, so that sampling costs no more than without an adapter.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from PIL.Image import Image
from torch import nn
from transformers import PreTrainedModel

from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.policies.local.checkpoint import Checkpoint
from deepmmsearch.policies.local.policy import MAX_NEW_TOKENS
from deepmmsearch.policies.local.sampleable import banned_ids, end_ids, window
from deepmmsearch.policies.local.slots import SlotPolicy
from deepmmsearch.policies.vllm import Sampling, VllmColocatePolicy, VllmServerPolicy, generating
from deepmmsearch.train.recipes import GrpoRecipe, OwnRollouts
from deepmmsearch.train.shards import whole
from deepmmsearch.types import Policy


class Generation(Protocol):
    """Where rollouts get their tokens from."""

    def round(self, model: PreTrainedModel | PeftModel) -> AbstractContextManager[Policy]:
        """Around one round of rollouts: the policy that samples with the weights of `model`."""
        ...


class Twin:
    """A copy of a model that shares its parameters, until `sync` gives it those of a model in training."""

    def __init__(self, model: PreTrainedModel) -> None:
        shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
        self.model: PreTrainedModel = copy.deepcopy(model, shared)
        self.model.eval()

    @torch.no_grad()
    def sync(self, model: PreTrainedModel | PeftModel) -> None:
        for name, value in sampler_weights(model, changed_only=True):
            _set(self.model, name, value)


@torch.no_grad()
def sampler_weights(
    model: PreTrainedModel | PeftModel, *, changed_only: bool = False
) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights that sample, with the adapter's part added, by their names in the model without it; those alone that
    training changes, if asked. One is made at a time; of a sharded model every process must go through all.

    Nothing is written into the model. Merging and unmerging in place, as TRL 1.16 does for vLLM, rounds each time: in
    bfloat16 a third of the frozen weights it touches had moved after 300 rounds.
    """
    adapted = isinstance(model, PeftModel)
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    layers = {f"{name}.base_layer.weight": m for name, m in base.named_modules() if isinstance(m, LoraLayer)}
    for name, parameter in base.named_parameters():
        layer, value = layers.get(name), parameter.detach()
        if ".lora_" in name or (changed_only and layer is None and (adapted or not parameter.requires_grad)):
            continue
        if layer is not None:
            value = (value + layer.get_delta_weight(layer.active_adapters[0])).to(value.dtype)
        plain = name.replace(".base_layer", "").replace("_checkpoint_wrapped_module.", "")
        yield plain, whole(value)


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


@dataclass(frozen=True)
class SamplerSettings:
    """`slots`: keep the cache of this many episodes between their turns; None reads each turn's prompt anew."""

    temperature: float = 0.0
    seed: int = 0
    max_new_tokens: int | None = None
    max_batch: int = 64
    slots: int | None = None


def policy_of(twin: Twin, checkpoint: Checkpoint, settings: SamplerSettings) -> LocalPolicy:
    """The twin as a policy; `checkpoint` gives tokenizer, image processor and card."""
    kind = LocalPolicy if settings.slots is None else partial(SlotPolicy, slots=settings.slots)
    return kind(
        twin.model,
        checkpoint.tokenizer,
        checkpoint.image_processor,
        card=checkpoint.card,
        name=checkpoint.source,
        temperature=settings.temperature,
        seed=settings.seed,
        max_new_tokens=settings.max_new_tokens,
        max_batch=settings.max_batch,
    )


def sampler_settings(recipe: GrpoRecipe) -> SamplerSettings:
    rollouts = recipe.rollouts
    slots = rollouts.concurrency if rollouts.backend == "slots" else None
    batch = rollouts.batch if isinstance(rollouts, OwnRollouts) else SamplerSettings.max_batch
    return SamplerSettings(rollouts.temperature, recipe.seed, rollouts.max_new_tokens, batch, slots)


class LocalGeneration:
    """Rollouts in this process, batched over whatever episodes wait. With slots what an episode has read is not read
    again, and rollouts that begin alike share the reading, which suits long episodes and pictures of many tokens."""

    def __init__(self, checkpoint: Checkpoint, settings: SamplerSettings) -> None:
        self._twin = Twin(checkpoint.model)
        self.policy = policy_of(self._twin, checkpoint, settings)
        greedy = SamplerSettings(max_new_tokens=settings.max_new_tokens, max_batch=settings.max_batch)
        self.greedy = policy_of(self._twin, checkpoint, greedy)

    @contextmanager
    def round(self, model: PreTrainedModel | PeftModel) -> Iterator[Policy]:
        self.sync(model)
        yield self.policy

    def sync(self, model: PreTrainedModel | PeftModel) -> None:
        """Takes over the weights of the model that is trained."""
        self._twin.sync(model)
        if isinstance(self.policy, SlotPolicy):
            self.policy.reset()


class VllmGeneration:
    """Rollouts by vLLM, over TRL's connection to it. Not run here: no GPU, no vLLM."""

    def __init__(self, vllm: Any, policy: Policy) -> None:
        self._vllm, self.policy = vllm, policy

    @contextmanager
    def round(self, model: PreTrainedModel | PeftModel) -> Iterator[Policy]:
        # rounds follow updates, so the weights have moved
        with generating(self._vllm, partial(sampler_weights, model)):
            yield self.policy


def vllm_generation(
    vllm: Any, checkpoint: Checkpoint, settings: SamplerSettings, base_url: str | None = None
) -> VllmGeneration:
    """`vllm` is TRL's `VLLMGeneration`; `base_url` of its server, None for its engine in this process."""
    model, tokenizer, renderer = checkpoint.model, checkpoint.tokenizer, checkpoint.renderer()
    ends = end_ids(model, renderer.end_id)
    sampling = Sampling(
        context=window(model, tokenizer),
        max_new_tokens=settings.max_new_tokens or MAX_NEW_TOKENS,
        temperature=settings.temperature,
        seed=settings.seed,
        banned=tuple(banned_ids(model, checkpoint.family, ends, renderer.image_id)),
        ends=tuple(sorted(ends)),
    )

    def image_tokens(view: Image) -> int:
        return checkpoint.family.features(view.size)

    policy: Policy
    if base_url is not None:
        policy = VllmServerPolicy(renderer, base_url, sampling, image_tokens=image_tokens)
    else:
        policy = VllmColocatePolicy(vllm.llm, renderer, sampling, image_tokens)
    return VllmGeneration(vllm, policy)
