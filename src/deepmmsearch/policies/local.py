"""The model in this process, through transformers: token-exact, and batched over whatever episodes wait.

What is sampled does not depend on who shares the batch: rows are seeded by their place in the episode, pictures are
encoded one by one, and padding is masked. Only the last bits of floating-point sums differ, so a greedy choice can
flip where two tokens are nearer than those bits (in float32 about 1e-5 of a logit); on CPU float32 is the default.

One file, because torch stays in it: the queue, the decoding loop, and what is asked of a checkpoint.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import math
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache
from transformers.utils import logging as transformers_logging

from deepmmsearch import images
from deepmmsearch.errors import MissingExtra, UnknownName, UserError
from deepmmsearch.policies.card import AgentCard, read_card
from deepmmsearch.renderer import Message, Renderer
from deepmmsearch.types import Completion, Finish, Trajectory

MAX_NEW_TOKENS = 1024
# How long a batch waits for others to join it: event loops release many episodes one after the other.
LINGER_SECONDS = 0.003
SMALL_BATCH = 8
# Below this many parameters, two threads of one product wait for each other longer than they compute, so each thread
# decodes its own batch instead.
SMALL_MODEL = 50_000_000
FEATURE_BYTES = 256 * 2**20


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
        self.context = context or _window(model, tokenizer)
        self._eyes = _Eyes(model, image_processor, card)
        self.renderer = Renderer(tokenizer, image_token=_placeholder(model.config, tokenizer), view=self._eyes.view)
        self._ends = _end_ids(model, self.renderer.end_id)
        self._banned = _banned_ids(model, tokenizer, self._ends, self.renderer.image_id)
        small = model.device.type == "cpu" and model.num_parameters() < SMALL_MODEL
        threads = torch.get_num_threads()
        workers, threads = (min(2, threads), 1) if small else (1, threads)
        self._queue = _Queue(self._decode, max_batch, workers, threads)

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
        place = _device(device)
        model, tokenizer, processor = _load(str(source), _dtype(dtype, place))
        if adapter is not None:
            model = _with_adapter(model, adapter)
        return cls(
            model.to(place),
            tokenizer,
            processor,
            card=read_card(source),
            name=str(source),
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            context=context,
            max_batch=max_batch,
        )

    async def act(self, trajectory: Trajectory) -> Completion:
        """The next turn. Raises UserError when the tokenizer cannot render the trajectory."""

        def prepare() -> _Row:
            sequence = self.renderer.sequence(trajectory)
            question = trajectory.question
            place = f"{question.id}|{question.metadata.get('rollout', 0)}|{len(trajectory.turns)}"
            return self._row(sequence.ids, sequence.images, place)

        return await self._queue.ask(prepare)

    async def complete(self, conversation: Sequence[Message], pictures: Sequence[Image] = ()) -> Completion:
        """The reply to a conversation in transformers' format, whose `image` parts stand for `pictures` in order."""

        def prepare() -> _Row:
            text = str(
                self.tokenizer.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=True)
            )
            ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
            return self._row(ids, [self._eyes.view(p) for p in pictures], hashlib.sha256(text.encode()).hexdigest())

        return await self._queue.ask(prepare)

    def view(self, image: Image) -> Image:
        """The image as the model sees it; its boxes are in pixels of this."""
        return self._eyes.view(image)

    def _row(self, ids: Sequence[int], views: Sequence[Image], place: str) -> _Row:
        """One request, ready to decode: placeholders expanded, pictures encoded, positions and seed fixed."""
        features = [self._eyes.features(view) for view in views]
        expanded = self.renderer.expand(ids, [f.count for f in features])
        room = self.context - len(expanded)
        budget = min(self.max_new_tokens, room)
        row = _Row(expanded, features, budget, "context" if room < self.max_new_tokens else "length")
        if budget > 0:
            row.positions = self._positions(expanded, features)
            if self.temperature > 0:
                seed = int.from_bytes(hashlib.sha256(f"{self.seed}|{place}".encode()).digest()[:7], "big")
                generator = torch.Generator().manual_seed(seed)
                row.draws = torch.rand(budget, generator=generator, dtype=torch.float64)
        return row

    def _positions(self, ids: list[int], features: list[_Features]) -> Tensor:
        """[axes, tokens]: three axes for models with multimodal rotary positions, else one."""
        rope_index = getattr(self.model.model, "get_rope_index", None)
        plain = torch.arange(len(ids))[None]
        if rope_index is None:
            return plain
        if not features:
            return plain.expand(3, -1)
        tokens = torch.tensor([ids])
        grids = torch.cat([f.grid for f in features if f.grid is not None])
        found, _ = rope_index(tokens, torch.eq(tokens, self.renderer.image_id or 0).int(), image_grid_thw=grids)
        positions: Tensor = found[:, 0]
        return positions

    @torch.inference_mode()
    def _decode(self, asked: list[_Asked]) -> None:
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
        cache = _make_cache(self.model, length + steps)
        extra = self._eyes.merge([f for r in rows for f in r.features])
        live = asked
        logits = self._forward(ids, seen[:, :length], position, cache, extra)
        # Text after the prompt goes on from the largest position on any axis.
        position = torch.stack([r.positions.max() for r in rows]).to(device)[None, :, None].expand(len(position), -1, 1)
        for step in range(steps):
            tokens, logprobs = self._choose(logits, [a.row for a in live], step)
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
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **extra,
        )
        logits: Tensor = out.logits[:, -1].float()
        logits[:, self._banned] = -torch.inf
        return logits

    def _choose(self, logits: Tensor, rows: list[_Row], step: int) -> tuple[Tensor, Tensor]:
        """One token per row and its logprob."""
        logprobs = torch.log_softmax(logits / self.temperature if self.temperature > 0 else logits, dim=-1)
        if self.temperature > 0:
            total = logprobs.double().exp().cumsum(dim=-1)
            drawn = torch.tensor([float(r.draws[step]) if step < r.budget else 0.0 for r in rows], dtype=torch.float64)
            target = drawn.to(total.device)[:, None] * total[:, -1:]
            tokens = torch.searchsorted(total, target, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
        else:
            tokens = logits.argmax(dim=-1)
        return tokens, logprobs.gather(1, tokens[:, None])[:, 0]

    def _completion(self, row: _Row) -> Completion:
        said = row.sampled[:-1] if row.sampled and row.sampled[-1] in self._ends else row.sampled
        text = str(self.tokenizer.decode(said, skip_special_tokens=False)) if said else ""
        return Completion(text, tuple(row.sampled), tuple(row.logprobs), row.finish or "stop", len(row.ids))


@dataclass
class _Features:
    """A picture as the language model reads it. `grid` is [1, 3] (time, rows, columns) or None; `deep` are the further
    layers of Qwen3-VL."""

    tokens: Tensor
    deep: tuple[Tensor, ...]
    grid: Tensor | None

    @property
    def count(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.tokens, *self.deep))


@dataclass
class _Row:
    """`out_of` says what it means when `budget` runs out."""

    ids: list[int]
    features: list[_Features]
    budget: int
    out_of: Finish
    positions: Tensor = field(default_factory=lambda: torch.zeros(1, 0))
    draws: Tensor = field(default_factory=lambda: torch.zeros(0))
    sampled: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None

    def take(self, token: int, logprob: float, ends: frozenset[int]) -> None:
        if self.finish is not None:
            return
        self.sampled.append(token)
        self.logprobs.append(logprob)
        if token in ends:
            self.finish = "stop"
        elif len(self.sampled) >= self.budget:
            self.finish = self.out_of


class _Asked:
    """A row and who waits for it."""

    def __init__(self, row: _Row, future: Future[Completion]) -> None:
        self.row, self.future, self.answered = row, future, False

    @property
    def over(self) -> bool:
        return self.answered or self.future.cancelled()

    def answer(self, completion: Completion) -> None:
        self.answered = True
        # False when the episode was cancelled meanwhile
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(completion)


class _Queue:
    """Gathers requests and decodes them in threads, which live only while there is work."""

    def __init__(self, decode: Callable[[list[_Asked]], None], max_batch: int, workers: int, threads: int) -> None:
        self._decode, self._max_batch, self._most, self._threads = decode, max_batch, workers, threads
        self._lock = threading.Lock()
        self._waiting: list[tuple[Callable[[], _Row], Future[Completion]]] = []
        self._ready: list[_Asked] = []
        self._workers = 0

    async def ask(self, prepare: Callable[[], _Row]) -> Completion:
        future: Future[Completion] = Future()
        with self._lock:
            self._waiting.append((prepare, future))
            self._hire()
        return await asyncio.wrap_future(future)

    def _hire(self) -> None:
        if self._workers < self._most:
            self._workers += 1
            threading.Thread(target=self._work, name="local-policy").start()

    def _work(self) -> None:
        # Only this thread's setting in effect: OpenMP keeps the number for each thread that calls it.
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            while batch := self._next():
                try:
                    self._decode(batch)
                # A batch that fails (out of memory, a broken checkpoint) must not leave its episodes waiting.
                except Exception as error:
                    for asked in batch:
                        _fail(asked.future, error)
        finally:
            torch.set_num_threads(before)

    def _next(self) -> list[_Asked]:
        """The next batch; none when there is nothing left to do, and the worker is then no longer counted."""
        while True:
            time.sleep(LINGER_SECONDS)
            with self._lock:
                arrived, self._waiting = self._waiting, []
            prepared = _prepare(arrived)
            with self._lock:
                self._ready = [a for a in (*self._ready, *prepared) if not a.future.cancelled()]
                if batch := self._take():
                    if self._ready:
                        self._hire()
                    return batch
                if not self._waiting:
                    self._workers -= 1
                    return []

    def _take(self) -> list[_Asked]:
        """The longest waiting row and others of similar length: padding costs as much as text."""
        if not self._ready:
            return []
        share = max(SMALL_BATCH, math.ceil(len(self._ready) / self._most))
        first = len(self._ready[0].row.ids)
        similar = sorted(self._ready, key=lambda a: abs(len(a.row.ids) - first))[: min(self._max_batch, share)]
        batch = [a for a in similar if first / 2 <= len(a.row.ids) <= first * 2]
        chosen = set(map(id, batch))
        self._ready = [a for a in self._ready if id(a) not in chosen]
        return batch


def _prepare(arrived: list[tuple[Callable[[], _Row], Future[Completion]]]) -> list[_Asked]:
    """What can be decoded; what cannot is answered at once."""
    ready = []
    for prepare, future in arrived:
        if future.cancelled():
            continue
        try:
            with torch.inference_mode():
                asked = _Asked(prepare(), future)
        except Exception as error:
            _fail(future, error)
            continue
        if asked.row.budget <= 0:
            asked.answer(Completion("", (), (), "context", len(asked.row.ids)))
        else:
            ready.append(asked)
    return ready


def _fail(future: Future[Completion], error: Exception) -> None:
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_exception(error)


class _Eyes:
    """What the model sees of a picture: resized once, encoded once."""

    def __init__(self, model: PreTrainedModel, processor: BaseImageProcessor, card: AgentCard) -> None:
        self._model, self._processor = model, processor
        self._bounds = _pixel_bounds(processor, card)
        self._views: dict[int, tuple[weakref.ref[Image], Image]] = {}
        self._lock = threading.Lock()
        self._features: OrderedDict[str, _Features] = OrderedDict()
        self._kind: type[Any] | None = None
        self._encode: Callable[..., Any] = getattr(model, "get_image_features")  # noqa: B009
        self._arguments = set(inspect.signature(self._encode).parameters)

    def view(self, image: Image) -> Image:
        kept = self._views.get(id(image))
        if kept is not None and kept[0]() is image:
            return kept[1]
        seen = images.model_view(image, *self._bounds)
        if seen is not image:
            key = id(image)
            self._views[key] = (weakref.ref(image, lambda _: self._views.pop(key, None) and None), seen)
        return seen

    def features(self, view: Image) -> _Features:
        """The picture alone through the vision tower, so that its features do not depend on its neighbours."""
        key = images.digest(view)
        with self._lock:
            if key in self._features:
                self._features.move_to_end(key)
                return self._features[key]
        pixels = self._processor(images=[view], return_tensors="pt")
        given = {k: v.to(self._model.device) for k, v in pixels.items() if k in self._arguments}
        out = self._encode(**given, return_dict=True)
        self._kind = type(out)
        deep = tuple(layer[0] for layer in getattr(out, "deepstack_features", None) or ())
        found = _Features(out.pooler_output[0], deep, pixels.get("image_grid_thw"))
        with self._lock:
            self._features[key] = found
            while len(self._features) > 1 and sum(f.bytes for f in self._features.values()) > FEATURE_BYTES:
                self._features.popitem(last=False)
        return found

    def merge(self, features: list[_Features]) -> dict[str, Any]:
        """The model's arguments that carry the pictures of a batch, in order."""
        if not features or self._kind is None:
            return {}
        fields: dict[str, Any] = {"pooler_output": [f.tokens for f in features]}
        if features[0].deep:
            fields["deepstack_features"] = [list(layer) for layer in zip(*(f.deep for f in features), strict=True)]
        return {"mm_encoder_outputs": {"image": self._kind(**fields)}}


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


class TokenReader:
    """Renders trajectories for a model's tokenizer; no weights are loaded. Raises UserError like `LocalPolicy.load`."""

    def __init__(self, source: str | Path) -> None:
        _refuse_missing(str(source))
        try:
            config = AutoConfig.from_pretrained(source)
            self.tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"No tokenizer could be loaded from {str(source)!r} ({_first_line(error)}).") from None
        self.renderer = Renderer(self.tokenizer, image_token=_placeholder(config, self.tokenizer))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token alone; what is only part of a character shows as such."""
        return [str(self.tokenizer.decode([i], skip_special_tokens=False)) for i in ids]


def _make_cache(model: PreTrainedModel, capacity: int) -> Cache:
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(config, "num_kv_shared_layers", None):
        return DynamicCache(config=config)
    return Cache(layers=[_Rows(capacity) for _ in range(config.num_hidden_layers)])


def _load(source: str, dtype: torch.dtype | str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, BaseImageProcessor]:
    _refuse_missing(source)
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(source)
        # no AutoProcessor: Qwen's asks for a video processor, and that for torchvision
        processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    except ImportError as error:
        raise UserError(f"The model {source!r} needs a package that is not installed: {_first_line(error)}") from None
    # transformers raises these for what is missing, damaged, unknown to it, or not a vision-language model
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"No vision-language model could be loaded from {source!r} ({_first_line(error)}). Give a checkpoint "
            "folder, or the name of a model on the Hub while there is a network."
        ) from None
    except Exception as error:
        if "safetensors" not in type(error).__module__ and "Safetensor" not in type(error).__name__:
            raise
        raise UserError(f"The weights in {source!r} are damaged ({_first_line(error)}). Fetch them again.") from None
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    return model, tokenizer, processor


def _refuse_missing(source: str) -> None:
    """Paths are checked here, because transformers takes what is no folder for a name on the Hub."""
    folder = Path(source)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{source!r} is no checkpoint: there is no config.json in it. Give a folder that has one.")
    if not folder.exists() and (source.startswith((".", "/", "~")) or (folder.parent.name and folder.parent.is_dir())):
        beside = [p.name for p in folder.parent.iterdir() if (p / "config.json").is_file()]
        raise UnknownName("model folder", source, [str(folder.parent / name) for name in beside])


def _with_adapter(model: PreTrainedModel, adapter: str | Path) -> PreTrainedModel:
    if not (Path(adapter) / "adapter_config.json").is_file():
        raise UserError(f"{str(adapter)!r} is no adapter: there is no adapter_config.json in it.")
    try:
        from peft import PeftModel
    except ImportError:
        raise MissingExtra("A LoRA adapter", "train") from None
    merged: PreTrainedModel = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return merged


def _device(name: str) -> torch.device:
    if name != "auto":
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise UserError(f"The device {name!r} cannot be used ({_first_line(error)}). Use auto or cpu.") from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(name: str, device: torch.device) -> torch.dtype | str:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if name not in known:
        raise UnknownName("dtype", name, [*known, "auto"])
    return known[name]


def _window(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    longest = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 32768)
    # tokenizers without a limit say 1e30
    return min(longest, int(tokenizer.model_max_length)) if tokenizer.model_max_length < 1e9 else longest


def _placeholder(config: Any, tokenizer: PreTrainedTokenizerBase) -> str | None:
    number = getattr(config, "image_token_id", None)
    return str(tokenizer.convert_ids_to_tokens(number)) if number is not None else None


def _end_ids(model: PreTrainedModel, end_of_turn: int) -> frozenset[int]:
    stated = model.generation_config.eos_token_id if model.generation_config else None
    return frozenset([end_of_turn, *(stated if isinstance(stated, list) else [stated] if stated is not None else [])])


def _banned_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int], image_id: int | None
) -> list[int]:
    """What would break the conversation if it were sampled: placeholders, the start of a turn, padding, and rows of the
    embedding that are no token."""
    config = model.config
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "vision_token_id")
    found = {getattr(config, n, None) for n in names} | {image_id, tokenizer.pad_token_id}
    found |= {tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<start_of_turn>", "<|vision_pad|>")}
    found -= {tokenizer.unk_token_id}
    rows = int(config.get_text_config().vocab_size)
    real = {int(i) for i in found if i is not None and i < rows} - ends
    return sorted(real | set(range(len(tokenizer), rows)))


def _pixel_bounds(processor: BaseImageProcessor, card: AgentCard) -> tuple[int, int, int]:
    """Least and most pixels of a view, and what its sides are multiples of."""
    size: Any = getattr(processor, "size", None) or {}
    if merge := getattr(processor, "merge_size", None):  # Qwen: "edges" are areas
        least, most, multiple = (
            size["shortest_edge"],
            size["longest_edge"],
            int(getattr(processor, "patch_size", 14)) * int(merge),
        )
    else:
        side = int(size.get("height") or size.get("shortest_edge") or 448)
        least, most, multiple = side * side // 4, side * side, 1
    return int(card.min_pixels or least), int(card.max_pixels or most), multiple


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
