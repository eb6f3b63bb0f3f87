"""Visual words of local features, and signatures that tell those of one word apart (Jegou, Douze and Schmid 2008).

A descriptor's halves are quantised apart (an inverted multi-index: Babenko and Lempitsky 2012): WORDS x WORDS words
from 64 kB. The signature has one bit for each random direction on whose side of the word's centre the descriptor lies.
`benchmarks/visual_words.py` made visual_words.npz.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

SPLIT = 64  # dimensions of a half
WORDS = 256  # of each half
BITS = 64
PROBES = 4
_NEAR = 4  # words of each half that are combined to the nearest words


class _Words(NamedTuple):
    centres: np.ndarray  # float32 (2, WORDS, SPLIT)
    norms: np.ndarray  # float32 (2, WORDS): half of their squares
    signs: np.ndarray  # float32 (128, BITS)
    offsets: np.ndarray  # float32 (2, WORDS, BITS): the centres in the random directions


@cache
def _words() -> _Words:
    with np.load(Path(__file__).with_name("visual_words.npz"), allow_pickle=False) as file:
        centres, signs = file["centres"].astype(np.float32), file["signs"].astype(np.float32)
    offsets = np.stack([centres[half] @ signs[half * SPLIT :][:SPLIT] for half in (0, 1)])
    return _Words(centres, 0.5 * (centres**2).sum(2), signs, offsets)


def _nearness(rooted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    words = _words()
    first, second = rooted[:, :SPLIT], rooted[:, SPLIT:]
    return first @ words.centres[0].T - words.norms[0], second @ words.centres[1].T - words.norms[1]


def word_and_signature(rooted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint16 (n,) and uint64 (n,) of Hellinger-normalised descriptors, float32 (n, 128)."""
    first, second = (nearness.argmax(1) for nearness in _nearness(rooted))
    word = (first * WORDS + second).astype(np.uint16)
    return word, _signatures(rooted @ _words().signs, first, second)


def probes(rooted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The PROBES nearest words of each descriptor, int64 (n, PROBES), and its signature within each, uint64."""
    first, second = _nearness(rooted)
    near = [np.argpartition(-nearness, _NEAR, axis=1)[:, :_NEAR] for nearness in (first, second)]
    sums = (
        np.take_along_axis(first, near[0], 1)[:, :, None] + np.take_along_axis(second, near[1], 1)[:, None, :]
    ).reshape(len(rooted), -1)
    best = np.argpartition(-sums, PROBES, axis=1)[:, :PROBES]
    ones, twos = (np.take_along_axis(n, b, 1) for n, b in zip(near, (best // _NEAR, best % _NEAR), strict=True))
    return ones * WORDS + twos, _signatures((rooted @ _words().signs)[:, None], ones, twos)


def _signatures(directions: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    offsets = _words().offsets
    bits = directions > offsets[0][first] + offsets[1][second]
    return np.packbits(bits, axis=-1).view(np.uint64)[..., 0]
