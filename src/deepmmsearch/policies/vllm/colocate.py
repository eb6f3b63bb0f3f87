"""vLLM in the trainer's own process: what waits is sampled together, in a thread beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.policies.vllm.sampling import CountTokens, Sampling, full_window
from deepmmsearch.renderer import Renderer
from deepmmsearch.types import Completion, Trajectory

# Event loops release many episodes one after the other; they should meet in one batch.
LINGER_SECONDS = 0.003


class Engine(Protocol):
    """The part of `vllm.LLM` that is used."""

    def generate(self, prompts: Any, sampling_params: Any, *, use_tqdm: bool) -> Sequence[Any]: ...


@dataclass(frozen=True)
class _Asked:
    prompt: dict[str, Any]
    parameters: dict[str, Any]
    answer: asyncio.Future[Any] = field(compare=False)


class VllmColocatePolicy:
    """Samples turns with a `vllm.LLM` in this process: the one of TRL's colocate mode, or one's own.

    There is no barrier between turns, but episodes that come while a batch is sampled wait for its end. The engine must
    not be split over several ranks (tensor_parallel_size 1), because each rank plays its own episodes. `image_tokens`
    says how many tokens the model makes of a picture: prompts hold one placeholder per picture, which vLLM expands
    itself. `prepare` is called once in the sampling thread, before anything else: on a machine with several GPUs it
    must choose the rank's (`torch.cuda.set_device`), because a new thread starts on the first.
    """

    def __init__(
        self,
        llm: Engine,
        renderer: Renderer,
        sampling: Sampling,
        image_tokens: CountTokens,
        *,
        name: str = "vllm",
        make_parameters: Callable[..., Any] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.llm, self.renderer, self.sampling, self.name = llm, renderer, sampling, name
        self.image_tokens = image_tokens
        self._make_parameters = make_parameters or _sampling_params()
        self._executor = ThreadPoolExecutor(1, "vllm", initializer=prepare)
        self._waiting: list[_Asked] = []
        self._draining: asyncio.Task[None] | None = None

    async def act(self, trajectory: Trajectory) -> Completion:
        """The next turn. Raises UserError when vLLM reads the prompt as another number of tokens than the trainer."""
        sequence = self.renderer.sequence(trajectory)
        length = len(sequence.ids) + sum(self.image_tokens(picture) - 1 for picture in sequence.images)
        budget = self.sampling.budget(length)
        if budget <= 0:
            return full_window(length)
        # One placeholder per picture: vLLM expands it itself, so expanded ids would grow twice.
        prompt: dict[str, Any] = {"prompt_token_ids": list(sequence.ids)}
        if sequence.images:
            prompt["multi_modal_data"] = {"image": list(sequence.images)}
        output = await self._ask(prompt, self.sampling.parameters(trajectory, budget))
        if len(output.prompt_token_ids) != length:
            raise UserError(
                f"vLLM reads a prompt with {len(sequence.images)} pictures as {len(output.prompt_token_ids)} tokens, "
                f"the trainer as {length}. Give both the same preprocessor_config.json (min_pixels, max_pixels)."
            )
        said = output.outputs[0]
        ids = [int(i) for i in said.token_ids]
        logprobs = [float(place[i].logprob) for i, place in zip(ids, said.logprobs, strict=True)]
        return self.sampling.completion(self.renderer, ids, logprobs, str(said.finish_reason), length)

    def close(self) -> None:
        """Ends the sampling thread."""
        self._executor.shutdown()

    async def _ask(self, prompt: dict[str, Any], parameters: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        asked = _Asked(prompt, parameters, loop.create_future())
        self._waiting.append(asked)
        if self._draining is None or self._draining.done() or self._draining.get_loop() is not loop:
            self._draining = loop.create_task(self._drain())
        return await asked.answer

    async def _drain(self) -> None:
        """Samples batch after batch until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(LINGER_SECONDS)
            arrived, self._waiting = self._waiting, []
            batch = [a for a in arrived if not a.answer.done()]
            if not batch:
                continue
            try:
                outputs = await loop.run_in_executor(self._executor, self._generate, batch)
            # A batch that fails (out of memory) must not leave its episodes waiting.
            except Exception as error:
                for asked in batch:
                    if not asked.answer.done():
                        asked.answer.set_exception(error)
                continue
            for asked, output in zip(batch, outputs, strict=True):
                if not asked.answer.done():
                    asked.answer.set_result(output)

    def _generate(self, batch: list[_Asked]) -> Sequence[Any]:
        parameters = [self._make_parameters(**a.parameters) for a in batch]
        outputs = self.llm.generate([a.prompt for a in batch], parameters, use_tqdm=False)
        assert len(outputs) == len(batch), f"vLLM answered {len(outputs)} of {len(batch)} prompts"
        return outputs


def _sampling_params() -> Callable[..., Any]:
    try:
        from vllm import SamplingParams
    except ImportError:
        raise MissingExtra("vLLM in this process", "vllm") from None

    def make(**parameters: Any) -> Any:
        bias = parameters.pop("logit_bias")
        return SamplingParams(**parameters, logit_bias=bias and {int(i): value for i, value in bias.items()})

    return make
