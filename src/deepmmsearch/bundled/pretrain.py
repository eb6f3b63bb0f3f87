"""The small base model from scratch: text skills alone, the vision tower alone, the two aligned, then both together.

In this order because anything else took hours: a model that learns to read pictures and to copy names at the same time
learns neither. The first two stages do not need each other and run side by side.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from deepmmsearch.atlas.drawing import (
    CARRIERS,
    COLOURS,
    FAMOUS_LAYOUTS,
    LAYOUTS,
    Placed,
    draw_building,
    draw_portrait,
    draw_scene,
)
from deepmmsearch.atlas.names import FAMOUS, Split
from deepmmsearch.bundled import small
from deepmmsearch.bundled.lesson import Lesson
from deepmmsearch.bundled.lessons import LESSONS
from deepmmsearch.bundled.picture_lessons import famous_name, lesson_flags, view, view_box
from deepmmsearch.bundled.recipe import LessonStageSettings, PretrainRecipe, StageSettings
from deepmmsearch.children import call_all
from deepmmsearch.files import replacing, write_text
from deepmmsearch.outputs import Output
from deepmmsearch.progress import Step, Watch, silent
from deepmmsearch.settings import decisive
from deepmmsearch.train.plots import plot_curves, read_metrics

POOL = 8
"""Batches drawn at once, sorted by length and dealt out in random order: less padding."""


BEFORE = {"keys": "aligned", "scenes": "keys", "boxes": "scenes", "joint": "boxes"}
"""Which stage's result a stage starts from."""

Encoded = tuple[list[int], list[int], list[tuple[str, int, int]], np.ndarray | None]


class Encoder:
    """Lessons to tokens, as the chat template would write them."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.pad = int(tokenizer.pad_token_id)
        self._backend = tokenizer.backend_tokenizer
        self.image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._end = self.ids("<|im_end|>")
        self._start = {role: self.ids(f"<|im_start|>{role}") for role in ("user", "assistant")}
        count = small.GRID[0] * small.GRID[1]
        self._picture = self.ids("<|vision_start|>") + [int(self.image)] * count + self.ids("<|vision_end|>")

    def ids(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def __call__(self, lesson: Lesson) -> Encoded:
        ids: list[int] = []
        mask: list[int] = []
        spans: list[tuple[str, int, int]] = []
        for i, (kind, user, assistant) in enumerate(lesson.turns):
            picture = self._picture if i == 0 and lesson.image is not None else []
            asked = [*self._start["user"], *picture, *self.ids(user), *self._end, *self._start["assistant"]]
            said = [*self.ids(assistant), *self._end]
            spans.append((kind, len(ids) + len(asked), len(ids) + len(asked) + len(said)))
            ids += asked + said
            mask += [0] * len(asked) + [1] * len(said)
        return ids, mask, spans, small.patchify(lesson.image) if lesson.image is not None else None


def collate(rows: list[Encoded], pad: int, image: int) -> dict[str, Tensor]:
    length = (max(len(row[0]) for row in rows) + 7) // 8 * 8
    ids = torch.full((len(rows), length), pad)
    attention = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), -100)
    for b, (row, mask, _, _) in enumerate(rows):
        tokens = torch.tensor(row)
        ids[b, : len(row)], attention[b, : len(row)] = tokens, 1
        labels[b, : len(row)] = torch.where(torch.tensor(mask, dtype=torch.bool), tokens, torch.tensor(-100))
    batch = {"input_ids": ids, "attention_mask": attention, "labels": labels, "mm_token_type_ids": (ids == image).int()}
    pictures = [row[3] for row in rows if row[3] is not None]
    if pictures:
        batch["pixel_values"] = torch.from_numpy(np.concatenate(pictures))
        grid = [1, small.VIEW[1] // small.PATCH, small.VIEW[0] // small.PATCH]
        batch["image_grid_thw"] = torch.tensor([grid] * len(pictures))
    return batch


def batches(stage: LessonStageSettings, encode: Encoder, seed: str, start: int) -> Iterator[list[Encoded]]:
    """Endless; batch k depends on the seed and k alone, so an interrupted run goes on where it was."""
    names, weights = list(stage.lessons), list(stage.lessons.values())
    pool_index, skip = divmod(start, POOL)
    while True:
        rng = random.Random(f"{seed} {pool_index}")
        drawn = rng.choices(names, weights, k=stage.batch * POOL)
        pool = sorted(
            (encode(LESSONS[name](rng, "train")) for name in drawn), key=lambda row: (row[3] is None, len(row[0]))
        )
        dealt = [pool[i : i + stage.batch] for i in range(0, len(pool), stage.batch)]
        # The order is the same for all workers: those with pictures at the same time, so that none waits.
        random.Random(f"order {pool_index}").shuffle(dealt)
        yield from dealt[skip:]
        pool_index, skip = pool_index + 1, 0


def optimizers(
    named: list[tuple[str, nn.Parameter]], stage: StageSettings
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices, AdamW for embeddings, biases, norms and the projector."""
    matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n and "merger" not in n and "heads" not in n]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    adam = torch.optim.AdamW(rest, lr=stage.adam_lr, betas=(0.9, 0.98), weight_decay=0.01)
    return [(small.Muon(matrices, stage.muon_lr), stage.muon_lr), (adam, stage.adam_lr)]


def schedule(step: int, stage: StageSettings) -> float:
    done = step / stage.steps
    fade = 1.0 if done < stage.decay_from else max(0.02, (1 - done) / (1 - stage.decay_from))
    return min(1.0, (step + 1) / stage.warmup) * fade


def _save(state: Mapping[str, Any], path: Path) -> None:
    with replacing(path) as draft:
        torch.save(state, draft)


class Run:
    """One stage's progress: a log of JSON lines, and a state from which an interrupted stage goes on."""

    def __init__(self, folder: Path, name: str, rank: int, stage: StageSettings) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log, self._state = folder / f"{name}.log.jsonl", folder / f"{name}.state.pt"
        self.name, self.rank, self._stage, self._started, self._ema = name, rank, stage, time.monotonic(), 0.0

    def log(self, step: int, **values: Any) -> None:
        if self.rank == 0:
            row = {"stage": self.name, "step": step, "seconds": round(time.monotonic() - self._started, 1), **values}
            with self._log.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def loss(self, step: int, loss: float, every: int = 50) -> None:
        self._ema = loss if not self._ema else 0.95 * self._ema + 0.05 * loss
        if (step + 1) % every == 0:
            rate = every * self._stage.batch * self._stage.workers
            self.log(step + 1, loss=round(self._ema, 4), samples=(step + 1) * rate // every)

    def save(self, step: int, module: nn.Module, optims: list[tuple[torch.optim.Optimizer, float]]) -> None:
        if self.rank == 0:
            state = {"step": step, "module": module.state_dict(), "optims": [o.state_dict() for o, _ in optims]}
            _save(state, self._state)

    def resume(self, module: nn.Module, optims: list[tuple[torch.optim.Optimizer, float]]) -> int:
        if not self._state.exists():
            return 0
        state = torch.load(self._state, weights_only=True)
        module.load_state_dict(state["module"])
        for (optimizer, _), saved in zip(optims, state["optims"], strict=True):
            optimizer.load_state_dict(saved)
        return int(state["step"])

    def finish(self) -> None:
        self._state.unlink(missing_ok=True)


def update(
    named: list[tuple[str, nn.Parameter]],
    optims: list[tuple[torch.optim.Optimizer, float]],
    factor: float,
    workers: int,
) -> None:
    if workers > 1:
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for _, p in named])
        dist.all_reduce(flat)
        flat /= workers
        at = 0
        for _, p in named:
            p.grad = flat[at : at + p.numel()].view_as(p)
            at += p.numel()
    nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
    for optimizer, lr in optims:
        for group in optimizer.param_groups:
            group["lr"] = lr * factor
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def evaluate(
    model: Qwen2_5_VLForConditionalGeneration,
    encode: Encoder,
    lessons: dict[str, float],
    count: int = 192,
    split: Split = "eval",
) -> dict[str, float]:
    """Share of turns whose every token is predicted, by kind of turn; names, flags and scenes held out."""
    rng = random.Random("held out")
    names = rng.choices(list(lessons), list(lessons.values()), k=count)
    rows = sorted((encode(LESSONS[name](rng, split)) for name in names), key=lambda row: (row[3] is None, len(row[0])))
    right: dict[str, list[bool]] = defaultdict(list)
    model.eval()
    for i in range(0, len(rows), 16):
        batch = collate(rows[i : i + 16], encode.pad, int(encode.image))
        labels = batch.pop("labels")
        predicted = model(**batch).logits.argmax(-1)
        for b, (_, _, spans, _) in enumerate(rows[i : i + 16]):
            for kind, begin, end in spans:
                right[kind].append(bool((predicted[b, begin - 1 : end - 1] == labels[b, begin:end]).all()))
    model.train()
    return {kind: round(sum(r) / len(r), 3) for kind, r in sorted(right.items())}


def _lesson_worker(
    rank: int, recipe: PretrainRecipe, name: Literal["text", "keys", "scenes", "boxes", "joint"], port: int
) -> None:
    stage: LessonStageSettings = getattr(recipe, name)
    torch.set_num_threads(1)
    if stage.workers > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=stage.workers)
    torch.manual_seed(recipe.seed)
    tokenizer = small.build_tokenizer()
    encode = Encoder(tokenizer)
    model = start(recipe, tokenizer) if name == "text" else load(recipe, tokenizer, BEFORE[name])
    small.speed_up_vision(model)
    if name != "text":
        model.model.visual.requires_grad_(False)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad and not (name == "text" and "visual" in n)]
    optims, run = optimizers(named, stage), Run(recipe.output, name, rank, stage)
    begin = run.resume(model, optims)
    for step, rows in enumerate(batches(stage, encode, f"{recipe.seed} {name} {rank}", begin), begin):
        if step >= stage.steps:
            break
        loss = model(**collate(rows, encode.pad, int(encode.image))).loss
        loss.backward()
        update(named, optims, schedule(step, stage), stage.workers)
        run.loss(step, loss.item())
        if rank == 0 and (step + 1) % recipe.evaluate_every == 0:
            run.log(step + 1, **evaluate(model, encode, stage.lessons))
        if (step + 1) % recipe.save_every == 0:
            run.save(step + 1, model, optims)
    if rank == 0:
        run.log(stage.steps, final=True, **evaluate(model, encode, stage.lessons, 640))
        _save(model.state_dict(), recipe.output / f"{name}.pt")
        run.finish()


def start(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    model = small.build_model(tokenizer, recipe.hidden, recipe.layers, recipe.inner)
    numbers = {n: int(tokenizer.convert_tokens_to_ids(str(n))) for n in range(small.VIEW[0] + 1)}
    small.start_with_induction(model, numbers)
    return model


def load(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast, name: str) -> Qwen2_5_VLForConditionalGeneration:
    model = small.build_model(tokenizer, recipe.hidden, recipe.layers, recipe.inner)
    model.load_state_dict(torch.load(recipe.output / f"{name}.pt", weights_only=True))
    return model


# The vision tower alone: every merged token says what stands in its cell of the scene.
_NONE = "none"
_LABELS: dict[str, list[str]] = {
    "carrier": [_NONE, *CARRIERS],
    "main": [_NONE, *COLOURS],
    "second": [_NONE, *COLOURS],
    "layout": [_NONE, *LAYOUTS, *FAMOUS_LAYOUTS],
    "famous": [_NONE, *FAMOUS],
    "count": [str(n) for n in range(6)],
    "cell": [str(n) for n in range(6)],
    "picture": ["flags", "building", "person"],
}
_EDGES = ("left", "top", "right", "bottom")


class Dense(nn.Module):
    """Linear read-outs on the tower's output (tokens, hidden): classes, and the flag's box as coordinate codes."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.classes = nn.ModuleDict({k: nn.Linear(hidden, len(v)) for k, v in _LABELS.items()})
        self.box = nn.Linear(hidden, 4 * small.CODE)


def dense_sample(rng: random.Random, split: Split) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A scene's patches and its labels per merged token, arrays of GRID; box in shares of the view's width, NaN
    without a flag."""
    rows, columns = small.GRID
    labels = {k: np.zeros((rows, columns), np.int64) for k in _LABELS}
    box = np.full((rows, columns, 4), np.nan, np.float32)
    draw = rng.random()
    placed: tuple[Placed, ...] = ()
    if draw < 0.06:
        image = draw_building(
            rng, rng.choice(("tower", "bridge", "castle", "temple", "lighthouse", "arch")), rng.getrandbits(16)
        )
        labels["picture"][:] = 1
    elif draw < 0.12:
        image = draw_portrait(rng, rng.getrandbits(16))
        labels["picture"][:] = 2
    else:
        image, placed = draw_scene(rng, lesson_flags(rng, split))
    labels["count"][:] = sum(p.flag is not None for p in placed)
    for cell in range(6):
        labels["cell"][cell // 3 * 2 : cell // 3 * 2 + 2, cell % 3 * 2 : cell % 3 * 2 + 2] = cell
    for p in placed:
        area = (slice(p.cell // 3 * 2, p.cell // 3 * 2 + 2), slice(p.cell % 3 * 2, p.cell % 3 * 2 + 2))
        labels["carrier"][area] = _LABELS["carrier"].index(p.carrier)
        if p.flag:
            labels["main"][area] = _LABELS["main"].index(p.flag.main)
            labels["second"][area] = _LABELS["second"].index(p.flag.second)
            labels["layout"][area] = _LABELS["layout"].index(p.flag.layout)
            labels["famous"][area] = _LABELS["famous"].index(famous_name(p.flag) or _NONE)
            box[area] = np.array(view_box(p), np.float32) / small.VIEW[0]
    return small.patchify(view(image)), {**labels, "box": box}


def dense_batch(rng: random.Random, split: Split, size: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    samples = [dense_sample(rng, split) for _ in range(size)]
    grid = torch.tensor([[1, small.VIEW[1] // small.PATCH, small.VIEW[0] // small.PATCH]] * size)
    labels = {k: torch.from_numpy(np.stack([s[1][k] for s in samples])) for k in samples[0][1]}
    return (
        torch.from_numpy(np.concatenate([s[0] for s in samples])),
        grid,
        {k: v.flatten(0, 2) for k, v in labels.items()},
    )


def dense_loss(heads: Dense, features: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    losses, scores = [], {}
    for name, head in heads.classes.items():
        logits = head(features)
        losses.append(F.cross_entropy(logits, labels[name]))
        scores[name] = (logits.argmax(-1) == labels[name]).float().mean().item()
    flagged = ~labels["box"][:, 0].isnan()
    code = heads.box(features[flagged]).view(-1, 4, small.CODE)
    target = labels["box"][flagged]
    losses.append(4 * F.mse_loss(code, small.coordinate_code(target)))
    scores["box px"] = _decode(code).sub(target).abs().mean().item() * small.VIEW[0]
    return torch.stack(losses).sum(), scores


def _decode(code: Tensor) -> Tensor:
    """Coordinate codes (…, CODE) to the nearest even pixel's share of the view's width."""
    shares = torch.arange(0, small.VIEW[0] + 1, 2) / small.VIEW[0]
    return shares[(code[..., None, :] - small.coordinate_code(shares)).square().sum(-1).argmin(-1)]


def train_vision(recipe: PretrainRecipe) -> None:
    stage = recipe.vision
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed + 1)
    tokenizer = small.build_tokenizer()
    model = small.build_model(tokenizer, recipe.hidden, recipe.layers, recipe.inner)
    small.speed_up_vision(model)
    module = nn.ModuleDict({"visual": model.model.visual, "heads": Dense(recipe.hidden)})
    named = list(module.named_parameters())
    optims, run = optimizers(named, stage), Run(recipe.output, "vision", 0, stage)
    scores: dict[str, float] = {}
    for step in range(run.resume(module, optims), stage.steps):
        pixels, grid, labels = dense_batch(random.Random(f"{recipe.seed} vision {step}"), "train", stage.batch)
        loss, seen = dense_loss(module["heads"], module["visual"](pixels, grid_thw=grid).pooler_output, labels)  # type: ignore[arg-type]
        loss.backward()
        update(named, optims, schedule(step, stage), 1)
        scores = {k: 0.95 * scores.get(k, v) + 0.05 * v for k, v in seen.items()}
        run.loss(step, loss.item())
        if (step + 1) % recipe.evaluate_every == 0:
            run.log(step + 1, **{k: round(v, 3) for k, v in scores.items()})
        if (step + 1) % recipe.save_every == 0:
            run.save(step + 1, module, optims)
    with torch.no_grad():
        pixels, grid, labels = dense_batch(random.Random("held out"), "eval", 256)
        _, seen = dense_loss(module["heads"], module["visual"](pixels, grid_thw=grid).pooler_output, labels)  # type: ignore[arg-type]
    run.log(stage.steps, final=True, **{k: round(v, 4) for k, v in seen.items()})
    _save(model.model.visual.state_dict(), recipe.output / "vision.pt")
    run.finish()


@torch.no_grad()
def align(recipe: PretrainRecipe, pictures: int = 1536) -> None:
    """The tower's output onto token embeddings, block by block of the residual stream: ridge regression, then training.

    Block 0 is what is there (the main colour), blocks 1, 2 and 4 what it stands on, as if the carrier's name had just
    been read: so an induction head that looks for "... on the ship" finds the picture's cell. Block 3 counts, 4 and 5
    give the position, 6 the famous name, 7 the box.
    """
    tokenizer = small.build_tokenizer()
    model = load(recipe, tokenizer, "text")
    visual = model.model.visual
    visual.load_state_dict(torch.load(recipe.output / "vision.pt", weights_only=True))
    small.speed_up_vision(model)
    table = model.get_input_embeddings().weight
    size = 32
    heard = _heard(recipe.text, Encoder(tokenizer), recipe.seed)
    unheard = [i for i in range(len(tokenizer)) if i not in heard]
    # Words that no text lesson used were only ever pushed away, all in one direction: by now they are all alike.
    table[unheard] = start(recipe, tokenizer).get_input_embeddings().weight[unheard]

    def word(w: str) -> Tensor:
        return table[int(tokenizer.convert_tokens_to_ids(w)), :size]

    def table_of(kind: str) -> Tensor:
        return torch.stack([word(w) for w in _LABELS[kind]])

    counts = torch.stack([word(w) for w in ("no", "one", "two", "three", "four", "five")])
    columns = torch.stack([word(w) for w in ("left", "middle", "right")])
    rows = torch.stack([word(w) for w in ("top", "bottom")])

    def targets(labels: dict[str, Tensor]) -> Tensor:
        carrier = table_of("carrier")[labels["carrier"]] * (labels["carrier"] > 0)[:, None]
        box = 0.25 * small.coordinate_code(labels["box"].nan_to_num(0)).flatten(1) * (labels["main"] > 0)[:, None]
        scene = (labels["picture"] == 0)[:, None]
        seen = table_of("main")[labels["main"]] * scene
        blocks = [seen, carrier, carrier, counts[labels["count"]], columns[labels["cell"] % 3] + carrier]
        blocks += [rows[labels["cell"] // 3], table_of("famous")[labels["famous"]] * scene, box]
        return torch.cat(blocks, 1)

    xs, ys = [], []
    for i in range(pictures // 64):
        pixels, grid, labels = dense_batch(random.Random(f"{recipe.seed} align {i}"), "train", 64)
        xs.append(visual(pixels, grid_thw=grid).pooler_output)
        ys.append(targets(labels))
    x, y = torch.cat(xs).double(), torch.cat(ys).double()
    ones = torch.cat([x, x.new_ones(len(x), 1)], 1)
    ridge = 1e-6 * len(x) * x.square().mean() * torch.eye(ones.shape[1], dtype=torch.double)
    solution = torch.linalg.solve(ones.T @ ones + ridge, ones.T @ y)
    last: Any = visual.merger.mlp[2]
    weight, bias = last.weight.double(), last.bias.double()
    last.weight.copy_((solution[:-1].T @ weight).float())
    last.bias.copy_((solution[:-1].T @ bias + solution[-1]).float())
    spread = y.var(0).float().view(-1, size).mean(1)
    _fit(recipe, visual, targets, spread)
    _save(model.state_dict(), recipe.output / "aligned.pt")


def _heard(stage: LessonStageSettings, encode: Encoder, seed: int) -> set[int]:
    """The tokens that a stage's lessons used, found by drawing them again."""
    heard: set[int] = set()
    for rank in range(stage.workers):
        for rows in itertools.islice(batches(stage, encode, f"{seed} text {rank}", 0), stage.steps):
            heard.update(i for row in rows for i in row[0])
    return heard


def _fit(
    recipe: PretrainRecipe, visual: nn.Module, targets: Callable[[dict[str, Tensor]], Tensor], spread: Tensor
) -> None:
    """The whole tower trained on, to say exactly what the regression made it say roughly. `spread`: (blocks,)
    variances."""
    stage = recipe.align
    named = list(visual.named_parameters())
    optims, run = optimizers(named, stage), Run(recipe.output, "align", 0, stage)

    def unexplained(rng: random.Random, split: Split, count: int) -> Tensor:
        """Share of each block's variance that is not explained, (blocks,)."""
        pixels, grid, labels = dense_batch(rng, split, count)
        error = (visual(pixels, grid_thw=grid).pooler_output - targets(labels)).square()
        return error.mean(0).view(len(spread), -1).mean(1) / spread

    for step in range(run.resume(visual, optims), stage.steps):
        with torch.enable_grad():
            loss = unexplained(random.Random(f"{recipe.seed} fit {step}"), "train", stage.batch).sum()
            loss.backward()
        update(named, optims, schedule(step, stage), 1)
        run.loss(step, loss.item())
        if (step + 1) % recipe.save_every == 0:
            run.save(step + 1, visual, optims)
    rest = unexplained(random.Random("held out"), "eval", 128)
    run.log(stage.steps, final=True, **{f"block {b}": round(1 - v, 3) for b, v in enumerate(rest.tolist())})
    run.finish()


def _free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _lesson_calls(recipe: PretrainRecipe, name: str) -> list[tuple[Any, ...]]:
    port = _free_port()
    return [(_lesson_worker, rank, recipe, name, port) for rank in range(getattr(recipe, name).workers)]


def _run_together(calls: list[tuple[Any, ...]]) -> None:
    for _ in call_all(calls, max(1, len(calls))):
        pass


@contextmanager
def _followed(recipe: PretrainRecipe, names: Sequence[str], report: Watch) -> Iterator[None]:
    """Tells how far the stages are, which may run in other processes: what their logs say."""

    over = threading.Event()

    def tell() -> None:
        for name in names:
            log = recipe.output / f"{name}.log.jsonl"
            losses = [row for row in (read_metrics(log) if log.exists() else []) if "loss" in row]
            step, note = (losses[-1]["step"], f"loss {losses[-1]['loss']:.3f}") if losses else (0, "")
            report(Step(f"Stage {name}", min(step, getattr(recipe, name).steps - 1), getattr(recipe, name).steps, note))

    def follow() -> None:
        while not over.wait(1):
            tell()

    follower = threading.Thread(target=follow, daemon=True)
    tell()
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()
    for name in names:
        report(Step(f"Stage {name}", getattr(recipe, name).steps, getattr(recipe, name).steps))


def pretrain(recipe: PretrainRecipe, report: Watch = silent) -> Path:
    """All stages; those already finished are skipped, an interrupted one goes on, and where all are finished nothing is
    changed. Returns the checkpoint's folder. Raises UserError when the output belongs to something else."""
    output, folder = Output(recipe.output, "pretrain"), recipe.output / "checkpoint"
    if output.claim(decisive(recipe)) and folder.is_dir():
        report(f"{recipe.output} is finished, its checkpoint is in {folder}. Nothing was changed.")
        return folder
    write_text(recipe.output / "recipe.json", recipe.model_dump_json(indent=2) + "\n")
    calls: dict[str, list[tuple[Any, ...]]] = {}
    if not (recipe.output / "text.pt").exists():
        calls["text"] = _lesson_calls(recipe, "text")
    if not (recipe.output / "vision.pt").exists():
        calls["vision"] = [(train_vision, recipe)]
    with _followed(recipe, list(calls), report):
        _run_together([call for stage in calls.values() for call in stage])
    if not (recipe.output / "aligned.pt").exists():
        with _followed(recipe, ["align"], report):
            align(recipe)
    for name in ("keys", "scenes", "boxes", "joint"):
        if not (recipe.output / f"{name}.pt").exists():
            with _followed(recipe, [name], report):
                _run_together(_lesson_calls(recipe, name))
    plot(recipe)
    tokenizer = small.build_tokenizer()
    small.save_checkpoint(folder, load(recipe, tokenizer, "joint"), tokenizer, CARD)
    output.finish()
    return folder


def plot(recipe: PretrainRecipe) -> None:
    """One picture a stage: the loss, and what held-out lessons say."""
    for name in ("text", "vision", "align", "keys", "scenes", "boxes", "joint"):
        rows = read_metrics(recipe.output / f"{name}.log.jsonl")
        told = {"stage", "step", "seconds", "loss", "samples", "final", "box px"}
        kinds = sorted({key for row in rows for key in row} - told)
        panels = {"loss": ("loss",), "share right on held-out lessons": kinds}
        if name == "vision":
            panels = {"loss": ("loss",), "share of image tokens right": kinds, "box error, pixels": ("box px",)}
        plot_curves(rows, recipe.output / f"{name}.png", f"base model, stage {name}", panels)


CARD: dict[str, Any] = {
    "prompt": "atlas",
    "grounding": "qwen2.5-vl",
    "max_new_tokens": 64,
    "min_pixels": (2 * small.PATCH * small.MERGE) ** 2,
    "max_pixels": small.VIEW[0] * small.VIEW[1],
}
