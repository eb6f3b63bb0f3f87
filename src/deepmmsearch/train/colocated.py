"""vLLM in the trainer's process, in the trainer's precision.

TRL 1.16 starts its own without a dtype. vLLM then takes half precision for a checkpoint in float32, and the
checkpoint's for a model that is trained in another, so that what samples is not what is trained.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from trl import GRPOTrainer
from trl.trainer.utils import ensure_master_addr_port

from deepmmsearch.errors import Failed

# vLLM takes more for granted (32,768), for which it then finds no memory beside a trainer; as in TRL
BATCHED_TOKENS = 4096
_PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def colocated_engine(trainer: GRPOTrainer, source: str, dtype: str) -> Any:
    """A `vllm.LLM` of the checkpoint `source` on this process's device, with the trainer's settings. One that sleeps
    between rounds is asleep. Raises Failed where it does not start."""
    from vllm import LLM

    args, accelerator = trainer.args, trainer.accelerator
    try:
        with _placed(accelerator):
            llm = LLM(
                model=source,
                dtype=dtype,
                max_model_len=args.vllm_max_model_length,
                max_num_seqs=args.per_device_train_batch_size * args.steps_per_generation,
                max_num_batched_tokens=BATCHED_TOKENS,
                # on a CPU a seeded request whose prompt is read in parts ends vLLM 0.30; None is its own choice
                enable_chunked_prefill=False if accelerator.device.type == "cpu" else None,
                gpu_memory_utilization=args.vllm_gpu_memory_utilization,
                enable_sleep_mode=args.vllm_enable_sleep_mode,
                model_impl=args.vllm_model_impl,
                distributed_executor_backend="external_launcher",
                seed=accelerator.process_index,
                # those of its samples, not those of the logits
                logprobs_mode="processed_logprobs",
            )
    # a window that does not fit into memory, a device that is full
    except (ValueError, RuntimeError) as error:
        raise Failed(
            f"vLLM does not start in this process: {error} Lower trl.vllm_max_model_length, or change "
            "trl.vllm_gpu_memory_utilization."
        ) from error
    if args.vllm_enable_sleep_mode:
        llm.sleep(level=2)
    return llm


@contextmanager
def _placed(accelerator: Accelerator) -> Iterator[None]:
    """An executor for processes that a launcher started takes its place from the environment, where a process
    that is alone finds nothing."""
    there = [name for name in _PLACE if name in os.environ]
    os.environ["RANK"] = str(accelerator.process_index)
    os.environ["LOCAL_RANK"] = str(accelerator.local_process_index)
    os.environ["WORLD_SIZE"] = str(accelerator.num_processes)
    ensure_master_addr_port()
    try:
        yield
    finally:
        for name in _PLACE:
            if name not in there:
                del os.environ[name]
