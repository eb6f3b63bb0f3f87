"""What a recipe of fine-tuning or of GRPO may say. No heavy package is needed to read one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from deepmmsearch.settings import Aside, LimitSettings, OneOf, Recipe, Settings

LANGUAGE_LINEAR = r".*(language_model|text_model).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


class Lora(Settings):
    """`alpha` / `r` scales the update; `targets` is a regular expression over module names."""

    r: int = Field(default=8, gt=0)
    alpha: int = Field(default=16, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str = LANGUAGE_LINEAR


class Alarms(Settings):
    """When a run is stopped: `kl` to the reference above this (nats a token), mean `tokens` sampled an episode above
    this, reward below `reward` after `patience` optimizer steps; None never."""

    kl: float | None = Field(default=5.0, gt=0)
    tokens: float | None = Field(default=None, gt=0)
    reward: float | None = None
    patience: int = Field(default=20, ge=0)


class SftRecipe(Recipe):
    """One experiment. `images`: a folder with pictures that ShareGPT files in `data` may name, besides their own.
    `sample`: so many of the trajectories, drawn with `seed`. `trl` goes to TRL's SFTConfig as it is, except for what
    this file decides (see FIXED)."""

    model: str
    data: Aside[list[Path]] = Field(min_length=1)
    images: Aside[Path | None] = None
    sample: int | None = Field(default=None, gt=0)
    output: Aside[Path]
    lora: Lora | None = Field(default_factory=Lora)
    freeze: tuple[Literal["vision", "projector"], ...] = ("vision", "projector")
    seed: int = 0
    threads: Aside[int | None] = Field(default=None, gt=0)
    max_tokens: int = Field(default=8192, gt=0)
    dtype: Literal["float32", "bfloat16"] = "float32"
    save_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    cache_features: bool = False
    evaluate_every: Aside[int] = Field(default=0, ge=0)
    trl: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _frozen_parts_fit(self) -> Self:
        if set(self.freeze) != {"vision", "projector"}:
            if self.lora is not None:
                raise ValueError("LoRA trains the language model alone: freeze vision and projector, or set lora: null")
            if self.cache_features:
                raise ValueError("cache_features keeps what vision and projector give: freeze both, or turn it off")
        return self


class _Rollouts(Settings):
    """How questions are played. `concurrency`: episodes in play; `tool_timeout`: seconds of one tool use. `failed`,
    `truncated`: are episodes that a tool failed, or that were cut off, left out of the loss (mask) or kept? `flat`:
    groups without spread have no advantage, only a KL: drop saves their share of the update, keep computes it.
    `resample`: how often such groups are replaced by other questions. `share_prompts`: compute the prompt of a group
    once in the update."""

    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int | None = Field(default=None, gt=0)
    concurrency: Aside[int] = Field(default=64, gt=0)
    tool_timeout: float = Field(default=120.0, gt=0)
    failed: Literal["mask", "keep"] = "mask"
    truncated: Literal["mask", "keep"] = "mask"
    flat: Literal["drop", "keep"] = "drop"
    resample: int = Field(default=0, ge=0)
    share_prompts: Aside[bool] = True


class OwnRollouts(_Rollouts):
    """This process samples, reading each turn's prompt anew (local) or keeping episodes' caches (slots). `batch`: of
    the sampler."""

    backend: Literal["local", "slots"] = "local"
    batch: Aside[int] = Field(default=64, gt=0)


class VllmServerRollouts(_Rollouts):
    """A vLLM server samples. `sync`: how the trained weights get there, from GPU to GPU (nccl) or as files (folder).
    `weights`: where those lie meanwhile, a folder of this run alone that the server sees under the same path; None is
    OUTPUT/weights."""

    backend: Literal["vllm-server"]
    sync: Aside[Literal["nccl", "folder"]] = "nccl"
    weights: Aside[Path | None] = None

    @model_validator(mode="after")
    def _weights_are_files(self) -> Self:
        if self.weights is not None and self.sync != "folder":
            raise ValueError("weights is where files lie: set sync: folder, or remove it")
        return self


class VllmColocateRollouts(_Rollouts):
    """vLLM samples in this process."""

    backend: Literal["vllm-colocate"]


VllmRollouts = VllmServerRollouts | VllmColocateRollouts
RolloutSettings = Annotated[OwnRollouts | VllmServerRollouts | VllmColocateRollouts, OneOf("backend", default="local")]


class GrpoRecipe(Recipe):
    """One experiment. `trl` goes to TRL's GRPOConfig as it is, except for what this file decides (see FIXED).

    `model`: the checkpoint to start from; `adapter`: a LoRA on it to go on from, whose copy is then the reference of
    the KL. Without one a new LoRA is made, and the reference is the model itself. `check_frozen_every`: after so many
    rounds the weights below the adapter are compared with what they were; 0 at the end alone.
    """

    model: str
    adapter: Path | None = None
    output: Aside[Path]
    lora: Lora = Field(default_factory=Lora)
    seed: int = 0
    threads: Aside[int | None] = Field(default=None, gt=0)
    dtype: Literal["float32", "bfloat16"] = "float32"
    save_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    prompt: str | None = None
    limits: LimitSettings = LimitSettings()
    rollouts: RolloutSettings = OwnRollouts()
    alarms: Aside[Alarms] = Field(default_factory=Alarms)
    evaluate_every: Aside[int] = Field(default=0, ge=0)
    sample_every: Aside[int] = Field(default=10, ge=0)
    check_frozen_every: Aside[int] = Field(default=50, ge=0)
    trl: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_lora(self) -> Self:
        if self.adapter is not None and "lora" in self.model_fields_set:
            raise ValueError("lora belongs to a new adapter, but adapter names one to go on from. Remove one of them")
        return self
