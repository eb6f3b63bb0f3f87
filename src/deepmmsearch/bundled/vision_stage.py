"""The vision tower alone: every merged token says what stands in its cell of the scene."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
from deepmmsearch.bundled.fast_vision import speed_up_vision
from deepmmsearch.bundled.induction import CODE, coordinate_code
from deepmmsearch.bundled.picture_lessons import famous_name, lesson_flags, view, view_box
from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
from deepmmsearch.bundled.small_tokenizer import build_tokenizer
from deepmmsearch.bundled.stage_run import StageRun, optimizers, save_weights, schedule, update

_NONE = "none"
LABELS: dict[str, list[str]] = {
    "carrier": [_NONE, *CARRIERS],
    "main": [_NONE, *COLOURS],
    "second": [_NONE, *COLOURS],
    "layout": [_NONE, *LAYOUTS, *FAMOUS_LAYOUTS],
    "famous": [_NONE, *FAMOUS],
    "count": [str(n) for n in range(6)],
    "cell": [str(n) for n in range(6)],
    "picture": ["flags", "building", "person"],
}


class Dense(nn.Module):
    """Linear read-outs on the tower's output (tokens, hidden): classes, and the flag's box as coordinate codes."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.classes = nn.ModuleDict({k: nn.Linear(hidden, len(v)) for k, v in LABELS.items()})
        self.box = nn.Linear(hidden, 4 * CODE)


def dense_sample(rng: random.Random, split: Split) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A scene's patches and its labels per merged token, arrays of GRID; box in shares of the view's width, NaN
    without a flag."""
    rows, columns = small.GRID
    labels = {k: np.zeros((rows, columns), np.int64) for k in LABELS}
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
        labels["carrier"][area] = LABELS["carrier"].index(p.carrier)
        if p.flag:
            labels["main"][area] = LABELS["main"].index(p.flag.main)
            labels["second"][area] = LABELS["second"].index(p.flag.second)
            labels["layout"][area] = LABELS["layout"].index(p.flag.layout)
            labels["famous"][area] = LABELS["famous"].index(famous_name(p.flag) or _NONE)
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
    code = heads.box(features[flagged]).view(-1, 4, CODE)
    target = labels["box"][flagged]
    losses.append(4 * F.mse_loss(code, coordinate_code(target)))
    scores["box px"] = _decode(code).sub(target).abs().mean().item() * small.VIEW[0]
    return torch.stack(losses).sum(), scores


def _decode(code: Tensor) -> Tensor:
    """Coordinate codes (…, CODE) to the nearest even pixel's share of the view's width."""
    shares = torch.arange(0, small.VIEW[0] + 1, 2) / small.VIEW[0]
    return shares[(code[..., None, :] - coordinate_code(shares)).square().sum(-1).argmin(-1)]


def train_vision(recipe: PretrainRecipe) -> None:
    stage = recipe.vision
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed + 1)
    tokenizer = build_tokenizer()
    model = small.build_model(tokenizer, recipe.hidden, recipe.layers, recipe.inner)
    speed_up_vision(model)
    module = nn.ModuleDict({"visual": model.model.visual, "heads": Dense(recipe.hidden)})
    named = list(module.named_parameters())
    optims, run = optimizers(named, stage), StageRun(recipe.output, "vision", 0, stage)
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
    save_weights(model.model.visual.state_dict(), recipe.output / "vision.pt")
    run.finish()
