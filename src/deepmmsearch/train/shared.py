"""Log probabilities of rollouts that begin with the same prompt: the prompt is computed once, forward and backward.

The prompt's keys and values stay in the graph and are repeated for each rollout, so that gradients of all of them flow
through the one prompt. Eight rollouts of 3 k tokens on a prompt of 1.5 k compute half the tokens that way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import DynamicCache

from deepmmsearch.policies.local.vision import Eyes
from deepmmsearch.train.rows import RolloutRow, view_inputs

# tokens whose logits are in memory at once: 1024 x 152 k x 4 bytes = 0.6 GB
CHUNK = 1024


def groups_of(rows: Sequence[RolloutRow]) -> Iterator[list[RolloutRow]]:
    """Neighbouring rows with the same prompt and the same pictures in it."""
    for _, group in groupby(rows, key=lambda row: (row.ids[: row.start].tobytes(), tuple(map(id, row.views[:1])))):
        yield list(group)


def shared_logps(
    model: Any, rows: Sequence[RolloutRow], width: int, eyes: Eyes, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log probabilities and entropies [rows, width] of what follows the prompt, 0 where nothing was sampled.

    `model` is the language model with its head, an adapter's layers within; `rows` have one prompt. No gradient
    checkpointing: the prompt's keys and values are kept.
    """
    device = model.device
    start, count = rows[0].start, len(rows)
    positions = [eyes.positions(row.ids.tolist(), [eyes.features(view) for view in row.views]) for row in rows]
    ids = torch.from_numpy(rows[0].ids[:start]).long().to(device)[None]
    ahead = _views_within(rows[0], eyes)
    cache = DynamicCache(config=model.config.get_text_config())
    first = model.model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        position_ids=_axes(positions[0][:, None, :start]).to(device),
        cache=cache,
        use_cache=True,
        **view_inputs(rows[0].views[:ahead], eyes),
    ).last_hidden_state
    cache.batch_repeat_interleave(count)
    longest = max(len(row.ids) for row in rows) - start
    after = torch.zeros((count, longest), dtype=torch.long, device=device)
    attention = torch.zeros((count, start + longest), dtype=torch.long, device=device)
    place = torch.zeros((len(positions[0]), count, longest), dtype=torch.long, device=device)
    sampled = torch.zeros((count, longest), dtype=torch.bool, device=device)
    for i, (row, own) in enumerate(zip(rows, positions, strict=True)):
        length = len(row.ids) - start
        after[i, :length] = torch.from_numpy(row.ids[start:])
        attention[i, : start + length] = 1
        place[:, i, :length] = own[:, start:]
        sampled[i, :length] = torch.from_numpy(row.mask[start:])
    hidden = model.model(
        input_ids=after,
        attention_mask=attention,
        position_ids=_axes(place),
        cache=cache,
        use_cache=True,
        **view_inputs([view for row in rows for view in row.views[ahead:]], eyes),
    ).last_hidden_state
    # what is written at a place is predicted by the place before it, the first one by the end of the prompt
    before = torch.cat([first[:, -1:].expand(count, -1, -1), hidden[:, :-1]], dim=1)
    logps, entropies = _score(model.get_output_embeddings(), before[sampled], after[sampled], temperature)
    return _spread(logps, sampled, width), _spread(entropies, sampled, width)


def _axes(positions: Tensor) -> Tensor:
    """[axes, rows, tokens] as the model wants them: a single axis is not told."""
    return positions if len(positions) > 1 else positions[0]


def _views_within(row: RolloutRow, eyes: Eyes) -> int:
    """How many of the row's pictures stand in its prompt."""
    tokens, count = int((row.ids[: row.start] == eyes.family.image_id).sum()), 0
    for view in row.views:
        if tokens <= 0:
            break
        tokens -= eyes.features(view).count
        count += 1
    assert tokens == 0, f"{-tokens} features of a picture lie outside of the prompt"
    return count


def _score(head: Any, hidden: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log probability of each token and the entropy at its place, [tokens]; logits are made in pieces, twice."""

    def piece(part: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        logps = (head(part).float() / temperature).log_softmax(-1)
        with torch.no_grad():
            entropy = -(logps.exp() * logps).sum(-1)
        return logps.gather(1, said[:, None])[:, 0], entropy

    pieces = zip(hidden.split(CHUNK), tokens.split(CHUNK), strict=True)
    if not torch.is_grad_enabled() or len(tokens) <= CHUNK:
        found = [piece(part, said) for part, said in pieces]
    else:
        found = [checkpoint(piece, part, said, use_reentrant=False) for part, said in pieces]
    logps, entropies = zip(*found, strict=True)
    return torch.cat(logps), torch.cat(entropies)


def _spread(values: Tensor, sampled: Tensor, width: int) -> Tensor:
    spread = values.new_zeros((len(sampled), width))
    spread[:, : sampled.shape[1]] = values.new_zeros(sampled.shape).masked_scatter(sampled, values)
    return spread
