"""Several rankings of the same passages made into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def fuse(rankings: Sequence[Mapping[int, float]], depth: int) -> dict[int, float]:
    """The mean over rankings of scores scaled to [0, 1] between the best and the `depth`-th (0 where that many were
    not found): a convex combination (Bruch, Gai and Ingber 2023). Unlike ranks, it keeps how clear a case is."""
    fused: dict[int, float] = {}
    for scores in rankings:
        best = max(scores.values(), default=0.0)
        least = min(scores.values()) if len(scores) >= depth else 0.0
        span = best - least
        for row, score in scores.items():
            scaled = (score - least) / span if span > 0 else float(score > 0)
            fused[row] = fused.get(row, 0.0) + max(0.0, scaled) / len(rankings)
    return fused
