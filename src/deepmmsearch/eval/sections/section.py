"""What a section of the report is, and how figures are written in its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deepmmsearch.eval.charts import BarChart, Forest
from deepmmsearch.eval.figures import Played, Results
from deepmmsearch.eval.statistics import Difference, Interval
from deepmmsearch.show.tabulate import Table


@dataclass(frozen=True)
class Section:
    title: str
    lead: str
    tables: tuple[Table, ...]
    charts: tuple[Forest | BarChart, ...] = ()


def main_workflows(results: Results) -> list[str]:
    """Those that are not ablations and whose tools are not broken."""
    return [name for name, w in results.workflows.items() if w.ablates is None and w.fault is None]


def accuracy_cell(interval: Interval, best: bool = False) -> str:
    if not interval.count:
        return "-"
    return f"{100 * interval.mean:.1f}{'*' if best else ''} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def difference_cells(found: Difference) -> list[str]:
    if not found.count:
        return ["-", "-", "-", "0"]
    return [points(found.mean), f"[{points(found.low)}, {points(found.high)}]", _p_value(found.p), str(found.count)]


def points(value: float) -> str:
    return f"{100 * value:+.1f}"


def percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def mean_cell(results: Results, rows: Sequence[Played]) -> str:
    return f"{100 * results.mean(rows):.1f}"
