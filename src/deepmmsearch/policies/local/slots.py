"""The model in this process with a kept cache: what an episode has read is not read again after its tool.

The keys and values of an episode are parked in its slot while its tool runs. When it comes back, only what is new (the
bridge, the observation and its pictures) is prefilled. Rows join and leave a batch between two tokens, and rollouts
that begin with the same prompt share its prefill. Tokens and logprobs are those of `LocalPolicy`.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, CacheLayerMixin

from deepmmsearch.agent.dialect import parse_action
from deepmmsearch.errors import UserError
from deepmmsearch.policies.card import AgentCard
from deepmmsearch.policies.local.policy import LocalPolicy, episode_name
from deepmmsearch.policies.local.queue import Asked
from deepmmsearch.policies.local.vision import Features
from deepmmsearch.types import Answer, Completion, Trajectory

# Each of these takes a mask of four axes, positions on three, and encoded pictures; others are untried.
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
# Tokens of one prefill, padding included: bounds the memory of attention masks and activations.
PREFILL_TOKENS = 16384
ROWS_STEP, TOKENS_STEP = 8, 128


@dataclass(frozen=True)
class Slot:
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


@dataclass
class Counts:
    """Tokens since the start: `prefilled` were computed, `kept` came from a slot, `shared` from a rollout with the same
    prompt; `evicted` counts slots."""

    prefilled: int = 0
    kept: int = 0
    shared: int = 0
    evicted: int = 0


class SlotPolicy(LocalPolicy):
    """A `LocalPolicy` that keeps the cache of an episode between its turns.

    It pays where episodes are long: see docs/policies.md. At most `slots` episodes are kept while their tools run (the
    one that waits longest goes first; it is then read again). A slot is found by the question's id and its
    `metadata["rollout"]`, and used only if its tokens and pictures are those that the episode begins with. Call `reset`
    whenever the weights change. Raises UserError for models whose cache cannot be kept in this way.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        *,
        card: AgentCard | None = None,
        name: str = "local",
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        context: int | None = None,
        max_batch: int = 64,
        slots: int = 64,
    ) -> None:
        refuse_unusual(model.config)
        if slots < 1:
            raise UserError(f"There are {slots} slots, but 1 or more are expected.")
        super().__init__(
            model,
            tokenizer,
            image_processor,
            card=card,
            name=name,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            context=context,
            max_batch=max_batch,
        )
        self.slots, self.counts = slots, Counts()
        self._lock = threading.Lock()
        self._parked: OrderedDict[str, Slot] = OrderedDict()
        self._spare: list[_Block] = []
        self._age = 0

    async def act(self, trajectory: Trajectory) -> Completion:
        """The next turn. Raises UserError when the tokenizer cannot render the trajectory."""
        completion = await super().act(trajectory)
        ended = completion.finish == "stop"
        if not ended or isinstance(parse_action(completion.text, trajectory.prompt.dialect), Answer):
            self.release(trajectory)
        return completion

    def release(self, trajectory: Trajectory) -> None:
        """Frees the slot of an episode that will not go on; those that answer or run out of tokens need no call."""
        with self._lock:
            self._parked.pop(episode_name(trajectory), None)

    def reset(self) -> None:
        """Forgets every episode and picture: what other weights made of them is worth nothing."""
        with self._lock:
            self._age += 1
            self._parked.clear()
            self._spare.clear()
        self._eyes.forget()

    @torch.inference_mode()
    def _decode(self, asked: list[Asked]) -> None:
        """Works on a batch that rows join and leave, until nothing is left to do."""
        if self.model.training:
            self.model.eval()
        with self._lock:
            age = self._age
            block = self._spare.pop() if self._spare else _Block(self.model)
        live: list[_Going] = []
        joining = list(asked)
        while joining or live:
            if joining:
                live += self._enter(block, joining)
            self._leave(block, live)
            if live:
                self._step(block, live)
                self._leave(block, live)
            asked[:] = [a for a in asked if not a.over]
            joining = self._queue.join(len(live))
            asked += joining
        with self._lock:
            if age == self._age:
                self._spare.append(block)

    def _enter(self, block: _Block, joining: list[Asked]) -> list[_Going]:
        """Prefills rows behind those in the block, and samples their first tokens."""
        new = [self._going(asked) for asked in joining]
        leaders: dict[tuple[Any, ...], _Going] = {}
        twins: list[tuple[_Going, _Going]] = []
        for going in new:
            first = leaders.setdefault(going.identity, going)
            if first is not going:
                twins.append((going, first))
        entered: list[_Going] = []
        for group in _groups(list(leaders.values())):
            logits = self._prefill(block, group)
            row_of = {id(going): i for i, going in enumerate(group)}
            copies = [(twin, row_of[id(first)]) for twin, first in twins if id(first) in row_of]
            before = block.rows - len(group)
            for twin, row in copies:
                block.repeat(before + row, len(twin.asked.row.ids))
                self._count(shared=len(twin.asked.row.ids))
            everyone = [*group, *(twin for twin, _ in copies)]
            self._take(everyone, logits[[*range(len(group)), *(row for _, row in copies)]])
            for going in everyone:
                going.cached = len(going.asked.row.ids)
                going.slot = None
            entered += everyone
        return entered

    def _going(self, asked: Asked) -> _Going:
        row = asked.row
        pictures = tuple(f.digest for f in row.features)
        with self._lock:
            slot, age = self._parked.pop(row.episode, None), self._age
        if slot is None or not slot.begins(row.ids, pictures):
            return _Going(asked, pictures, age)
        self._count(kept=len(slot.ids))
        return _Going(asked, pictures, age, len(slot.ids), slot)

    def _prefill(self, block: _Block, group: list[_Going]) -> Tensor:
        """Reads what the slots of these rows do not hold; [rows, vocabulary] of the next token."""
        new = [going.asked.row.ids[going.cached :] for going in group]
        longest = max(map(len, new))
        rows = range(block.rows, block.rows + len(group))
        block.extend(len(group), max(going.cached for going in group) + longest)
        ids = torch.full((len(group), longest), int(self.tokenizer.pad_token_id or 0))
        position = torch.zeros(group[0].asked.row.positions.shape[0], len(group), longest, dtype=torch.long)
        for i, (going, tokens) in enumerate(zip(group, new, strict=True)):
            if going.slot is not None:
                block.put(rows[i], going.slot)
            ids[i, : len(tokens)] = torch.tensor(tokens)
            position[:, i, : len(tokens)] = going.asked.row.positions[:, going.cached :]
        self._count(prefilled=sum(map(len, new)))
        pictures = [f for going in group for f in going.new_features]
        last = torch.tensor([len(tokens) - 1 for tokens in new])
        starts = torch.tensor([going.cached for going in group])
        return self._read(block, rows, ids, position, starts, last, self._eyes.merge(pictures))

    def _step(self, block: _Block, live: list[_Going]) -> None:
        """One more token for every row."""
        block.extend(0, max(going.cached for going in live) + 1)
        ids = torch.tensor([[going.asked.row.sampled[-1]] for going in live])
        axes = live[0].asked.row.positions.shape[0]
        position = torch.tensor([[going.position] for going in live])[None].expand(axes, -1, -1)
        starts = torch.tensor([going.cached for going in live])
        last = torch.zeros(len(live), dtype=torch.long)
        logits = self._read(block, range(len(live)), ids, position, starts, last, {})
        self._take(live, logits)
        for going in live:
            going.cached += 1

    def _read(
        self,
        block: _Block,
        rows: range,
        ids: Tensor,
        position: Tensor,
        starts: Tensor,
        last: Tensor,
        extra: dict[str, Any],
    ) -> Tensor:
        """Reads `ids` [rows, tokens] from column `starts` [rows] on; logits [rows, vocabulary] after token `last`."""
        device = self.model.device
        mask = block.aim(rows, starts, ids.shape[1], device)
        ids, position, last = ids.to(device), position.to(device), last.to(device)
        out = self.model.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position if position.shape[0] > 1 else position[0],
            cache=block,
            use_cache=True,
            **extra,
        )
        hidden = out.last_hidden_state[torch.arange(len(last), device=device), last]
        head = self.model.get_output_embeddings()
        assert head is not None
        logits: Tensor = head(hidden).float()
        logits[:, self._banned] = -torch.inf
        return logits

    def _take(self, rows: list[_Going], logits: Tensor) -> None:
        tokens, logprobs = self._choose(logits, [going.asked.row for going in rows])
        for going, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
            going.asked.row.take(token, logprob, self._ends)

    def _leave(self, block: _Block, live: list[_Going]) -> None:
        """Parks and answers the rows that have ended; the last row moves into each gap."""
        for i in reversed(range(len(live))):
            going = live[i]
            row = going.asked.row
            if row.finish is None and not going.asked.over:
                continue
            if row.finish == "stop" and row.episode:
                self._park(row.episode, block.slot(i, going), going.age)
            block.remove(i, live[-1].cached)
            live[i] = live[-1]
            live.pop()
            if not going.asked.over:
                going.asked.answer(self._completion(row))

    def _park(self, episode: str, slot: Slot, age: int) -> None:
        with self._lock:
            if age != self._age:
                return
            self._parked[episode] = slot
            self._parked.move_to_end(episode)
            while len(self._parked) > self.slots:
                self._parked.popitem(last=False)
                self.counts.evicted += 1

    def _count(self, *, prefilled: int = 0, kept: int = 0, shared: int = 0) -> None:
        with self._lock:
            self.counts.prefilled += prefilled
            self.counts.kept += kept
            self.counts.shared += shared


@dataclass
class _Going:
    """A row of a batch: its first `cached` tokens are in the block, or in `slot` until it is entered. `age` tells
    whether there was a reset since it came."""

    asked: Asked
    pictures: tuple[str, ...]
    age: int
    cached: int = 0
    slot: Slot | None = None
    after: int = field(init=False)

    def __post_init__(self) -> None:
        # Text after the prompt goes on from the largest position on any axis.
        self.after = int(self.asked.row.positions.max()) + 1

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for rows that can share their prefill: those that start from nothing with the same prompt."""
        return (id(self),) if self.slot is not None else (self.pictures, tuple(self.asked.row.ids))

    @property
    def new_features(self) -> list[Features]:
        return self.asked.row.features[len(self.slot.pictures) if self.slot is not None else 0 :]

    @property
    def position(self) -> int:
        """Of the token sampled last."""
        return self.after + len(self.asked.row.sampled) - 1


def _groups(rows: list[_Going]) -> list[list[_Going]]:
    """Rows with a similar number of new tokens together: padding costs as much as text."""
    groups: list[list[_Going]] = []
    longest = 0
    for going in sorted(rows, key=lambda g: g.cached - len(g.asked.row.ids)):
        new = len(going.asked.row.ids) - going.cached
        if not groups or 2 * new < longest or (len(groups[-1]) + 1) * longest > PREFILL_TOKENS:
            groups.append([])
            longest = new
        groups[-1].append(going)
    return groups


class _Block(Cache):
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

    def put(self, row: int, slot: Slot) -> None:
        for layer, keys, values in zip(self._layers(), slot.keys, slot.values, strict=True):
            layer.write(row, keys, values)

    def repeat(self, row: int, length: int) -> None:
        """Appends a copy of a row."""
        self.extend(1, length)
        for layer in self._layers():
            layer.copy(row, self.rows - 1, length)

    def slot(self, row: int, going: _Going) -> Slot:
        # The token sampled last has not been read yet.
        asked = going.asked.row
        ids = [*asked.ids, *asked.sampled][: going.cached]
        kept = [layer.part(row, going.cached) for layer in self._layers()]
        return Slot(ids, going.pictures, [keys for keys, _ in kept], [values for _, values in kept])

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

    def __init__(self, block: _Block) -> None:
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
