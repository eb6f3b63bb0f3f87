"""The bundled model's vision tower learns to see small signs on flags, as `zoom` shows them, and is held to what it
told of whole scenes before: the language model behind it goes on reading both.

Each part of a picture is asked for the colour of the sign in it, if there is one. That is learnt from thousands of
pictures; by the words of answers alone it takes many more, since one word in a turn depends on the sign.
"""

from __future__ import annotations

import copy
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn

from deepmmsearch.atlas.closeups import SignCloseup, each_closeup
from deepmmsearch.atlas.drawing.flags import COLOURS
from deepmmsearch.atlas.names import Split
from deepmmsearch.bundled.pretrain_recipe import StageSettings
from deepmmsearch.bundled.stage_run import optimizers, schedule, update
from deepmmsearch.policies.local.checkpoint import load_checkpoint
from deepmmsearch.policies.local.families import Family
from deepmmsearch.train.merging import save_merged

SIGNS = StageSettings(steps=200, batch=32, muon_lr=2e-3, adam_lr=1e-3, decay_from=0.4)
KEEP = 2.0
"""How much a change of what the tower tells of scenes counts, in mean squares of that."""


class _Batches:
    """Scenes, and close-ups of one size as the model sees them."""

    def __init__(self, split: Split, seed: str, family: Family, size: int) -> None:
        self._rng, self._family, self._size = random.Random(seed), family, size
        self._drawn = each_closeup(self._rng, split)
        self._kept: dict[tuple[int, int], list[SignCloseup]] = {}

    def next(self) -> tuple[list[Image], list[SignCloseup]]:
        """The scenes are those that were drawn for it, each once: none where enough was left over."""
        scenes: dict[int, Image] = {}
        while not any(len(kept) >= self._size for kept in self._kept.values()):
            close = next(self._drawn)
            scenes |= {id(each): each for each in (close.bare, close.scene)}
            view = self._family.view(close.image)
            self._kept.setdefault(view.size, []).append(close._replace(image=view))
        size = max(self._kept, key=lambda s: len(self._kept[s]))
        self._rng.shuffle(self._kept[size])
        batch, self._kept[size] = self._kept[size][: self._size], self._kept[size][self._size :]
        return [self._family.view(scene) for scene in scenes.values()], batch


def labels(batch: list[SignCloseup], cell: int) -> Tensor:
    """[pictures x parts]: 0 for a part without the sign's centre, else 1 + its colour."""
    width, height = (side // cell for side in batch[0].image.size)
    told = torch.zeros(len(batch), height, width, dtype=torch.long)
    for number, each in enumerate(batch):
        x, y = (int(share * side) for share, side in zip(each.centre, (width, height), strict=True))
        told[number, y, x] = 1 + list(COLOURS).index(each.colour)
    return told.flatten()


def teach_signs(source: Path, folder: Path, log: Path, stage: StageSettings = SIGNS, seed: int = 0) -> None:
    """Writes the model of `source` with the tower that has learnt it, whole or not at all; one that is there stays."""
    if folder.exists():
        return
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    checkpoint = load_checkpoint(source, torch.float32)
    family, model = checkpoint.family, checkpoint.model
    visual: Any = model.model.visual
    before = copy.deepcopy(visual).eval()
    module = nn.ModuleDict({"visual": visual, "heads": nn.Linear(visual.config.out_hidden_size, 1 + len(COLOURS))})
    named = list(module.requires_grad_(True).named_parameters())
    optims, made = optimizers(named, stage), _Batches("train", f"signs {seed}", family, stage.batch)
    started, seen = time.monotonic(), 0.0
    for step in range(stage.steps):
        scenes, batch = made.next()
        loss, right = _loss(module, batch, family)
        if scenes:
            loss = loss + KEEP * _moved(visual, before, scenes, family)
        loss.backward()
        update(named, optims, schedule(step, stage), 1)
        seen = right if not step else 0.9 * seen + 0.1 * right
        if (step + 1) % 20 == 0:
            row = {"step": step + 1, "loss": round(loss.item(), 4), "right": round(seen, 3)}
            _say(log, row | {"seconds": round(time.monotonic() - started)})
    held_out = _Batches("eval", "held out signs", family, 64)
    with torch.no_grad():
        scenes, batch = held_out.next()
        _, right = _loss(module, batch, family)
        moved = _moved(visual, before, scenes, family).item()
    _say(log, {"held out": True, "right": round(right, 3), "scenes moved": round(moved, 4)})
    save_merged(checkpoint, model.to(torch.bfloat16), folder)


def _features(visual: Any, pictures: list[Image], family: Family) -> Tensor:
    given = family.inputs(pictures)
    found: Tensor = visual(given["pixel_values"], grid_thw=given["image_grid_thw"]).pooler_output
    return found


def _loss(module: nn.ModuleDict, batch: list[SignCloseup], family: Family) -> tuple[Tensor, float]:
    """And the share of signs whose colour is told where they are."""
    told = labels(batch, family.bounds[2])
    logits = module["heads"](_features(module["visual"], [each.image for each in batch], family))
    there = told > 0
    loss = F.cross_entropy(logits[there], told[there]) + F.cross_entropy(logits[~there], told[~there])
    return loss, (logits[there].argmax(-1) == told[there]).float().mean().item()


def _moved(visual: Any, before: Any, scenes: list[Image], family: Family) -> Tensor:
    with torch.no_grad():
        were = _features(before, scenes, family)
    return F.mse_loss(_features(visual, scenes, family), were) / were.square().mean()


def _say(log: Path, row: dict[str, Any]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
