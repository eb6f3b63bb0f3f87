"""The tower's output onto token embeddings."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from deepmmsearch.atlas.names import Split
from deepmmsearch.bundled.fast_vision import speed_up_vision
from deepmmsearch.bundled.induction import coordinate_code
from deepmmsearch.bundled.lesson_batches import Encoder, batches
from deepmmsearch.bundled.lesson_stage import load, start
from deepmmsearch.bundled.pretrain_recipe import LessonStageSettings, PretrainRecipe
from deepmmsearch.bundled.small_tokenizer import build_tokenizer
from deepmmsearch.bundled.stage_run import StageRun, optimizers, save_weights, schedule, update
from deepmmsearch.bundled.vision_stage import LABELS, dense_batch


@torch.no_grad()
def align(recipe: PretrainRecipe, pictures: int = 1536) -> None:
    """The tower's output onto token embeddings, block by block of the residual stream: ridge regression, then training.

    Block 0 is what is there (the main colour), blocks 1, 2 and 4 what it stands on, as if the carrier's name had just
    been read: so an induction head that looks for "... on the ship" finds the picture's cell. Block 3 counts, 4 and 5
    give the position, 6 the famous name, 7 the box.
    """
    tokenizer = build_tokenizer()
    model = load(recipe, tokenizer, "text")
    visual = model.model.visual
    visual.load_state_dict(torch.load(recipe.output / "vision.pt", weights_only=True))
    speed_up_vision(model)
    table = model.get_input_embeddings().weight
    size = 32
    heard = _heard(recipe.text, Encoder(tokenizer), recipe.seed)
    unheard = [i for i in range(len(tokenizer)) if i not in heard]
    # Words that no text lesson used were only ever pushed away, all in one direction: by now they are all alike.
    table[unheard] = start(recipe, tokenizer).get_input_embeddings().weight[unheard]

    def word(w: str) -> Tensor:
        return table[int(tokenizer.convert_tokens_to_ids(w)), :size]

    def table_of(kind: str) -> Tensor:
        return torch.stack([word(w) for w in LABELS[kind]])

    counts = torch.stack([word(w) for w in ("no", "one", "two", "three", "four", "five")])
    columns = torch.stack([word(w) for w in ("left", "middle", "right")])
    rows = torch.stack([word(w) for w in ("top", "bottom")])

    def targets(labels: dict[str, Tensor]) -> Tensor:
        carrier = table_of("carrier")[labels["carrier"]] * (labels["carrier"] > 0)[:, None]
        box = 0.25 * coordinate_code(labels["box"].nan_to_num(0)).flatten(1) * (labels["main"] > 0)[:, None]
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
    save_weights(model.state_dict(), recipe.output / "aligned.pt")


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
    optims, run = optimizers(named, stage), StageRun(recipe.output, "align", 0, stage)

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
