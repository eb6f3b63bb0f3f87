"""What a recipe of the small base model may say."""

from __future__ import annotations

from pathlib import Path

from deepmmsearch.settings import Aside, Recipe, Settings


class StageSettings(Settings):
    steps: int
    batch: int = 16
    muon_lr: float = 4e-3
    adam_lr: float = 3e-3
    warmup: int = 30
    decay_from: float = 0.5
    workers: int = 1


class LessonStageSettings(StageSettings):
    lessons: dict[str, float]


class PretrainRecipe(Recipe):
    """`deepmmsearch pretrain`: where the result goes and how long each stage lasts (steps of `batch` samples a
    worker)."""

    output: Aside[Path]
    seed: int = 0
    hidden: int = 256
    layers: int = 5
    inner: int = 512
    text: LessonStageSettings
    vision: StageSettings
    align: StageSettings
    keys: LessonStageSettings
    scenes: LessonStageSettings
    boxes: LessonStageSettings
    joint: LessonStageSettings
    save_every: Aside[int] = 100
    evaluate_every: Aside[int] = 200
