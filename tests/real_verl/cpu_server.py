"""verl's vLLM server on a CPU: its `generate` is verl's own, and only what starts an engine on a GPU is replaced."""

from __future__ import annotations

from typing import Any

from verl.workers.rollout.replica import RolloutMode
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM


class CpuServer(vLLMHttpServer):
    """It keeps what it was asked for and what it said."""

    def __init__(self, rollout: Any, model: Any) -> None:
        super().__init__(rollout, model, RolloutMode.STANDALONE, [], 0, 0, 1, 1, "")
        self.said: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    async def start(self) -> None:
        self.engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=self.model_config.local_path,
                dtype="float32",
                max_model_len=self.config.max_model_len,
                logprobs_mode=self.config.logprobs_mode,
                limit_mm_per_prompt={"image": self.config.limit_images},
                enforce_eager=True,
            )
        )

    async def generate(self, prompt_ids: list[int], *args: Any, **kwargs: Any) -> Any:
        output = await super().generate(prompt_ids, *args, **kwargs)
        self.said.append((tuple(prompt_ids), tuple(output.token_ids)))
        return output

    async def all_said(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Since it was last asked for them."""
        said, self.said = self.said, []
        return said

    async def stop(self) -> None:
        self.engine.shutdown()
