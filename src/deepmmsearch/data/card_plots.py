"""The pictures of a data set's card: what DeepMMSearch-R1's Figure 2 shows, and what each stage kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepmmsearch.errors import MissingExtra
from deepmmsearch.files import replacing

REQUIRED, FREE, TURNS, TOOLS = "#1f77b4", "#9ecae1", "#2ca02c", "#ff7f0e"


def plot_contents(
    categories: Mapping[str, Mapping[str, int]],
    turns: Mapping[str, int],
    tools: Mapping[str, float],
    path: Path,
    title: str,
) -> None:
    """Three panels: rows by category (search-required and search-free), by number of turns, shares of tools."""
    figure = _figure((14, 3.8), title)
    taxonomy, length, use = figure.subplots(1, 3)
    names = list(categories)
    required = [categories[name].get("required", 0) for name in names]
    free = [categories[name].get("free", 0) for name in names]
    taxonomy.bar(names, required, color=REQUIRED, label="search-required")
    taxonomy.bar(names, free, bottom=required, color=FREE, label="search-free")
    taxonomy.set(ylabel="questions", title="Knowledge taxonomy")
    taxonomy.tick_params(axis="x", rotation=40)
    taxonomy.legend(fontsize="small")
    length.bar(list(turns), list(turns.values()), color=TURNS)
    length.set(xlabel="turns, the answer's included", ylabel="trajectories", title="Turns")
    shares = [100 * value for value in tools.values()]
    use.barh(list(tools), shares, color=TOOLS)
    for place, share in enumerate(shares):
        use.text(share, place, f" {share:.1f} %", va="center", fontsize="small")
    use.invert_yaxis()
    use.set(xlabel="% of trajectories", xlim=(0, max([*shares, 1]) * 1.25), title="Tools used")
    with replacing(path) as draft:
        figure.savefig(draft, dpi=110, format="png")


def plot_stages(names: Sequence[str], kept: Sequence[int], path: Path, title: str) -> None:
    """How many rows each stage kept."""
    figure = _figure((8, 3.2), title)
    axes = figure.subplots()
    axes.barh(list(names), list(kept), color=REQUIRED)
    for place, count in enumerate(kept):
        axes.text(count, place, f" {count:,}", va="center", fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="rows kept", xlim=(0, max([*kept, 1]) * 1.15))
    with replacing(path) as draft:
        figure.savefig(draft, dpi=110, format="png")


def _figure(size: tuple[float, float], title: str) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra("Drawing plots", "data") from error
    # Figure without pyplot: no display is looked for and nothing is kept open
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    return figure
