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
    be if the two were equally good. `seeds`: of how many training runs the one with more of them is the mean."""

    mean: float
    low: float
    high: float
    p: float
    count: int
    seeds: int = 1


def bootstrap(groups: Sequence[Sequence[float]], seed: int = 0) -> Interval:
    """The mean of the groups' means (a benchmark each, equal weight); questions are resampled within each group."""
    filled = [np.asarray(group, dtype=float) for group in groups if len(group)]
    if not filled:
        return Interval(math.nan, math.nan, math.nan, 0)
    rng = np.random.default_rng(seed)
    drawn = np.mean([_resampled(rng, group[None])[0] for group in filled], axis=0)
    mean = float(np.mean([group.mean() for group in filled]))
    return Interval(mean, *_middle(drawn), sum(map(len, filled)))


def bootstrap_runs(groups: Sequence[Sequence[Sequence[float]]], seed: int = 0) -> Interval:
    """As `bootstrap`, for several training runs: groups x runs x questions. Runs are a random effect: they are
    resampled as the questions are, the same in each group."""
    filled = [np.asarray(group, dtype=float) for group in groups if len(group) and len(group[0])]
    if not filled:
        return Interval(math.nan, math.nan, math.nan, 0)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(filled[0]), (len(filled[0]), RESAMPLES))
    drawn = np.mean([_over_runs(_resampled(rng, group), chosen) for group in filled], axis=0)
    mean = float(np.mean([group.mean() for group in filled]))
    return Interval(mean, *_middle(drawn), sum(group.shape[1] for group in filled))


def _middle(drawn: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def _resampled(rng: np.random.Generator, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of RESAMPLES samples of the questions with replacement, the same for each run: runs x questions becomes
    runs x RESAMPLES, in pieces that fit into memory."""
    count = values.shape[1]
    piece = max(1, min(RESAMPLES, 4_000_000 // values.size))
    means = []
    for at in range(0, RESAMPLES, piece):
        size = min(piece, RESAMPLES - at)
        means.append(values[:, rng.integers(0, count, (size, count))].mean(axis=2))
    return np.concatenate(means, axis=1)


def _over_runs(means: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of the runs that each resample has chosen (runs x RESAMPLES). Few runs resampled vary less than runs do:
    by (n - 1) / n, which is made up for."""
    runs = len(means)
    centre = means.mean(axis=0)
    if runs == 1:
        return centre
    drawn = np.take_along_axis(means, chosen, axis=0).mean(axis=0)
    return centre + math.sqrt(runs / (runs - 1)) * (drawn - centre)


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


def compare_runs(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], seed: int = 0) -> Difference:
    """Paired by question, where either is the mean of several training runs (runs x questions each). Runs and questions
    are resampled; p is twice the smaller share of resamples on one side of zero."""
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"{one.shape[1]} scores against {other.shape[1]}: pairs are needed.")
    if not one.shape[1]:
        return Difference(math.nan, math.nan, math.nan, math.nan, 0, max(len(one), len(other)))
    rng = np.random.default_rng(seed)
    means = _resampled(rng, np.concatenate([one, other]))
    sides = [
        _over_runs(side, rng.integers(0, len(side), (len(side), RESAMPLES)))
        for side in (means[: len(one)], means[len(one) :])
    ]
    drawn = sides[0] - sides[1]
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    mean, p = float(one.mean() - other.mean()), min(1.0, 2 * (beyond + 1) / (RESAMPLES + 1))
    return Difference(mean, *_middle(drawn), p, one.shape[1], max(len(one), len(other)))


def holm(ps: Sequence[float]) -> list[float]:
    """p values of one family, corrected for how many they are (Holm 1979); NaN, which is no test, stays."""
    tested = sorted((p, at) for at, p in enumerate(ps) if not math.isnan(p))
    found, least = list(ps), 0.0
    for rank, (p, at) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * p))
        found[at] = least
    return found


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
