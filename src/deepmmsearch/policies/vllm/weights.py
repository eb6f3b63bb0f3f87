"""The trainer's weights on their way to vLLM: over the connection that TRL keeps to a server, within the process, or as
files.

TRL's own `sync_weights` merges the adapter into the model that is trained; here the caller makes the weights.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

MakeWeights = Callable[[], "Iterable[tuple[str, Tensor]]"]
"""Gives all weights one after the other, by their names in the model without an adapter."""


class TrlGeneration(Protocol):
    """The part of TRL's `VLLMGeneration` (1.16) that is used: `vllm_client` exists in the main process."""

    accelerator: Any
    vllm_client: Any


def send_weights(generation: TrlGeneration, make: MakeWeights) -> None:
    """Sends the weights to a vLLM server over NCCL and drops its caches.

    To be called on every rank after the weights moved and before the next rollout: no rank goes on before the server
    has all of them.
    """
    if generation.accelerator.is_main_process:
        # the server must know of every tensor before the first one comes
        told = [(name, str(w.dtype).removeprefix("torch."), list(w.shape)) for name, w in make()]
        generation.vllm_client.update_named_params(told, iter(make()))
        generation.vllm_client.reset_prefix_cache()
    else:
        # gathering sharded weights takes every process, as often as the main one does it
        for _ in range(2):
            for _ in make():
                pass
    generation.accelerator.wait_for_everyone()


@contextmanager
def awake(llm: Any, make: MakeWeights, *, sleeps: bool) -> Iterator[None]:
    """Around a round of rollouts by a `vllm.LLM` in this process, on every rank: it gets the weights, and is woken if
    it `sleeps` between rounds (`enable_sleep_mode`)."""
    if sleeps:
        llm.wake_up(tags=["weights"])
    engine = llm.llm_engine
    engine.model_executor.driver_worker.model_runner.reload_weights(weights_iterator=iter(make()))
    # without these the engine answers from pictures and prompts that the old weights read, or ends
    engine.reset_mm_cache()
    engine.reset_encoder_cache()
    llm.reset_prefix_cache()
    if sleeps:
        llm.wake_up(tags=["kv_cache"])
    try:
        yield
    finally:
        if sleeps:
            # at level 2 the weights are thrown away
            llm.sleep(level=2)


FILE_BYTES = 4 * 2**30


@contextmanager
def as_files(place: Path, weights: Iterable[tuple[str, Tensor]]) -> Iterator[Path]:
    """A folder in `place` with all weights as safetensors; it is gone after the block, as is what a killed run left.

    Its name is new each time: a network file system may go on to show what stood under a former one.
    """
    from safetensors.torch import save_file

    place.mkdir(parents=True, exist_ok=True)
    for left in place.glob("weights-*"):
        shutil.rmtree(left)
    folder = place.absolute() / f"weights-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        for number, part in enumerate(_parts(weights)):
            save_file(part, folder / f"model-{number:05}.safetensors", {"format": "pt"})
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parts(weights: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """What fits into one file, and into memory beside the model."""
    part: dict[str, Tensor] = {}
    for name, weight in weights:
        if part and sum(w.nbytes for w in part.values()) + weight.nbytes > FILE_BYTES:
            yield part
            part = {}
        part[name] = weight.cpu().contiguous()
    yield part
