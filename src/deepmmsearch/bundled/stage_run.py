"""What all stages of pretraining share: optimizers, an update over all workers, a log, a state to go on from."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from deepmmsearch.bundled.muon import Muon
from deepmmsearch.bundled.pretrain_recipe import StageSettings
from deepmmsearch.files import replacing


def optimizers(
    named: list[tuple[str, nn.Parameter]], stage: StageSettings
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices, AdamW for embeddings, biases, norms and the projector."""
    matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n and "merger" not in n and "heads" not in n]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    adam = torch.optim.AdamW(rest, lr=stage.adam_lr, betas=(0.9, 0.98), weight_decay=0.01)
    return [(Muon(matrices, stage.muon_lr), stage.muon_lr), (adam, stage.adam_lr)]


def schedule(step: int, stage: StageSettings) -> float:
    done = step / stage.steps
    fade = 1.0 if done < stage.decay_from else max(0.02, (1 - done) / (1 - stage.decay_from))
    return min(1.0, (step + 1) / stage.warmup) * fade


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


def save_weights(state: Mapping[str, Any], path: Path) -> None:
    # by a file of Python's, whose errors say what the disk refused
    with replacing(path) as draft, draft.open("wb") as file:
        torch.save(state, file)


class StageRun:
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
            save_weights(state, self._state)

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
