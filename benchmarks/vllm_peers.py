"""The loops of `rollouts.py` that a vLLM server samples for: ours, and the worker of TRL's asynchronous GRPO."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepmmsearch.bundled import BUNDLED
from deepmmsearch.policies.vllm import Sampling, VllmServerPolicy
from deepmmsearch.types import Completion, Trajectory
from rollouts import FixedLocal, Load, ScriptedTokenizer, fact, trl_template
from vllm_server import WINDOW, started


@contextmanager
def vllm_server() -> Iterator[str]:
    """The address of a server of the bundled model, which knows no end of a turn: TRL's worker cannot ask for turns of
    a fixed length."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        shutil.copytree(BUNDLED, folder)
        for name, end, other in (
            ("config.json", '"eos_token_id": 2', '"eos_token_id": 0'),
            ("generation_config.json", '"eos_token_id": 2', '"eos_token_id": 0'),
            ("tokenizer_config.json", '"eos_token": "<|im_end|>"', '"eos_token": "<|endoftext|>"'),
        ):
            text = (folder / name).read_text(encoding="utf-8")
            assert end in text, f"the end of a turn is another in {name}"
            (folder / name).write_text(text.replace(end, other), encoding="utf-8")
        with started(folder, Path(place) / "log") as url:
            yield url


class FixedServer(VllmServerPolicy):
    """Every turn samples as many tokens as it may, after the prompts that `local` reads."""

    def __init__(self, url: str, local: FixedLocal) -> None:
        banned = tuple(local._banned)
        super().__init__(local.renderer, url, Sampling(WINDOW, local.max_new_tokens, temperature=1.0, banned=banned))

    async def act(self, trajectory: Trajectory) -> Completion:
        return replace(await super().act(trajectory), finish="stop")

    def reset(self) -> None:
        """Nothing is known of an earlier measurement."""
        self._features.clear()
        for what in ("mm", "encoder", "prefix"):
            urllib.request.urlopen(f"{self.base_url}/reset_{what}_cache", b"{}", timeout=60).close()


class AskingTokenizer(ScriptedTokenizer):
    """Calls the tool with the next wait of the conversation whose number its prompt names."""

    load: Load

    def parse_response(self, ids: Any, prefix: Any = None, tools: Any = None) -> dict[str, Any]:
        # what this raises, TRL takes for a turn that calls nothing
        assert len(ids) == self.load.tokens, f"{len(ids)} tokens"
        read = self.decode(prefix)
        (number,), call = re.findall(r"number (\d+)", read), read.count("<|im_start|> assistant") - 1
        reply: dict[str, Any] = {"role": "assistant", "content": "x"}
        if call < self.load.calls:
            arguments = {"seconds": self.load.waits[int(number)][call], "words": self.load.words}
            reply["tool_calls"] = [{"type": "function", "function": {"name": "search", "arguments": arguments}}]
        return reply


async def search(seconds: float, words: int) -> str:
    """search

    Args:
        seconds: how long it takes
        words: how much it finds
    """
    await asyncio.sleep(seconds)
    return fact(words)


def no_reward(completions: list[Any], **_: Any) -> list[float]:
    return [0.0] * len(completions)


def asynchronous(load: Load, url: str) -> float:
    """Seconds until TRL's worker has finished as many rollouts as the load has, without their pictures, which it cannot
    read. It keeps as many in play, and begins another for each that ends, so that the slowest is not waited for."""
    from accelerate import PartialState
    from trl.experimental.async_grpo.async_rollout_worker import AsyncRolloutWorker

    # its log asks for it
    PartialState(cpu=True)
    tokenizer = AskingTokenizer.from_pretrained(BUNDLED, padding_side="left")
    tokenizer.chat_template, tokenizer.load = trl_template(), load
    count = len(load.waits)
    rows = [{"prompt": [{"role": "user", "content": f"number {n} which country ?"}]} for n in range(count)]
    worker = AsyncRolloutWorker(
        model_name="atlas",
        dataset=rows,
        reward_funcs=[no_reward],
        processing_class=tokenizer,
        eos_token_ids=[tokenizer.eos_token_id],
        tools=[search],
        num_generations=1,
        max_inflight_tasks=count,
        vllm_server_url=url,
        max_tokens=load.tokens,
        temperature=1.0,
    )
    worker.start()
    began, ended = time.perf_counter(), set[int]()
    try:
        while len(ended) < count:
            sample = worker.rollout_buffer.get(timeout=600)
            assert len(sample.completion) == 2 * load.calls + 1, "TRL did not sample what was asked for"
            ended.add(sample.group_id)
        return time.perf_counter() - began
    finally:
        worker.stop()
