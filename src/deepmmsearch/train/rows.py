"""Rollouts as training batches for GRPO: prompts padded on the left, what follows on the right, pictures as features.

Every sampled token is a training token with its own log probability; everything a tool wrote has mask 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from deepmmsearch.policies.local.vision import Eyes
from deepmmsearch.renderer import Renderer
from deepmmsearch.train.rollouts import Rollout
from deepmmsearch.types import TokenSequence


@dataclass(frozen=True)
class RolloutRow:
    """One rollout as tokens, placeholders expanded; the first `start` tokens are the prompt. `views` are its pictures
    in order, as the model sees them. `advantage` is 0 and `mask` empty for a rollout that is left out."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    logprobs: NDArray[np.float32]
    start: int
    views: tuple[Image, ...]
    advantage: float = 0.0


def make_row(rollout: Rollout, renderer: Renderer, eyes: Eyes, advantage: float | None) -> RolloutRow:
    """`advantage` None leaves the rollout out of the loss. Raises UserError where the sampler hid its token ids."""
    sequence = renderer.sequence(rollout.trajectory)
    features = [eyes.features(view) for view in sequence.images]
    expanded = renderer.expand_sequence(sequence, [f.ids for f in features])
    _check(expanded, renderer.image_id, sum(f.count for f in features))
    ids, mask = list(expanded.ids), list(expanded.mask)
    logprobs = list(expanded.logprobs)
    if 1 not in mask:
        # a rollout that never began: one token that nobody sampled keeps the batch in shape
        ids, mask, logprobs = [*ids, renderer.end_id], [*mask, 0], [*logprobs, 0.0]
        start = len(ids) - 1
    else:
        start = mask.index(1)
    keep = np.array(mask, dtype=np.bool_) & (advantage is not None)
    return RolloutRow(
        np.array(ids, dtype=np.int32),
        keep,
        np.array(logprobs, dtype=np.float32),
        start,
        sequence.images,
        advantage or 0.0,
    )


def _check(sequence: TokenSequence, image_id: int | None, features: int) -> None:
    placeholders = sequence.ids.count(image_id) if image_id is not None else 0
    assert placeholders == features, f"{placeholders} placeholders for {features} image features"
    sampled = [i for i, m in zip(sequence.ids, sequence.mask, strict=True) if m]
    assert image_id not in sampled, "an image placeholder was sampled"


def make_batch(rows: Sequence[RolloutRow], pad: int, device: torch.device) -> dict[str, Any]:
    """What TRL's loss reads: prompt_ids, prompt_mask [rows, longest prompt], padded on the left; completion_ids,
    completion_mask, tool_mask, sampling_per_token_logps [rows, longest completion], on the right; advantages [rows];
    and the rows themselves, from which their pictures are taken."""
    left = max(row.start for row in rows)
    right = max(len(row.ids) - row.start for row in rows)
    shape = (len(rows), right)
    prompt = torch.full((len(rows), left), pad, dtype=torch.long)
    prompt_mask = torch.zeros((len(rows), left), dtype=torch.long)
    completion = torch.full(shape, pad, dtype=torch.long)
    completion_mask, tool_mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    logprobs = torch.zeros(shape)
    for i, row in enumerate(rows):
        length = len(row.ids) - row.start
        prompt[i, left - row.start :] = torch.from_numpy(row.ids[: row.start])
        prompt_mask[i, left - row.start :] = 1
        completion[i, :length] = torch.from_numpy(row.ids[row.start :])
        completion_mask[i, :length] = 1
        tool_mask[i, :length] = torch.from_numpy(row.mask[row.start :])
        logprobs[i, :length] = torch.from_numpy(row.logprobs[row.start :])
    tensors = {
        "prompt_ids": prompt,
        "prompt_mask": prompt_mask,
        "completion_ids": completion,
        "completion_mask": completion_mask,
        "tool_mask": tool_mask,
        "sampling_per_token_logps": logprobs,
        "advantages": torch.tensor([row.advantage for row in rows]),
    }
    return {name: tensor.to(device) for name, tensor in tensors.items()} | {"rows": list(rows)}


def picture_inputs(rows: Sequence[RolloutRow], eyes: Eyes) -> dict[str, Any]:
    """`view_inputs` of all pictures of a batch, in order."""
    return view_inputs([view for row in rows for view in row.views], eyes)


def view_inputs(views: Sequence[Image], eyes: Eyes) -> dict[str, Any]:
    """The model's arguments for pictures, each encoded once for all rows and epochs: the vision tower is frozen."""
    features = [eyes.features(view) for view in views]
    if not features:
        return {}
    given = eyes.merge(features)
    grids: list[Tensor] = [feature.grid for feature in features if feature.grid is not None]
    if grids:
        given["image_grid_thw"] = torch.cat(grids).to(features[0].tokens.device)
    return given
