"""Intervals and tests: how sure a figure is, and a difference between two workflows on the same questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap 95 % interval. `count` is how many questions it is of."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference:
    """The mean of first - second over the questions that both answered, its interval, and how likely one as large would
    be if the two were equally good."""

    mean: float
    low: float
    high: float
    p: float
    count: int


def bootstrap(groups: Sequence[Sequence[float]], seed: int = 0) -> Interval:
    """The mean of the groups' means (a benchmark each, equal weight); questions are resampled within each group."""
    filled = [np.asarray(group, dtype=float) for group in groups if len(group)]
    if not filled:
        return Interval(math.nan, math.nan, math.nan, 0)
    rng = np.random.default_rng(seed)
    drawn = np.mean([_resampled(rng, group) for group in filled], axis=0)
    low, high = np.quantile(drawn, (0.025, 0.975))
    mean = float(np.mean([group.mean() for group in filled]))
    return Interval(mean, float(low), float(high), sum(map(len, filled)))


def _resampled(rng: np.random.Generator, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of RESAMPLES samples with replacement, in pieces that fit into memory."""
    piece = max(1, min(RESAMPLES, 4_000_000 // len(values)))
    means = []
    for at in range(0, RESAMPLES, piece):
        size = min(piece, RESAMPLES - at)
        means.append(values[rng.integers(0, len(values), (size, len(values)))].mean(axis=1))
    return np.concatenate(means)


def compare(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Difference:
    """Paired, question by question. Right or wrong: McNemar's exact test; graded scores: random sign flips."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} scores against {len(second)}: pairs are needed.")
    if not len(first):
        return Difference(math.nan, math.nan, math.nan, math.nan, 0)
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    interval = bootstrap([differences.tolist()], seed)
    graded = bool(np.any((differences != 0) & (np.abs(differences) != 1)))
    p = _flipped(differences, seed) if graded else mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
    return Difference(interval.mean, interval.low, interval.high, p, len(first))


def mcnemar(better: int, worse: int) -> float:
    """Two-sided exact binomial test of `better` against `worse` discordant pairs."""
    count = better + worse
    if count == 0:
        return 1.0
    tail = sum(math.comb(count, k) for k in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / 2**count)


def _flipped(differences: NDArray[np.float64], seed: int) -> float:
    rng = np.random.default_rng(seed)
    observed = abs(differences.sum())
    signs = rng.choice((-1.0, 1.0), (RESAMPLES, len(differences)))
    extreme = int((np.abs(signs @ differences) >= observed - 1e-12).sum())
    return (extreme + 1) / (RESAMPLES + 1)


def quantile(values: Sequence[float], q: float) -> float:
    return float(np.quantile(values, q)) if len(values) else math.nan


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson's; NaN where either does not vary."""
    if len(one) < 3 or np.std(one) == 0 or np.std(other) == 0:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])
