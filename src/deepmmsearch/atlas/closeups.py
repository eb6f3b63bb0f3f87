"""Signs on flags as `zoom` shows them, each with its colour: short rows that teach a vision tower to see what is so
small. Episodes alone would be too few, and most of their tokens are about something else."""

from __future__ import annotations

import random
from collections.abc import Iterator

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.agent import Toolbox
from deepmmsearch.atlas import wordings as say
from deepmmsearch.atlas.drawing import draw_scene
from deepmmsearch.atlas.drawing.flags import random_flag
from deepmmsearch.atlas.drawing.signs import pin_signs
from deepmmsearch.atlas.names import Split
from deepmmsearch.types import Box

ROUNDS = 6
"""Other signs on the same flags: a scene takes longer to draw than its signs."""


def closeups(seed: int, split: Split, count: int) -> Iterator[tuple[Image, str, str]]:
    """`count` pictures of one flag each, with a question about its sign and the colour."""
    rng, made = random.Random(f"closeups {split} {seed}"), 0
    while True:
        scene, placed = draw_scene(rng, [random_flag(rng, split) for _ in range(rng.choice([2, 3, 4]))])
        for _ in range(ROUNDS):
            image = scene.copy()
            colours = pin_signs(rng, image, placed)
            for place in placed:
                if place.carrier not in colours or place.box is None:
                    continue
                if made == count:
                    return
                made += 1
                shown = images.crop(image, Box(*place.box), Toolbox.crop_padding)
                yield shown, say.ask_sign(rng, place.carrier), colours[place.carrier]
