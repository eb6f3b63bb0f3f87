"""The model in this process with a kept cache: what an episode has read is not read again after its tool.

The keys and values of an episode are parked in its slot while its tool runs. When it comes back, only what is new (the
bridge, the observation and its pictures) is prefilled. Rows join and leave a batch between two tokens, and rollouts
that begin with the same prompt share its prefill. Tokens and logprobs are those of `LocalPolicy`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase

from deepmmsearch.agent.dialect import parse_action
from deepmmsearch.errors import UserError
from deepmmsearch.policies.agent_card import AgentCard
from deepmmsearch.policies.local.block import Block, KeptCache, refuse_unusual
from deepmmsearch.policies.local.policy import LocalPolicy, episode_name
from deepmmsearch.policies.local.queue import Request
from deepmmsearch.policies.local.vision import PictureFeatures
from deepmmsearch.types import Answer, Completion, Trajectory

# Tokens of one prefill, padding included: bounds the memory of attention masks and activations.
PREFILL_TOKENS = 16384


@dataclass
class SlotCounts:
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
        self.slots, self.counts = slots, SlotCounts()
        self._lock = threading.Lock()
        self._parked: OrderedDict[str, KeptCache] = OrderedDict()
        self._spare: list[Block] = []
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
    def _decode(self, asked: list[Request]) -> None:
        """Works on a batch that rows join and leave, until nothing is left to do."""
        if self.model.training:
            self.model.eval()
        with self._lock:
            age = self._age
            block = self._spare.pop() if self._spare else Block(self.model)
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

    def _enter(self, block: Block, joining: list[Request]) -> list[_Going]:
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

    def _going(self, asked: Request) -> _Going:
        row = asked.row
        pictures = tuple(f.digest for f in row.features)
        with self._lock:
            slot, age = self._parked.pop(row.episode, None), self._age
        if slot is None or not slot.begins(row.ids, pictures):
            return _Going(asked, pictures, age)
        self._count(kept=len(slot.ids))
        return _Going(asked, pictures, age, len(slot.ids), slot)

    def _prefill(self, block: Block, group: list[_Going]) -> Tensor:
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

    def _step(self, block: Block, live: list[_Going]) -> None:
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
        block: Block,
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

    def _leave(self, block: Block, live: list[_Going]) -> None:
        """Parks and answers the rows that have ended; the last row moves into each gap."""
        for i in reversed(range(len(live))):
            going = live[i]
            row = going.asked.row
            if row.finish is None and not going.asked.over:
                continue
            if row.finish == "stop" and row.episode:
                self._park(row.episode, block.take(i, going.tokens, going.pictures), going.age)
            block.remove(i, live[-1].cached)
            live[i] = live[-1]
            live.pop()
            if not going.asked.over:
                going.asked.answer(self._completion(row))

    def _park(self, episode: str, slot: KeptCache, age: int) -> None:
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

    asked: Request
    pictures: tuple[str, ...]
    age: int
    cached: int = 0
    slot: KeptCache | None = None
    after: int = field(init=False)

    def __post_init__(self) -> None:
        # Text after the prompt goes on from the largest position on any axis.
        self.after = int(self.asked.row.positions.max()) + 1

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for rows that can share their prefill: those that start from nothing with the same prompt."""
        return (id(self),) if self.slot is not None else (self.pictures, tuple(self.asked.row.ids))

    @property
    def new_features(self) -> list[PictureFeatures]:
        return self.asked.row.features[len(self.slot.pictures) if self.slot is not None else 0 :]

    @property
    def tokens(self) -> list[int]:
        """Those that were read, which the one sampled last was not."""
        return [*self.asked.row.ids, *self.asked.row.sampled][: self.cached]

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
