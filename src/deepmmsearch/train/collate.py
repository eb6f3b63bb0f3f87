"""Trajectories as training batches: labels from provenance, every picture resized and encoded once.

TRL drops all images of a batch in silence when placeholders and features disagree, so both are counted here before
training begins and again in each batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from deepmmsearch.errors import UserError
from deepmmsearch.images import digest
from deepmmsearch.policies.local.families import Family
from deepmmsearch.progress import Watch, silent, tracked
from deepmmsearch.renderer import Renderer
from deepmmsearch.types import Trajectory

IGNORED = -100
# A multiple of 8 keeps matrix sizes friendly to tensor cores and bounds the number of distinct shapes
PAD_MULTIPLE = 8


@dataclass(frozen=True)
class Example:
    """One trajectory ready to batch: placeholders expanded to feature counts; `pictures` index a `PictureSet`."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    pictures: tuple[int, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.where(self.mask, self.ids, IGNORED).astype(np.int64)


class PictureSet:
    """The distinct pictures of a data set as the model sees them, held in memory (3 bytes a pixel)."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._views: list[Image] = []
        self._index: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._views)

    def add(self, view: Image) -> int:
        """The picture's number; equal pixels get the same one."""
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

    def digests(self) -> list[str]:
        """sha256 of each, by number."""
        return sorted(self._index, key=self._index.__getitem__)

    def tokens(self, number: int) -> tuple[int, ...]:
        """The ids that stand for the picture."""
        return self.family.tokens(self._views[number].size)

    def features(self, number: int) -> int:
        """How many features, and so placeholders, the picture has."""
        return self.family.features(self._views[number].size)

    def pixels(self, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        """The model's arguments for the pixels of these pictures, in order."""
        return self.family.inputs([self._views[n] for n in numbers])

    def beside(self, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        """What the model needs of them where it is given their features instead."""
        return self.family.beside([self._views[n].size for n in numbers])


def make_example(trajectory: Trajectory, renderer: Renderer, pictures: PictureSet) -> Example:
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
    trajectories: Iterable[Trajectory], renderer: Renderer, pictures: PictureSet, max_tokens: int
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
def encode_pictures(
    model: PreTrainedModel, pictures: PictureSet, batch_size: int = 64, watch: Watch = silent
) -> list[torch.Tensor]:
    """The features [tokens, hidden] of each picture, on the CPU: a frozen vision tower need not see it every epoch."""
    model.eval()
    features: list[torch.Tensor] = []
    starts = range(0, len(pictures), batch_size)
    for start in tracked(starts, "Batches of pictures", len(starts), watch):
        numbers = range(start, min(start + batch_size, len(pictures)))
        pixels = {name: value.to(model.device) for name, value in pictures.pixels(numbers).items()}
        output = model.get_image_features(**pixels, return_dict=True)
        if getattr(output, "deepstack_features", None):
            raise UserError(
                f"The features of a {model.config.model_type} model cannot be kept (its vision tower feeds several "
                "layers). Set cache_features: false."
            )
        made = torch.cat(list(output.pooler_output)).cpu()
        features += made.split([pictures.features(number) for number in numbers])
    return features


class Collator:
    """Rows `{"row": number of an example}` -> a batch padded on the right.

    Shapes: input_ids, attention_mask, labels [batch, length]; what the model's family wants to know of pictures
    (mm_token_type_ids [batch, length], image_grid_thw [pictures, 3]); and either pixel_values or, with `features`, the
    encoder's output in `mm_encoder_outputs`. A batch without pictures has neither of these.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        pictures: PictureSet,
        pad_token: int,
        features: Sequence[torch.Tensor] | None = None,
    ) -> None:
        self._examples = examples
        self._pictures = pictures
        self._pad_token = pad_token
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
        family = self._pictures.family
        batch: dict[str, Any] = {"input_ids": ids, "attention_mask": attention, "labels": labels}
        batch |= family.token_types(ids)
        numbers = [number for example in examples for number in example.pictures]
        if numbers:
            batch |= self._picture_inputs(numbers, int((ids == family.image_id).sum()))
        return batch

    def _picture_inputs(self, numbers: Sequence[int], placeholders: int) -> dict[str, Any]:
        count = sum(map(self._pictures.features, numbers))
        assert count == placeholders, f"{placeholders} placeholders for {count} image features"
        if self._features is None:
            return self._pictures.pixels(numbers)
        own = tuple(self._features[number] for number in numbers)
        outputs = {"image": BaseModelOutputWithPooling(pooler_output=own)}
        return {"mm_encoder_outputs": outputs} | self._pictures.beside(numbers)
