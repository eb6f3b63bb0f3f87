"""Inverted lists of visual words: which pictures of a segment the features of a query vote for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepmmsearch.engine import descriptors as d
from deepmmsearch.engine import visual_words as words

VOTING = 240  # of a picture's features: half of them the largest, which survive when it is shown small
BUDGET = 1_000_000  # features looked at for a query, those of the rarest words first
NEAR = 14  # bits in which the signatures of matching features may differ
FEW = 30  # features below which a picture's votes count no more


def row(features: d.Features) -> dict[str, Any]:
    """What a segment keeps of the features of one picture, of which the strongest come first."""
    largest = np.argsort(-features.points[:, 2], kind="stable")[: VOTING // 2]
    others = np.setdiff1d(np.arange(len(features.points)), largest)[: VOTING - len(largest)]
    voting = features.descriptors[np.concatenate([largest, others])]
    word, signature = words.word_and_signature(d.root_sift(voting))
    return {"words": [word], "signatures": [signature]}


class Lists:
    """10 bytes in memory for each of at most VOTING features of a picture, 12 where a segment has 65,536 of them."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        own = np.asarray(arrays["words"])
        order = np.argsort(own, kind="stable")
        counts = np.diff(np.asarray(arrays["words_offsets"]))
        numbers = np.arange(len(counts), dtype=np.min_scalar_type(len(counts)))
        self._pictures = np.repeat(numbers, counts)[order]
        self._signatures = np.asarray(arrays["signatures"])[order]
        lengths = np.bincount(own, minlength=words.WORDS**2)
        self._starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint32)
        self._weight = (1 / np.sqrt(np.maximum(FEW, counts))).astype(np.float32)

    def votes(self, probed: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """float64 (pictures,), of the words and signatures that `visual_words.probes` gave for a query."""
        word, signature = (each.ravel() for each in probed)
        starts = self._starts[word].astype(np.int64)
        length = self._starts[word + 1] - starts
        rarest = np.argsort(length, kind="stable")
        chosen = rarest[: np.searchsorted(np.cumsum(length[rarest]), BUDGET, "right")]
        length = length[chosen]
        # the positions of all entries of the lists, one list after the other
        ends = np.cumsum(length)
        entries = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts[chosen] - ends + length, length)
        apart = np.bitwise_count(self._signatures[entries] ^ np.repeat(signature[chosen], length))
        near = np.flatnonzero(apart <= NEAR)
        picture = self._pictures[entries[near]]
        asked = np.repeat(chosen // probed[0].shape[1], length)[near]
        # rare words and near signatures say more; a feature votes once for a picture, however often it is in it
        rarity = np.log(1 + len(self._pictures) / np.maximum(1, np.repeat(length, length)[near]))
        weight = rarity * (1 - apart[near] / (NEAR + 1))
        pairs, inverse = np.unique(asked.astype(np.int64) * len(self._weight) + picture, return_inverse=True)
        best = np.zeros(len(pairs))
        np.maximum.at(best, inverse, weight)
        counted = np.bincount(pairs % len(self._weight), best, len(self._weight))
        return np.asarray(counted * self._weight)
