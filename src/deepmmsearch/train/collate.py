"""Trajectories as training batches: labels from provenance, every picture resized and encoded once.

TRL drops all images of a batch in silence when placeholders and features disagree, so both are counted here before
training begins and again in each batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch.utils.data import Sampler
from transformers import BaseImageProcessor, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from deepmmsearch.errors import UserError
from deepmmsearch.images import digest
from deepmmsearch.renderer import Renderer
from deepmmsearch.types import Trajectory

IGNORED = -100
# A multiple of 8 keeps matrix sizes friendly to tensor cores and bounds the number of distinct shapes
PAD_MULTIPLE = 8


@dataclass(frozen=True)
class Example:
    """One trajectory ready to batch: placeholders expanded to feature counts; `pictures` index a `Pictures`."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    pictures: tuple[int, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.where(self.mask, self.ids, IGNORED).astype(np.int64)


class Pictures:
    """The distinct pictures of a data set as the model sees them, held in memory (3 bytes a pixel)."""

    def __init__(self, processor: BaseImageProcessor) -> None:
        self._processor = processor
        self._views: list[Image] = []
        self._index: dict[str, int] = {}
        self.patch: int = processor.patch_size
        self.merge: int = processor.merge_size

    def __len__(self) -> int:
        return len(self._views)

    def add(self, view: Image) -> int:
        """The picture's number; equal pixels get the same one. It must have its final size: nothing resizes here."""
        cell = self.patch * self.merge
        assert view.width % cell == view.height % cell == 0, f"a view of {view.size} is not in multiples of {cell}"
        number = self._index.setdefault(digest(view), len(self._views))
        if number == len(self._views):
            self._views.append(view.convert("RGB"))
        return number

    def keep(self, numbers: Iterable[int]) -> dict[int, int]:
        """Forgets all other pictures. Returns the new number of each that stays."""
        new = {old: place for place, old in enumerate(sorted(set(numbers)))}
        self._views = [self._views[old] for old in new]
        self._index = {name: new[old] for name, old in self._index.items() if old in new}
        return new

    def tokens(self, number: int) -> int:
        """How many features, and so placeholders, the picture has."""
        view, cell = self._views[number], self.patch * self.merge
        return (view.width // cell) * (view.height // cell)

    def pixels(self, numbers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """`pixel_values` [patches of all pictures, values of a patch] and `image_grid_thw` [pictures, 3]."""
        made = self._processor([self._views[n] for n in numbers], do_resize=False, return_tensors="pt")
        return made["pixel_values"], made["image_grid_thw"]

    def grid(self, numbers: Sequence[int]) -> torch.Tensor:
        """`image_grid_thw` [pictures, 3] alone."""
        sizes = [self._views[n].size for n in numbers]
        return torch.tensor([[1, height // self.patch, width // self.patch] for width, height in sizes])


def make_example(trajectory: Trajectory, renderer: Renderer, pictures: Pictures) -> Example:
    """The trajectory as teacher text, its placeholders repeated as often as their pictures have features.

    Sampled ids are not used: they may be another model's, and whoever wrote it, the text is what is taught.
    """
    turns = tuple(
        replace(turn, completion=replace(turn.completion, ids=None, logprobs=None)) for turn in trajectory.turns
    )
    sequence = renderer.sequence(replace(trajectory, turns=turns), teacher=True)
    placeholders = sequence.ids.count(renderer.image_id)
    assert placeholders == len(sequence.images), f"{placeholders} placeholders, {len(sequence.images)} images"
    numbers = tuple(pictures.add(view) for view in sequence.images)
    expanded = renderer.expand_sequence(sequence, [pictures.tokens(number) for number in numbers])
    assert len(expanded.ids) == len(expanded.mask), f"{len(expanded.ids)} ids, mask of {len(expanded.mask)}"
    ids, mask = np.array(expanded.ids, dtype=np.int32), np.array(expanded.mask, dtype=np.bool_)
    assert not mask[ids == renderer.image_id].any(), "an image placeholder is marked as written by the policy"
    return Example(ids, mask, numbers)


def make_examples(
    trajectories: Iterable[Trajectory], renderer: Renderer, pictures: Pictures, max_tokens: int
) -> tuple[list[Example], int]:
    """The examples and how many trajectories were left out: those that failed or were broken off (an end of turn
    would be taught where the text was cut) and those longer than `max_tokens` with their pictures (a sequence is never
    cut).

    Raises UserError when nothing is left.
    """
    examples: list[Example] = []
    left_out = 0
    for trajectory in trajectories:
        complete = trajectory.stop in ("answer", "turns")
        example = make_example(trajectory, renderer, pictures) if complete else None
        if example is None or len(example.ids) > max_tokens:
            left_out += 1
        else:
            examples.append(example)
    if not examples:
        found = f"{left_out} trajectories, each broken off, failed or over {max_tokens} tokens" if left_out else "none"
        raise UserError(
            f"There are no trajectories to train on (found {found}). Check the recipe's data and max_tokens."
        )
    return examples, left_out


@torch.no_grad()
def encode_pictures(model: PreTrainedModel, pictures: Pictures, batch_size: int = 64) -> list[torch.Tensor]:
    """The features [tokens, hidden] of each picture, on the CPU: a frozen vision tower need not see it every epoch."""
    model.eval()
    features: list[torch.Tensor] = []
    for start in range(0, len(pictures), batch_size):
        pixels, grid = pictures.pixels(range(start, min(start + batch_size, len(pictures))))
        output = model.get_image_features(pixels.to(model.device), grid.to(model.device), return_dict=True)
        if type(output) is not BaseModelOutputWithPooling:
            raise UserError(
                f"The features of a {model.config.model_type} model cannot be kept (its vision tower feeds several "
                "layers). Set cache_features: false."
            )
        features += [feature.cpu() for feature in output.pooler_output]
    return features


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


class Collator:
    """Rows `{"row": number of an example}` -> a batch padded on the right.

    Shapes: input_ids, attention_mask, labels, mm_token_type_ids [batch, length]; image_grid_thw [pictures, 3]; and
    either pixel_values or, with `features`, the encoder's output in `mm_encoder_outputs`. A batch without pictures
    has none of the last three.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        pictures: Pictures,
        pad_token: int,
        image_token: int,
        features: Sequence[torch.Tensor] | None = None,
    ) -> None:
        self._examples = examples
        self._pictures = pictures
        self._pad_token = pad_token
        self._image_token = image_token
        self._features = features

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        examples = [self._examples[row["row"]] for row in rows]
        longest = max(len(example.ids) for example in examples)
        shape = (len(examples), -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE)
        ids = torch.full(shape, self._pad_token, dtype=torch.long)
        labels = torch.full(shape, IGNORED, dtype=torch.long)
        attention = torch.zeros(shape, dtype=torch.long)
        for i, example in enumerate(examples):
            length = len(example.ids)
            ids[i, :length] = torch.from_numpy(example.ids)
            labels[i, :length] = torch.from_numpy(example.labels)
            attention[i, :length] = 1
        image_tokens = ids == self._image_token
        batch: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": attention,
            "labels": labels,
            "mm_token_type_ids": image_tokens.int(),
        }
        numbers = [number for example in examples for number in example.pictures]
        if numbers:
            batch |= self._picture_inputs(numbers, int(image_tokens.sum()))
        return batch

    def _picture_inputs(self, numbers: Sequence[int], placeholders: int) -> dict[str, Any]:
        inputs: dict[str, Any]
        if self._features is not None:
            own = tuple(self._features[number] for number in numbers)
            grid, count = self._pictures.grid(numbers), sum(len(feature) for feature in own)
            inputs = {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=own)}}
        else:
            pixels, grid = self._pictures.pixels(numbers)
            count = int(grid.prod(-1).sum()) // self._pictures.merge**2
            inputs = {"pixel_values": pixels}
        assert count == placeholders, f"{placeholders} placeholders for {count} image features"
        return inputs | {"image_grid_thw": grid}
