"""The small base model from scratch: text skills alone, the vision tower alone, the two aligned, then both together.

In this order because anything else took hours: a model that learns to read pictures and to copy names at the same time
learns neither. The first two stages do not need each other and run side by side.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepmmsearch.bundled import small
from deepmmsearch.bundled.alignment import align
from deepmmsearch.bundled.lesson_stage import load, teach
from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
from deepmmsearch.bundled.small_tokenizer import build_tokenizer
from deepmmsearch.bundled.vision_stage import train_vision
from deepmmsearch.children import call_all
from deepmmsearch.files import write_text
from deepmmsearch.outputs import Output
from deepmmsearch.progress import Step, Watch, silent
from deepmmsearch.settings import decisive
from deepmmsearch.train.plots import plot_curves, read_metrics


def _free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _lesson_calls(recipe: PretrainRecipe, name: str) -> list[tuple[Any, ...]]:
    port = _free_port()
    return [(teach, rank, recipe, name, port) for rank in range(getattr(recipe, name).workers)]


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
    tokenizer = build_tokenizer()
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
