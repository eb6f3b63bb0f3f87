"""Signs on flags as `zoom` shows them, each with its colour."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from PIL import ImageChops
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


class SignCloseup(NamedTuple):
    """`image`: of one flag; `centre`: the place of its sign, in shares of the width and the height. `scene`: where the
    flag was cut from, with its signs; `bare`: without."""

    image: Image
    carrier: str
    colour: str
    centre: tuple[float, float]
    scene: Image
    bare: Image


def each_closeup(rng: random.Random, split: Split) -> Iterator[SignCloseup]:
    """Endless."""
    while True:
        bare, placed = draw_scene(rng, [random_flag(rng, split) for _ in range(rng.choice([2, 3, 4]))])
        for _ in range(ROUNDS):
            scene = bare.copy()
            colours = pin_signs(rng, scene, placed)
            for place in placed:
                if place.carrier not in colours or place.box is None:
                    continue
                box = Box(*place.box)
                without, shown = (images.crop(each, box, Toolbox.crop_padding) for each in (bare, scene))
                left, top, right, bottom = ImageChops.difference(without, shown).getbbox() or (0, 0, *shown.size)
                centre = (left + right) / 2 / shown.width, (top + bottom) / 2 / shown.height
                yield SignCloseup(shown, place.carrier, colours[place.carrier], centre, scene, bare)


def closeup_questions(seed: int, split: Split, count: int) -> Iterator[tuple[Image, str, str]]:
    """`count` pictures of one flag each, with a question about its sign and the colour."""
    rng = random.Random(f"closeups {split} {seed}")
    for each in islice(each_closeup(rng, split), count):
        yield each.image, say.ask_sign(rng, each.carrier), each.colour
