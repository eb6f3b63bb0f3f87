"""Lessons as tokens and batches; which ones depends on seed and place alone."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from deepmmsearch.bundled import small
from deepmmsearch.bundled.lesson import Lesson
from deepmmsearch.bundled.lessons import LESSONS
from deepmmsearch.bundled.pretrain_recipe import LessonStageSettings

POOL = 8
"""Batches drawn at once, sorted by length and dealt out in random order: less padding."""

Encoded = tuple[list[int], list[int], list[tuple[str, int, int]], np.ndarray | None]


class Encoder:
    """Lessons to tokens, as the chat template would write them."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.pad = int(tokenizer.pad_token_id)
        self._backend = tokenizer.backend_tokenizer
        self.image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._end = self.ids("<|im_end|>")
        self._start = {role: self.ids(f"<|im_start|>{role}") for role in ("user", "assistant")}
        count = small.GRID[0] * small.GRID[1]
        self._picture = self.ids("<|vision_start|>") + [int(self.image)] * count + self.ids("<|vision_end|>")

    def ids(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def __call__(self, lesson: Lesson) -> Encoded:
        ids: list[int] = []
        mask: list[int] = []
        spans: list[tuple[str, int, int]] = []
        for i, (kind, user, assistant) in enumerate(lesson.turns):
            picture = self._picture if i == 0 and lesson.image is not None else []
            asked = [*self._start["user"], *picture, *self.ids(user), *self._end, *self._start["assistant"]]
            said = [*self.ids(assistant), *self._end]
            spans.append((kind, len(ids) + len(asked), len(ids) + len(asked) + len(said)))
            ids += asked + said
            mask += [0] * len(asked) + [1] * len(said)
        return ids, mask, spans, small.patchify(lesson.image) if lesson.image is not None else None


def collate(rows: list[Encoded], pad: int, image: int) -> dict[str, Tensor]:
    length = (max(len(row[0]) for row in rows) + 7) // 8 * 8
    ids = torch.full((len(rows), length), pad)
    attention = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), -100)
    for b, (row, mask, _, _) in enumerate(rows):
        tokens = torch.tensor(row)
        ids[b, : len(row)], attention[b, : len(row)] = tokens, 1
        labels[b, : len(row)] = torch.where(torch.tensor(mask, dtype=torch.bool), tokens, torch.tensor(-100))
    batch = {"input_ids": ids, "attention_mask": attention, "labels": labels, "mm_token_type_ids": (ids == image).int()}
    pictures = [row[3] for row in rows if row[3] is not None]
    if pictures:
        batch["pixel_values"] = torch.from_numpy(np.concatenate(pictures))
        grid = [1, small.VIEW[1] // small.PATCH, small.VIEW[0] // small.PATCH]
        batch["image_grid_thw"] = torch.tensor([grid] * len(pictures))
    return batch


def batches(stage: LessonStageSettings, encode: Encoder, seed: str, start: int) -> Iterator[list[Encoded]]:
    """Endless; batch k depends on the seed and k alone, so an interrupted run goes on where it was."""
    names, weights = list(stage.lessons), list(stage.lessons.values())
    pool_index, skip = divmod(start, POOL)
    while True:
        rng = random.Random(f"{seed} {pool_index}")
        drawn = rng.choices(names, weights, k=stage.batch * POOL)
        pool = sorted(
            (encode(LESSONS[name](rng, "train")) for name in drawn), key=lambda row: (row[3] is None, len(row[0]))
        )
        dealt = [pool[i : i + stage.batch] for i in range(0, len(pool), stage.batch)]
        # The order is the same for all workers: those with pictures at the same time, so that none waits.
        random.Random(f"order {pool_index}").shuffle(dealt)
        yield from dealt[skip:]
        pool_index, skip = pool_index + 1, 0
