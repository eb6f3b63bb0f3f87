"""Curves of a training run as a PNG, from its metrics (one mapping per logged line, each with its `step`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.files import replacing

# matplotlib's tab20, the strong ones first: its default cycle repeats after ten, and a cycle may not refer to it (C0)
_STRONG = "#1f77b4 #ff7f0e #2ca02c #d62728 #9467bd #8c564b #e377c2 #7f7f7f #bcbd22 #17becf"
_PALE = "#aec7e8 #ffbb78 #98df8a #ff9896 #c5b0d5 #c49c94 #f7b6d2"
COLOURS = (*_STRONG.split(), *_PALE.split())
LOSS_AND_ACCURACY = {"loss": ("loss",), "accuracy": ("mean_token_accuracy",)}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line cut off by a crash is left out."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines := path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise UserError(f"Line {number} of {path} is not JSON: {error}.") from error
    return rows


def save_figure(figure: Any, path: Path, dpi: int) -> None:
    """As a PNG that appears whole or not at all."""
    with replacing(path) as draft:
        figure.savefig(draft, dpi=dpi, format="png")


def plot_curves(
    rows: Sequence[Mapping[str, Any]], path: Path, title: str, panels: Mapping[str, Sequence[str]] = LOSS_AND_ACCURACY
) -> None:
    """One panel per axis label, one curve per metric name; a metric that was never logged is left out."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra("Drawing plots", "train") from error
    # Figure without pyplot: no display is looked for and nothing is kept open
    figure = Figure(figsize=(5.6 * len(panels), 3.4), layout="constrained")
    figure.suptitle(title)
    for axes, (label, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.set_prop_cycle(color=COLOURS)
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row and "step" in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
        axes.set(xlabel="optimizer step", ylabel=label)
        axes.grid(alpha=0.3)
        if len(axes.lines) > 4:
            columns = 1 + len(axes.lines) // 10
            axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5), ncols=columns)
        elif len(axes.lines) > 1:
            axes.legend(fontsize="small")
    save_figure(figure, path, dpi=120)


def plot_runs(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, panels: Mapping[str, str]) -> None:
    """Several runs in one figure: a panel for each metric (axis label -> name), a curve for each run that logged it."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra("Drawing plots", "train") from error
    figure = Figure(figsize=(5.6 * len(panels), 3.6), layout="constrained")
    for axes, (label, name) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for (run, rows), colour in zip(runs.items(), cycle(COLOURS), strict=False):
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None and "step" in row]
            if points:
                mark = "." if len(points) < 30 else ""
                axes.plot(*zip(*points, strict=True), label=run, marker=mark, color=colour)
        axes.set(xlabel="optimizer step", ylabel=label)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="x-small")
    save_figure(figure, path, dpi=120)
