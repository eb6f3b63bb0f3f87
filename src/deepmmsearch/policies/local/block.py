"""Keys and values of episodes: in a block while they are decoded, parked between their turns."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from deepmmsearch.errors import UserError

# Each of these takes a mask of four axes, positions on three, and encoded pictures; others are untried.
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
ROWS_STEP, TOKENS_STEP = 8, 128


@dataclass(frozen=True)
class KeptCache:
    """What is kept of an episode: `keys` and `values` hold one tensor per layer, [heads, len(ids), size]; `pictures`
    are the digests of the pictures among the tokens."""

    ids: list[int]
    pictures: tuple[str, ...]
    keys: list[Tensor]
    values: list[Tensor]

    def begins(self, ids: Sequence[int], pictures: Sequence[str]) -> bool:
        """Whether these tokens and pictures go on from what is kept."""
        same = list(ids[: len(self.ids)]) == self.ids and tuple(pictures[: len(self.pictures)]) == self.pictures
        return same and len(ids) > len(self.ids)


class Block(Cache):
    """Keys and values of the rows that are decoded together, one behind the other, each from column 0 on."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.rows, self.room, self.width = 0, 0, 0
        self.span, self.read = range(0), 0
        self.where: tuple[Tensor, Tensor] = (torch.zeros(0), torch.zeros(0))
        self._additive = model.dtype if model.config._attn_implementation == "eager" else None
        config = model.config.get_text_config()
        super().__init__(layers=[_Layer(self) for _ in range(config.num_hidden_layers)])

    def extend(self, rows: int, width: int) -> None:
        """Room for `rows` more rows, and for `width` tokens in each."""
        self.rows += rows
        if self.rows <= self.room and width <= self.width:
            return
        self.room = max(self.room, -(-self.rows // ROWS_STEP) * ROWS_STEP)
        self.width = max(self.width, -(-width // TOKENS_STEP) * TOKENS_STEP)
        for layer in self._layers():
            layer.resize()

    def aim(self, rows: range, starts: Tensor, tokens: int, device: torch.device) -> Tensor:
        """Says where the next forward pass writes; the mask of what it sees, [rows, 1, tokens, columns]."""
        self.span, self.read = rows, int(starts.max()) + tokens
        columns = starts.to(device)[:, None] + torch.arange(tokens, device=device)
        self.where = (torch.arange(len(rows), device=device)[:, None], columns)
        seen = torch.arange(self.read, device=device) <= columns[:, :, None]
        if self._additive is None:
            return seen[:, None]
        return torch.where(seen, 0.0, torch.finfo(self._additive).min).to(self._additive)[:, None]

    def put(self, row: int, slot: KeptCache) -> None:
        for layer, keys, values in zip(self._layers(), slot.keys, slot.values, strict=True):
            layer.write(row, keys, values)

    def repeat(self, row: int, length: int) -> None:
        """Appends a copy of a row."""
        self.extend(1, length)
        for layer in self._layers():
            layer.copy(row, self.rows - 1, length)

    def take(self, row: int, ids: list[int], pictures: tuple[str, ...]) -> KeptCache:
        """A copy of the first len(ids) tokens of a row, which are these."""
        kept = [layer.part(row, len(ids)) for layer in self._layers()]
        return KeptCache(ids, pictures, [keys for keys, _ in kept], [values for _, values in kept])

    def remove(self, row: int, last_length: int) -> None:
        """Takes a row out; the last one, `last_length` tokens long, moves into the gap."""
        self.rows -= 1
        if row != self.rows:
            for layer in self._layers():
                layer.copy(self.rows, row, last_length)

    def _layers(self) -> list[_Layer]:
        return [layer for layer in self.layers if isinstance(layer, _Layer)]


class _Layer(CacheLayerMixin):
    """One layer of a block, [room, heads, width, size]."""

    is_sliding = False

    def __init__(self, block: Block) -> None:
        super().__init__()
        # a block that knows its layers and is known to them would outlive its use until the next garbage collection
        self.block = weakref.proxy(block)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        # Zeros: what is masked counts for nothing only if it is a number.
        room, width = self.block.room, self.block.width
        self.keys = key_states.new_zeros(room, key_states.shape[1], width, key_states.shape[3])
        self.values = value_states.new_zeros(room, value_states.shape[1], width, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        span, (rows, columns) = self.block.span, self.block.where
        keys, values = self.keys[span.start : span.stop], self.values[span.start : span.stop]
        keys[rows, :, columns] = key_states.transpose(1, 2)
        values[rows, :, columns] = value_states.transpose(1, 2)
        return keys[:, :, : self.block.read], values[:, :, : self.block.read]

    def resize(self) -> None:
        if self.keys is not None and self.values is not None:
            self.keys, self.values = (self._grown(tensor) for tensor in (self.keys, self.values))

    def _grown(self, old: Tensor) -> Tensor:
        room, heads, width, size = old.shape
        new = old.new_zeros(self.block.room, heads, self.block.width, size)
        new[:room, :, :width] = old
        return new

    def write(self, row: int, keys: Tensor, values: Tensor) -> None:
        if not self.is_initialized:
            self.lazy_initialization(keys[None], values[None])
        assert self.keys is not None and self.values is not None
        self.keys[row, :, : keys.shape[1]] = keys
        self.values[row, :, : values.shape[1]] = values

    def copy(self, source: int, target: int, length: int) -> None:
        assert self.keys is not None and self.values is not None
        self.keys[target, :, :length] = self.keys[source, :, :length]
        self.values[target, :, :length] = self.values[source, :, :length]

    def part(self, row: int, length: int) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None
        return self.keys[row, :, :length].clone(), self.values[row, :, :length].clone()

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.block.read, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.block.width


def refuse_unusual(config: PreTrainedConfig) -> None:
    """Raises UserError for models whose cache cannot be kept between turns."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    # None until the weights are loaded
    attention = config._attn_implementation or "sdpa"
    if config.model_type not in FAMILIES:
        problem = f"it is a {config.model_type} model, and slots are known to work for {', '.join(FAMILIES)}"
    elif kinds != {"full_attention"} or getattr(text, "num_kv_shared_layers", None):
        problem = f"its layers keep caches of other kinds ({', '.join(sorted(kinds))})"
    elif attention not in ("sdpa", "eager"):
        problem = f"it runs with attn_implementation={attention!r}; load it with 'sdpa'"
    else:
        return
    raise UserError(f"The cache of this model cannot be kept between turns: {problem}. Set rollouts.backend to local.")
