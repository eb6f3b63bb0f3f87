"""A policy over verl's client of its sampling servers: tokens in, tokens out, and what is sampled is kept verbatim."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from PIL.Image import Image

from deepmmsearch.errors import Failed, UserError
from deepmmsearch.policies.agent_card import AgentCard
from deepmmsearch.policies.vllm.sampling import CountTokens, Sampling, full_window
from deepmmsearch.renderer import Renderer
from deepmmsearch.types import Completion, Trajectory


class SamplingClient(Protocol):
    """The part of verl's `LLMServerClient` (0.9) that is used. What it gives has `token_ids`, `log_probs`,
    `stop_reason` and `extra_fields`."""

    async def generate(
        self,
        request_id: str,
        *,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        image_data: list[Image] | None = None,
    ) -> Any: ...


@dataclass(frozen=True)
class TokenRoom:
    """Tokens that verl has room for: `opening`, before the first one sampled (`rollout.prompt_length`); `response`,
    from there on (`rollout.response_length`); `whole`, all that its servers read and write (`rollout.max_model_len`).
    """

    opening: int
    response: int
    whole: int

    def context(self, opening: int) -> int:
        """Of an episode that begins with so many tokens, none where it begins with too many."""
        return min(opening + self.response, self.whole) if opening <= self.opening else 0


class ClientPolicy:
    """Samples the turns of one episode, all on the server that the first one came to, which still knows its prefix.

    The episode ends with `context` before it is longer than `room` allows, and nothing of it is cut off. `given` are
    verl's sampling parameters. `versions`: the least and the greatest version of the weights that sampled, where the
    servers tell.
    """

    def __init__(
        self,
        client: SamplingClient,
        renderer: Renderer,
        sampling: Sampling,
        image_tokens: CountTokens,
        room: TokenRoom,
        given: Mapping[str, Any],
        card: AgentCard | None = None,
    ) -> None:
        self._client, self._renderer, self._image_tokens = client, renderer, image_tokens
        self._sampling, self._room, self._given = sampling, room, dict(given)
        self.card = card or AgentCard()
        self._request = uuid.uuid4().hex
        self._opening: int | None = None
        self.versions: tuple[int | None, int | None] = (None, None)

    async def act(self, trajectory: Trajectory) -> Completion:
        """The next turn. Raises Failed where a server gave it up, UserError where none can sample."""
        sequence = self._renderer.sequence(trajectory)
        ids = self._renderer.expand(sequence.ids, [self._image_tokens(picture) for picture in sequence.images])
        if self._opening is None:
            self._opening = len(ids)
        sampling = replace(self._sampling, context=self._room.context(self._opening))
        if (budget := sampling.budget(len(ids))) <= 0:
            return full_window(len(ids))
        parameters = {
            **self._given,
            "max_tokens": budget,
            "stop_token_ids": list(sampling.ends),
            "logit_bias": sampling.bias,
        }
        try:
            said = await self._client.generate(
                self._request,
                prompt_ids=ids,
                sampling_params=parameters,
                image_data=list(sequence.images) or None,
            )
        # a server that is gone fails every episode, and training would go on with nothing
        except Exception as error:
            raise UserError(f"verl's servers cannot sample ({type(error).__name__}: {error}).") from error
        if said.stop_reason == "aborted":
            raise Failed("The server gave the turn up.")
        self._see(said.extra_fields)
        tokens = [int(i) for i in said.token_ids]
        logprobs = [float(value) for value in said.log_probs or [0.0] * len(tokens)]
        reason = "stop" if tokens and tokens[-1] in sampling.ends else "length"
        return sampling.completion(self._renderer, tokens, logprobs, reason, len(ids))

    def _see(self, told: Mapping[str, Any]) -> None:
        first, last = self.versions
        least, most = told.get("min_global_steps"), told.get("max_global_steps")
        self.versions = (
            min((v for v in (first, least) if v is not None), default=None),
            max((v for v in (last, most) if v is not None), default=None),
        )
