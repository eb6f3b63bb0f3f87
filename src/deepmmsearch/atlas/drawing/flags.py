"""Flags: which there are, and how they look."""

from __future__ import annotations

import hashlib
import random
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageDraw

from deepmmsearch.atlas.drawing.emblems import EMBLEMS, RGB, draw_emblem
from deepmmsearch.atlas.names import FAMOUS, Split

FLAG = (320, 180)

COLOURS: dict[str, RGB] = {
    "red": (205, 30, 40),
    "blue": (30, 60, 190),
    "green": (20, 140, 60),
    "yellow": (245, 210, 40),
    "white": (250, 250, 250),
    "black": (20, 20, 20),
    "orange": (240, 130, 30),
    "purple": (130, 40, 150),
}
LAYOUTS = ("bar", "foot", "cross", "saltire", "canton", "disc", "border", "wedge", "band", "diagonal")
FAMOUS_LAYOUTS = ("quarters", "stripes")


class Flag(NamedTuple):
    layout: str
    main: str
    second: str
    emblem: str
    third: str


def flag_split(flag: Flag) -> Split:
    """A fifth of the (layout, colours) combinations appears in evaluation worlds only."""
    key = f"{flag.layout} {flag.main} {flag.second}".encode()
    return "eval" if int(hashlib.md5(key, usedforsecurity=False).hexdigest(), 16) % 5 == 0 else "train"


def random_flag(rng: random.Random, split: Split) -> Flag:
    while True:
        main, second, third = rng.sample(list(COLOURS), 3)
        flag = Flag(rng.choice(LAYOUTS), main, second, rng.choice(EMBLEMS), third)
        if flag_split(flag) == split:
            return flag


def lookalike(rng: random.Random, flag: Flag, split: Split) -> Flag:
    """The same layout and main colour, another emblem and where possible another second colour."""
    while True:
        second, third = rng.sample([c for c in COLOURS if c != flag.main], 2)
        other = Flag(flag.layout, flag.main, second, rng.choice([e for e in EMBLEMS if e != flag.emblem]), third)
        if flag_split(other) == split:
            return other


def famous_flags() -> dict[str, Flag]:
    """The flags known by heart: their two layouts are used by no other country."""
    pairs = [("red", "white"), ("blue", "yellow"), ("green", "white"), ("black", "orange"), ("purple", "yellow")]
    pairs += [("orange", "blue")]
    flags = [Flag(layout, a, b, "none", a) for layout in FAMOUS_LAYOUTS for a, b in pairs]
    return dict(zip(FAMOUS, flags, strict=True))


# Where each layout leaves room for the emblem: centre and radius as shares of the flag's height.
_EMBLEM_AT = {
    "bar": (1.18, 0.5, 0.24),
    "foot": (0.89, 0.34, 0.24),
    "cross": (1.4, 0.24, 0.17),
    "saltire": (0.89, 0.2, 0.15),
    "canton": (0.4, 0.28, 0.2),
    "disc": (0.89, 0.5, 0.22),
    "border": (0.89, 0.5, 0.26),
    "wedge": (1.2, 0.5, 0.24),
    "band": (0.4, 0.24, 0.17),
    "diagonal": (0.4, 0.3, 0.2),
}


@lru_cache(maxsize=4096)
def draw_flag(flag: Flag) -> Image.Image:
    """A flag as a picture of 320 x 180 px. The main colour always covers most of it."""
    w, h = FLAG
    a, b, c = COLOURS[flag.main], COLOURS[flag.second], COLOURS[flag.third]
    image = Image.new("RGB", FLAG, a)
    draw = ImageDraw.Draw(image)
    match flag.layout:
        case "bar":
            draw.rectangle([0, 0, w // 3, h], fill=b)
        case "foot":
            draw.rectangle([0, h * 2 // 3, w, h], fill=b)
        case "cross":
            draw.rectangle([w // 3 - 22, 0, w // 3 + 22, h], fill=b)
            draw.rectangle([0, h // 2 - 22, w, h // 2 + 22], fill=b)
        case "saltire":
            draw.line([0, 0, w, h], fill=b, width=40)
            draw.line([0, h, w, 0], fill=b, width=40)
        case "canton":
            draw.rectangle([0, 0, w // 2 - 20, h * 56 // 100], fill=b)
        case "disc":
            draw.ellipse([w / 2 - h * 0.36, h * 0.14, w / 2 + h * 0.36, h * 0.86], fill=b)
        case "border":
            draw.rectangle([0, 0, w, h], fill=b)
            draw.rectangle([28, 24, w - 28, h - 24], fill=a)
        case "wedge":
            draw.polygon([(0, 0), (w * 0.42, h / 2), (0, h)], fill=b)
        case "band":
            draw.rectangle([0, h // 2 - 28, w, h // 2 + 28], fill=b)
        case "diagonal":
            draw.polygon([(w * 0.45, h), (w, h), (w, h * 0.1)], fill=b)
        case "quarters":
            draw.rectangle([0, 0, w // 2, h // 2], fill=b)
            draw.rectangle([w // 2, h // 2, w, h], fill=b)
        case "stripes":
            for i in range(0, 8, 2):
                draw.rectangle([w * i // 8, 0, w * (i + 1) // 8, h], fill=b)
    if flag.layout in _EMBLEM_AT:
        x, y, r = _EMBLEM_AT[flag.layout]
        draw_emblem(draw, flag.emblem, x * h, y * h, r * h, c)
    return image
