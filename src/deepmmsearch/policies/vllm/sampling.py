"""How tokens are drawn, and what becomes of them: the same for a server and for an engine in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from deepmmsearch.errors import UserError
from deepmmsearch.renderer import Renderer
from deepmmsearch.types import Completion, Finish, Trajectory

# vLLM adds it to the logit: exp(-100) is no probability, and it holds after any temperature below 10.
NEVER = -100.0

CountTokens = Callable[[Image], int]


@dataclass(frozen=True)
class Sampling:
    """`context` bounds prompt and completion together, in tokens. `banned` are the ids that would break a conversation
    (placeholders, the start of a turn, rows that are no token), `ends` those that end a turn:
    `policies.local.sampleable.banned_ids` and `end_ids` name them for a model. `temperature` 0 is greedy.

    The seed of a turn is made of `seed`, the question's id, its `metadata["rollout"]` and the turn's number, as in
    `LocalPolicy`; but vLLM's sums depend on who shares the batch, so a rollout does not repeat to the last bit.
    """

    context: int
    max_new_tokens: int = 1024
    temperature: float = 1.0
    seed: int = 0
    banned: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def budget(self, prompt: int) -> int:
        """Tokens that may be sampled after a prompt of so many."""
        return min(self.max_new_tokens, self.context - prompt)

    def parameters(self, trajectory: Trajectory, budget: int) -> dict[str, Any]:
        """The arguments of vLLM's SamplingParams for the next turn."""
        question = trajectory.question
        place = f"{self.seed}|{question.id}|{question.metadata.get('rollout', 0)}|{len(trajectory.turns)}"
        return {
            "n": 1,
            "temperature": self.temperature,
            "max_tokens": budget,
            # No more than 63 bits; the sampled token's logprob alone.
            "seed": int.from_bytes(hashlib.sha256(place.encode()).digest()[:7], "big"),
            "logprobs": 0,
            "stop_token_ids": list(self.ends),
            "logit_bias": {str(i): bias for i, bias in self.bias.items()} or None,
        }

    @property
    def bias(self) -> dict[int, float]:
        """What is added to the logits of the tokens that are ruled out."""
        return dict.fromkeys(self.banned, NEVER)

    def completion(
        self, renderer: Renderer, ids: Sequence[int], logprobs: Sequence[float], reason: str, prompt: int
    ) -> Completion:
        """What was sampled, verbatim. Raises ValueError where ids and logprobs do not belong together, or vLLM gave
        up."""
        if len(ids) != len(logprobs):
            raise ValueError(f"vLLM returned {len(ids)} ids but {len(logprobs)} logprobs")
        if reason not in ("stop", "length"):
            raise ValueError(f"vLLM ended a completion with {reason!r} instead of 'stop' or 'length'")
        finish: Finish = "stop"
        if reason == "length":
            finish = "length" if self.budget(prompt) == self.max_new_tokens else "context"
        said = list(ids[:-1] if ids and ids[-1] in {*self.ends, renderer.end_id} else ids)
        text = renderer.tokenizer.decode(said, skip_special_tokens=False) if said else ""
        return Completion(text, tuple(ids), tuple(logprobs), finish, prompt)


def full_window(prompt: int) -> Completion:
    """There is no room for even one token."""
    return Completion("", (), (), "context", prompt)


def refuse_other_size(picture: Image, theirs: int, ours: int) -> None:
    """Raises UserError where vLLM makes another number of tokens of a picture than the trainer."""
    if theirs != ours:
        raise UserError(
            f"vLLM reads a picture of {picture.width} x {picture.height} pixels as {theirs} tokens, the trainer as "
            f"{ours}. Give both the same preprocessor_config.json (min_pixels, max_pixels)."
        )
