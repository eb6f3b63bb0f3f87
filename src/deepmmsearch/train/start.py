"""What a run starts from, checked in seconds: before worlds are made, trajectories read or weights loaded."""

from __future__ import annotations

from pathlib import Path

from deepmmsearch.errors import UserError, need
from deepmmsearch.policies.local.adapter import check_adapter
from deepmmsearch.policies.local.block import refuse_unusual
from deepmmsearch.policies.local.checkpoint import CheckpointParts, read_parts
from deepmmsearch.policies.local.families import refuse_untrainable
from deepmmsearch.train.recipes import RolloutSettings, VllmColocateRollouts, VllmRollouts, VllmServerRollouts


def check_start(source: str, adapter: Path | None = None, rollouts: RolloutSettings | None = None) -> CheckpointParts:
    """The checkpoint without its weights. Raises UserError for a checkpoint or an adapter that cannot be loaded, a
    model that cannot be trained, and a sampler that it does not fit."""
    parts = read_parts(source)
    refuse_untrainable(parts.family, source)
    parts.renderer()
    if adapter is not None:
        check_adapter(adapter)
    if rollouts is None:
        return parts
    if rollouts.backend == "slots":
        refuse_unusual(parts.config)
    if isinstance(rollouts, VllmRollouts) and not parts.family.grids:
        raise UserError(
            f"vLLM lays out the pictures of a {parts.config.model_type} model in its own way. Set rollouts.backend to "
            "local, or give a Qwen2-VL, Qwen2.5-VL or Qwen3-VL."
        )
    if isinstance(rollouts, VllmColocateRollouts):
        need("rollouts.backend: vllm-colocate", "vllm")
    if isinstance(rollouts, VllmServerRollouts) and rollouts.sync == "nccl":
        need("rollouts.sync: nccl", "vllm")
    return parts
