"""The invented world's pictures, pixel by pixel: the bundled model learnt these."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

import PIL
import pytest
from PIL import Image

from deepmmsearch.atlas.drawing import (
    BUILDINGS,
    draw_building,
    draw_flag,
    draw_portrait,
    draw_scene,
    famous_flags,
    random_flag,
    soften,
)


def digest(pictures: Iterable[Image.Image]) -> str:
    found = hashlib.sha256()
    for picture in pictures:
        found.update(repr((picture.size, picture.mode)).encode() + picture.tobytes())
    return found.hexdigest()[:16]


@pytest.mark.skipif(not PIL.__version__.startswith("13."), reason="the pixels are those of Pillow 13")
def test_a_seed_draws_the_same_pixels() -> None:
    rng = random.Random(5)
    flags = [random_flag(rng, split) for split in ("train", "eval") for _ in range(60)]
    scenes = [draw_scene(rng, rng.sample(flags, 1 + i % 5)) for i in range(60)]
    assert digest(map(draw_flag, [*flags, *famous_flags().values()])) == "20960cd5ea792708"
    assert digest(picture for picture, _ in scenes) == "0c828b6e07334e95"
    assert hashlib.sha256(repr([placed for _, placed in scenes]).encode()).hexdigest()[:16] == "51d45c04406ea02c"
    assert digest(draw_building(rng, kind, i) for i, kind in enumerate(BUILDINGS * 3)) == "ca8320625f4d7406"
    assert digest(draw_portrait(rng, i) for i in range(20)) == "2d3c7d6ba65d5779"
    assert digest(soften(picture, rng) for picture, _ in scenes[:10]) == "110da2ff6707be54"
