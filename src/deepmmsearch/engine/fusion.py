"""The two rankings of a query, by words and by vectors, made into one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

# chosen on fifteen question sets with two encoders, and checked on three others (docs/engine.md)
DENSE_SHARE = 0.75
"""Of the vectors in a fused score, where the encoder knows the language of the query."""
APART = 1.15
"""How far the nearest passage of a query stands apart (see `Vectors.apart`) from which an encoder has understood it."""
APART_SOFTNESS = 0.08


def dense_share(known: float, apart: float) -> float:
    """What the vectors weigh: their whole share where the encoder's vocabulary knows the query's language (`known`, 0
    to 1), or where the query's vector stands clearly nearer to some passage than to the rest (`apart`). An encoder that
    has never seen a script still gives vectors: they lie together, and any passage is as near as any other."""
    clear = 1 / (1 + math.exp(-max(-30.0, min(30.0, (apart - APART) / APART_SOFTNESS))))
    return DENSE_SHARE * max(known, clear)


def fuse(lexical: Mapping[int, float], dense: Mapping[int, float], depth: int, share: float) -> dict[int, float]:
    """Scores of all rows that either ranking has, highest first best: the mean, with `share` for the dense one, of how
    many deviations a row stands above its ranking's first `depth`. Unlike ranks, that keeps how clear a case is; unlike
    a scale from 0 to 1, a ranking in which nothing stands out moves little. What one lacks counts as its last."""
    if not lexical or not dense:
        return dict(lexical or dense)
    by_words, by_vectors = _standing(lexical, depth), _standing(dense, depth)
    last_word, last_vector = min(by_words.values()), min(by_vectors.values())
    if len(lexical) < depth:
        last_word = min(last_word, _absent(lexical, depth))
    return {
        row: (1 - share) * by_words.get(row, last_word) + share * by_vectors.get(row, last_vector)
        for row in [*lexical, *(row for row in dense if row not in lexical)]
    }


def _spread(scores: Mapping[int, float], depth: int) -> tuple[float, float]:
    """Mean and deviation of a ranking that is `depth` long; what was not found scores nothing."""
    padded = np.zeros(max(depth, len(scores)))
    padded[: len(scores)] = list(scores.values())
    return float(padded.mean()), float(padded.std()) + 1e-9


def _standing(scores: Mapping[int, float], depth: int) -> dict[int, float]:
    mean, deviation = _spread(scores, depth)
    return {row: (score - mean) / deviation for row, score in scores.items()}


def _absent(scores: Mapping[int, float], depth: int) -> float:
    mean, deviation = _spread(scores, depth)
    return -mean / deviation
