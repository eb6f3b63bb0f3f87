"""A finished episode as verl takes it: an opening, a response, and which tokens of that were sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL.Image import Image

from deepmmsearch.policies.vllm.sampling import CountTokens
from deepmmsearch.renderer import Renderer
from deepmmsearch.types import Trajectory


@dataclass(frozen=True)
class TokenRow:
    """`opening`: ids before the first one sampled; `response`: those from there on; of these, `mask` is 1 where one was
    sampled and is to be learned from, and `logprobs` are 0.0 where it was not sampled. Each of `pictures` has as many
    placeholders as the model makes tokens of it."""

    opening: Sequence[int]
    response: Sequence[int]
    mask: Sequence[int]
    logprobs: Sequence[float]
    pictures: Sequence[Image]


def token_row(trajectory: Trajectory, renderer: Renderer, image_tokens: CountTokens, *, learn: bool) -> TokenRow:
    """The row of an episode, up to the last token that was sampled: what came after it nobody answered. `learn`: may
    anything be learned from it? Where nothing was sampled it is an empty one, of two ends of a turn."""
    turns = trajectory.turns
    while turns and not turns[-1].completion.ids:
        turns = turns[:-1]
    if not turns:
        return TokenRow((renderer.end_id,), (renderer.end_id,), (0,), (0.0,), ())
    # the last observation is left out of an episode that is over
    sequence = renderer.sequence(replace(trajectory, turns=turns, stop=trajectory.stop or "cut"))
    whole = renderer.expand_sequence(sequence, [image_tokens(picture) for picture in sequence.images])
    start = whole.mask.index(1)
    mask = whole.mask[start:] if learn else (0,) * (len(whole.mask) - start)
    return TokenRow(whole.ids[:start], whole.ids[start:], mask, whole.logprobs[start:], whole.images)
