"""Where rollouts get their tokens from: copies of the policy's model in this process, with the adapter merged in.

A twin shares every parameter with the model that is trained except those that an adapter changes: those are computed
anew after each update, so that sampling costs no more than without an adapter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from PIL.Image import Image
from torch import nn
from transformers import PreTrainedModel
from trl import GRPOTrainer

from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.policies.local.checkpoint import Checkpoint
from deepmmsearch.policies.local.policy import MAX_NEW_TOKENS
from deepmmsearch.policies.local.sampleable import banned_ids, end_ids, window
from deepmmsearch.policies.local.slots import SlotPolicy
from deepmmsearch.policies.vllm import (
    Sampling,
    VllmColocatePolicy,
    VllmServerPolicy,
    as_files,
    awake,
    send_weights,
)
from deepmmsearch.train.colocated import colocated_engine
from deepmmsearch.train.recipes import GrpoRecipe, OwnRollouts, VllmServerRollouts
from deepmmsearch.train.shards import whole
from deepmmsearch.types import Policy

Run = Callable[[Coroutine[Any, Any, None]], None]


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


class NcclGeneration:
    """Rollouts by a vLLM server that takes the weights over TRL's connection to it."""

    def __init__(self, connection: Any, policy: VllmServerPolicy) -> None:
        self._connection, self.policy = connection, policy

    @contextmanager
    def round(self, model: PreTrainedModel | PeftModel) -> Iterator[Policy]:
        # rounds follow updates, so the weights have moved
        send_weights(self._connection, partial(sampler_weights, model))
        yield self.policy


class ColocatedGeneration:
    """Rollouts by vLLM in this process, which sleeps between rounds or does not."""

    def __init__(self, policy: VllmColocatePolicy, sleeps: bool) -> None:
        self.policy, self._sleeps = policy, sleeps

    @contextmanager
    def round(self, model: PreTrainedModel | PeftModel) -> Iterator[Policy]:
        with awake(self.policy.llm, partial(sampler_weights, model), sleeps=self._sleeps):
            yield self.policy


class FolderGeneration:
    """Rollouts by a vLLM server that takes the weights from a folder: nothing of vLLM is needed in this process. It is
    waited for so many `seconds`; `run` is the event loop that rollouts are played in."""

    def __init__(
        self, policy: VllmServerPolicy, folder: Path, accelerator: Accelerator, seconds: float, run: Run
    ) -> None:
        self.policy, self._folder, self._accelerator = policy, folder, accelerator
        self._seconds, self._run = seconds, run

    @contextmanager
    def round(self, model: PreTrainedModel | PeftModel) -> Iterator[Policy]:
        weights = sampler_weights(model)
        if self._accelerator.is_main_process:
            with as_files(self._folder, weights) as folder:
                self._run(self._send(folder))
        else:
            # gathering sharded weights takes every process
            for _ in weights:
                pass
        self._accelerator.wait_for_everyone()
        yield self.policy

    async def _send(self, folder: Path) -> None:
        await self.policy.wait(self._seconds)
        await self.policy.load_weights(folder)


def vllm_generation(trainer: GRPOTrainer, recipe: GrpoRecipe, checkpoint: Checkpoint, run: Run) -> Generation:
    """By the server that TRL's settings name, or by an engine that is started in this process."""
    args, rollouts = trainer.args, recipe.rollouts
    sampling = vllm_sampling(checkpoint, sampler_settings(recipe))
    renderer = checkpoint.renderer()

    def image_tokens(view: Image) -> int:
        return checkpoint.family.features(view.size)

    if not isinstance(rollouts, VllmServerRollouts):
        llm = colocated_engine(trainer, recipe.model, recipe.dtype)
        sampling = replace(sampling, context=min(sampling.context, llm.llm_engine.model_config.max_model_len))
        device = trainer.accelerator.device
        prepare = partial(torch.cuda.set_device, device) if device.type == "cuda" else None
        policy = VllmColocatePolicy(llm, renderer, sampling, image_tokens, prepare=prepare)
        return ColocatedGeneration(policy, args.vllm_enable_sleep_mode)
    base_url = args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}"
    server = VllmServerPolicy(renderer, base_url, sampling, image_tokens=image_tokens)
    if rollouts.sync == "nccl":
        return NcclGeneration(trainer.vllm_generation, server)
    folder = rollouts.weights or recipe.output / "weights"
    return FolderGeneration(server, folder, trainer.accelerator, args.vllm_server_timeout, run)


def vllm_sampling(checkpoint: Checkpoint, settings: SamplerSettings) -> Sampling:
    """How the tokens of a checkpoint's model are drawn."""
    model, tokenizer, renderer = checkpoint.model, checkpoint.tokenizer, checkpoint.renderer()
    ends = end_ids(model, renderer.end_id)
    return Sampling(
        context=window(model, tokenizer),
        max_new_tokens=settings.max_new_tokens or checkpoint.card.max_new_tokens or MAX_NEW_TOKENS,
        temperature=settings.temperature,
        seed=settings.seed,
        banned=tuple(banned_ids(model, checkpoint.family, ends, renderer.image_id)),
        ends=tuple(sorted(ends)),
    )
