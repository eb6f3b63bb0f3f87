"""The trainer's weights on their way to vLLM: TRL sends them, this says when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class TrlGeneration(Protocol):
    """The part of TRL's `VLLMGeneration` (1.16) that is used; `_llm_weights_sleeping` exists in colocate mode."""

    mode: str
    enable_sleep_mode: bool
    accelerator: Any
    llm: Any
    _llm_weights_sleeping: bool

    def sync_weights(self) -> None: ...


def send_weights(generation: TrlGeneration) -> None:
    """Sends the trainer's weights to vLLM (server: over NCCL; colocate: within the process) and drops its prefix cache.

    To be called on every rank after the weights moved and before the next rollout: no rank goes on before the server
    has all of them.
    """
    generation.sync_weights()
    generation.accelerator.wait_for_everyone()


@contextmanager
def generating(generation: TrlGeneration, *, changed: bool) -> Iterator[None]:
    """Around a round of rollouts, on every rank: `changed` tells whether the weights moved since the last round.

    Sends them where needed, and wakes an engine that sleeps between rounds (`vllm_enable_sleep_mode`).
    """
    sleeps = generation.mode == "colocate" and generation.enable_sleep_mode
    # Sleeping at level 2 throws the weights away.
    if changed or (sleeps and generation._llm_weights_sleeping):
        send_weights(generation)
    if sleeps:
        generation.llm.wake_up(tags=["kv_cache"])
    try:
        yield
    finally:
        if sleeps:
            generation.llm.sleep(level=2)
            generation._llm_weights_sleeping = True
