"""Small signs on flags: a plate of one colour, too small for who sees the scene at a quarter of its width."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image, ImageDraw

from deepmmsearch.atlas.drawing.flags import COLOURS, Flag
from deepmmsearch.atlas.drawing.scenes import Placed

SIDE, FRAME = 16, 2
_GREY = (120, 120, 120)


def pin_signs(rng: random.Random, image: Image.Image, placed: Sequence[Placed]) -> dict[str, str]:
    """Pins a sign to each flag of a scene, in a colour that the flag does not have. Returns the colour by carrier."""
    draw, colours = ImageDraw.Draw(image), {}
    for place in placed:
        if place.flag is None or place.box is None:
            continue
        colour = rng.choice([c for c in COLOURS if c not in _worn(place.flag)])
        _, _, right, bottom = place.box
        x, y = right - SIDE - rng.randint(12, 24), bottom - SIDE - rng.randint(12, 20)
        draw.rectangle([x, y, x + SIDE - 1, y + SIDE - 1], fill=_GREY)
        inner = [x + FRAME, y + FRAME, x + SIDE - 1 - FRAME, y + SIDE - 1 - FRAME]
        draw.rectangle(inner, fill=COLOURS[colour])
        colours[place.carrier] = colour
    return colours


def _worn(flag: Flag) -> tuple[str, ...]:
    return flag.main, flag.second, flag.third
