"""Orders of examples and questions that depend on seed and epoch alone, so that an interrupted run goes on exactly."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler


class LengthGrouped(Sampler[int]):
    """Numbers of examples such that each slice of `batch_size` holds similar lengths; the slices come in random order.

    The order depends on seed and epoch alone, so that a run that was interrupted within an epoch goes on with the
    batches it had left (the library's own sampler draws from the global generator, and leaves the batches of one
    group sorted by length).
    """

    GROUP = 50

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self._seed}/{self._epoch()}")
        order = rng.sample(range(len(self._lengths)), len(self._lengths))
        size = self._batch_size * self.GROUP
        groups = (sorted(order[i : i + size], key=self._lengths.__getitem__) for i in range(0, len(order), size))
        flat = [number for group in groups for number in group]
        batches = [flat[i : i + self._batch_size] for i in range(0, len(flat), self._batch_size)]
        incomplete = batches.pop() if len(batches[-1]) < self._batch_size else []
        rng.shuffle(batches)
        return (number for batch in (*batches, incomplete) for number in batch)


class EachEpoch(Sampler[int]):
    """TRL's sampler with an order of questions that depends on seed and epoch alone: its own goes on from the last
    epoch's, which a run that was interrupted did not draw."""

    def __init__(self, sampler: RepeatSampler, seed: int, epoch: Callable[[], int]) -> None:
        self._sampler, self._seed, self._epoch = sampler, seed, epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        if self._sampler.shuffle:
            self._sampler.generator.manual_seed(self._seed + self._epoch())
        return iter(self._sampler)


def untaken(rng: random.Random, numbers: Sequence[int], count: int, taken: set[int]) -> list[int]:
    """At most `count` of the numbers that are not `taken`, each once; they are taken then."""
    candidates = (
        number for number in rng.sample(numbers, min(len(numbers), count + len(taken))) if number not in taken
    )
    drawn = list(islice(candidates, count))
    taken.update(drawn)
    return drawn
