"""The model in this process, through transformers: token-exact, and batched over whatever episodes wait.

What is sampled does not depend on who shares the batch: rows are seeded by their place in the episode, pictures are
encoded one by one, and padding is masked. Only the last bits of floating-point sums differ, so a greedy choice can
flip where two tokens are nearer than those bits (in float32 about 1e-5 of a logit); on CPU float32 is the default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from deepmmsearch.errors import UserError
from deepmmsearch.policies.agent_card import AgentCard
from deepmmsearch.policies.local.adapter import check_adapter, load_adapter
from deepmmsearch.policies.local.checkpoint import load_checkpoint
from deepmmsearch.policies.local.device import find_device, find_dtype
from deepmmsearch.policies.local.families import find_family
from deepmmsearch.policies.local.queue import BatchRow, Queue, Request
from deepmmsearch.policies.local.sampleable import banned_ids, end_ids, window
from deepmmsearch.policies.local.template import template_of
from deepmmsearch.policies.local.vision import Eyes
from deepmmsearch.renderer import Message, Renderer
from deepmmsearch.types import Completion, Trajectory

MAX_NEW_TOKENS = 1024
# Below this many parameters, two threads of one product wait for each other longer than they compute, so each thread
# decodes its own batch instead.
SMALL_MODEL = 50_000_000


class LocalPolicy:
    """A vision-language model with a chat template, in this process.

    `temperature` 0 is greedy. Sampled tokens are drawn with a seed made of `seed`, the question's id, its
    `metadata["rollout"]` and the turn's number, so rollouts of one question must differ in `rollout`. `logprobs` are
    those of the sampling distribution (of the unscaled one where decoding is greedy), after the tokens that would
    break a conversation are ruled out. `context` bounds prompt and completion together, in tokens. At most `max_batch`
    requests are decoded in one batch; those of similar length are put together. The model is put into evaluation
    mode.
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
    ) -> None:
        if temperature < 0:
            raise UserError(f"The temperature is {temperature}, but 0 (greedy) or more is expected.")
        card = card or AgentCard()
        self.model, self.tokenizer, self.card, self.name = model, tokenizer, card, name
        self.max_new_tokens = max_new_tokens or card.max_new_tokens or MAX_NEW_TOKENS
        self.temperature, self.seed, self.max_batch = temperature, seed, max_batch
        self.context = context or window(model, tokenizer)
        family = find_family(model.config, tokenizer, image_processor, card)
        self._eyes = Eyes(model, family)
        template = template_of(tokenizer)
        self.renderer = Renderer(tokenizer, image_token=family.image_token, view=family.view, template=template)
        self._ends = end_ids(model, self.renderer.end_id)
        self._banned = banned_ids(model, family, self._ends, self.renderer.image_id)
        small = model.device.type == "cpu" and model.num_parameters() < SMALL_MODEL
        threads = torch.get_num_threads()
        workers, threads = (min(2, threads), 1) if small else (1, threads)
        self._queue = Queue(self._decode, max_batch, workers, threads)

    @property
    def model_type(self) -> str:
        """What tells how the model writes boxes."""
        return str(self.model.config.model_type)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        adapter: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        context: int | None = None,
        max_batch: int = 64,
    ) -> LocalPolicy:
        """A checkpoint folder or the name of a model on the Hub; `adapter` is a LoRA folder, merged on loading.

        `dtype` auto is float32 on CPU, else the checkpoint's own. Raises UserError when there is no such model, it is
        not a vision-language model, or device or dtype are unknown.
        """
        place = find_device(device)
        numbers = find_dtype(dtype, place)
        if adapter is not None:
            check_adapter(adapter)
        checkpoint = load_checkpoint(source, numbers)
        model = checkpoint.model
        if adapter is not None:
            model = load_adapter(model, adapter).merge_and_unload()
        return cls(
            model.to(place),
            checkpoint.tokenizer,
            checkpoint.image_processor,
            card=checkpoint.card,
            name=str(source),
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            context=context,
            max_batch=max_batch,
        )

    async def act(self, trajectory: Trajectory) -> Completion:
        """The next turn. Raises UserError when the tokenizer cannot render the trajectory."""

        def prepare() -> BatchRow:
            sequence = self.renderer.sequence(trajectory)
            episode = episode_name(trajectory)
            row = self._row(sequence.ids, sequence.images, f"{episode}|{len(trajectory.turns)}")
            row.episode = episode
            return row

        return await self._queue.ask(prepare)

    async def complete(self, conversation: Sequence[Message], pictures: Sequence[Image] = ()) -> Completion:
        """The reply to a conversation in transformers' format, whose `image` parts stand for `pictures` in order."""

        def prepare() -> BatchRow:
            text = self.renderer.render(self.renderer.harmless(conversation))
            ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
            return self._row(ids, [self.view(p) for p in pictures], hashlib.sha256(text.encode()).hexdigest())

        return await self._queue.ask(prepare)

    def view(self, image: Image) -> Image:
        """The image as the model sees it; its boxes are in pixels of this."""
        return self._eyes.family.view(image)

    def _row(self, ids: Sequence[int], views: Sequence[Image], place: str) -> BatchRow:
        """One request, ready to decode: placeholders expanded, pictures encoded, positions and seed fixed."""
        features = [self._eyes.features(view) for view in views]
        expanded = self.renderer.expand(ids, [f.ids for f in features])
        room = self.context - len(expanded)
        budget = min(self.max_new_tokens, room)
        row = BatchRow(expanded, features, budget, "context" if room < self.max_new_tokens else "length")
        if budget > 0:
            row.positions = self._eyes.positions(expanded, features)
            if self.temperature > 0:
                seed = int.from_bytes(hashlib.sha256(f"{self.seed}|{place}".encode()).digest()[:7], "big")
                generator = torch.Generator().manual_seed(seed)
                row.draws = torch.rand(budget, generator=generator, dtype=torch.float64)
        return row

    @torch.inference_mode()
    def _decode(self, asked: list[Request]) -> None:
        """Prefills and decodes one batch; every row is answered as soon as it ends, and leaves the batch."""
        if self.model.training:
            self.model.eval()
        rows = [a.row for a in asked]
        device = self.model.device
        length = max(len(r.ids) for r in rows)
        steps = max(r.budget for r in rows)
        ids = torch.full((len(rows), length), int(self.tokenizer.pad_token_id or 0))
        seen = torch.zeros(len(rows), length + steps, dtype=torch.long)
        position = torch.zeros(rows[0].positions.shape[0], len(rows), length, dtype=torch.long)
        for i, row in enumerate(rows):
            start = length - len(row.ids)
            ids[i, start:] = torch.tensor(row.ids)
            seen[i, start:] = 1
            position[:, i, start:] = row.positions
        ids, seen, position = ids.to(device), seen.to(device), position.to(device)
        cache = make_cache(self.model, length + steps)
        extra = self._eyes.merge([f for r in rows for f in r.features])
        live = asked
        logits = self._forward(ids, seen[:, :length], position, cache, extra)
        # Text after the prompt goes on from the largest position on any axis.
        position = torch.stack([r.positions.max() for r in rows]).to(device)[None, :, None].expand(len(position), -1, 1)
        for step in range(steps):
            tokens, logprobs = self._choose(logits, [a.row for a in live])
            for a, token, logprob in zip(live, tokens.tolist(), logprobs.tolist(), strict=True):
                a.row.take(token, logprob, self._ends)
                if a.row.finish and not a.answered:
                    a.answer(self._completion(a.row))
            going = [i for i, a in enumerate(live) if not a.over]
            if not going:
                return
            # Half of the rows may be finished before the rest is copied together: copying costs about one step.
            if len(going) <= len(live) // 2:
                keep = torch.tensor(going, device=device)
                live, tokens, seen, position = [live[i] for i in going], tokens[keep], seen[keep], position[:, keep]
                cache.batch_select_indices(keep)
            position = position + 1
            logits = self._forward(tokens[:, None], seen[:, : length + step + 1], position, cache, {})

    def _forward(self, ids: Tensor, mask: Tensor, position: Tensor, cache: Cache, extra: dict[str, Any]) -> Tensor:
        """Logits of the next token, [rows, vocabulary], float32, with the banned tokens ruled out."""
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position if position.shape[0] > 1 else position[0],
            cache=cache,
            use_cache=True,
            logits_to_keep=1,
            **extra,
        )
        logits: Tensor = out.logits[:, -1].float()
        logits[:, self._banned] = -torch.inf
        return logits

    def _choose(self, logits: Tensor, rows: list[BatchRow]) -> tuple[Tensor, Tensor]:
        """One token per row and its logprob."""
        logprobs = torch.log_softmax(logits / self.temperature if self.temperature > 0 else logits, dim=-1)
        if self.temperature > 0:
            total = logprobs.double().exp().cumsum(dim=-1)
            # A row that has ended may stay in the batch; what is drawn for it counts for nothing.
            draws = [float(r.draws[len(r.sampled)]) if len(r.sampled) < r.budget else 0.0 for r in rows]
            drawn = torch.tensor(draws, dtype=torch.float64)
            target = drawn.to(total.device)[:, None] * total[:, -1:]
            tokens = torch.searchsorted(total, target, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
        else:
            tokens = logits.argmax(dim=-1)
        return tokens, logprobs.gather(1, tokens[:, None])[:, 0]

    def _completion(self, row: BatchRow) -> Completion:
        said = row.sampled[:-1] if row.sampled and row.sampled[-1] in self._ends else row.sampled
        text = str(self.tokenizer.decode(said, skip_special_tokens=False)) if said else ""
        return Completion(text, tuple(row.sampled), tuple(row.logprobs), row.finish or "stop", len(row.ids))


def episode_name(trajectory: Trajectory) -> str:
    """What tells the rollouts that are played at the same time from each other."""
    question = trajectory.question
    return f"{question.id}|{question.metadata.get('rollout', 0)}"


def make_cache(model: PreTrainedModel, capacity: int) -> Cache:
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(config, "num_kv_shared_layers", None):
        return DynamicCache(config=config)
    return Cache(layers=[_Rows(capacity) for _ in range(config.num_hidden_layers)])


class _Rows(CacheLayerMixin):
    """Keys and values of one layer in a block of `capacity` tokens: growing by concatenation copies everything that was
    read so far at every token."""

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity, self.length = capacity, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, heads, _, size = key_states.shape
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = key_states.new_empty(rows, heads, self.capacity, size)
        self.values = value_states.new_empty(rows, heads, self.capacity, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        start, self.length = self.length, self.length + key_states.shape[2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[indices], self.values[indices]
