"""What a section of the report is, and how figures are written in its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deepmmsearch.eval.charts import BarChart, Forest
from deepmmsearch.eval.figures import Results
from deepmmsearch.eval.played import Played
from deepmmsearch.eval.statistics import Difference, Interval, holm
from deepmmsearch.show.tabulate import Table


@dataclass(frozen=True)
class Section:
    title: str
    lead: str
    tables: tuple[Table, ...]
    charts: tuple[Forest | BarChart, ...] = ()


def main_workflows(results: Results) -> list[str]:
    """All whose tools are not broken, ablations too."""
    return [name for name, w in results.workflows.items() if w.fault is None]


def ablations_of(results: Results) -> list[tuple[str, str]]:
    """Each ablation that was played, and what it is of."""
    return [
        (name, w.ablates)
        for name, w in results.workflows.items()
        if w.ablates is not None and w.replicates is None and w.fault is None and results.select(name)
    ]


@dataclass(frozen=True)
class Comparison:
    """`first` against `second`, on the questions that both answered."""

    first: str
    second: str
    difference: Difference
    planned: bool


def comparisons(results: Results) -> list[Comparison]:
    """Of every pair that has questions in common. Those that the evaluation was made to compare stand first: by its
    claims, and each ablation with what it is of."""
    planned = list(dict.fromkeys([*results.planned, *((whole, name) for name, whole in ablations_of(results))]))
    names = [n for n in main_workflows(results) if results.select(n) and results.workflows[n].replicates is None]
    known = {frozenset(pair) for pair in planned}
    rest = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :] if frozenset((a, b)) not in known]
    found = [
        Comparison(first, second, results.compare(first, second), number < len(planned))
        for number, (first, second) in enumerate([*planned, *rest])
    ]
    return [each for each in found if each.difference.count]


def accuracy_cell(interval: Interval, best: bool = False) -> str:
    if not interval.count:
        return "-"
    return f"{100 * interval.mean:.1f}{'*' if best else ''} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


COMPARED = ("difference", "95 % interval", "questions", "seeds")
TESTED = (*COMPARED, "p (Holm)")
"""Heads of `difference_cells`, and of `tested_cells`."""


def difference_cells(found: Difference) -> list[str]:
    if not found.count:
        return ["-", "-", "0", "-"]
    return [points(found.mean), f"[{points(found.low)}, {points(found.high)}]", str(found.count), str(found.seeds)]


def tested_cells(family: Sequence[Difference]) -> list[list[str]]:
    """Of each comparison of one family, with its p value corrected for all of them (Holm); a star below 0.05."""
    corrected = holm([found.p for found in family])
    return [[*difference_cells(found), _p_value(p)] for found, p in zip(family, corrected, strict=True)]


def points(value: float) -> str:
    return f"{100 * value:+.1f}"


def percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"


def _p_value(p: float) -> str:
    if math.isnan(p):
        return "-"
    return f"{'< 0.001' if p < 0.001 else f'{p:.3f}'}{'*' if p < 0.05 else ''}"


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def mean_cell(results: Results, rows: Sequence[Played]) -> str:
    return f"{100 * results.mean(rows):.1f}"
