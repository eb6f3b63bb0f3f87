"""Pictures of the invented world: flags, scenes, buildings, portraits. All are drawn from a seed with PIL.

A scene is 672 x 448 px: six cells of 224 px, one to five of them hold a flag on a carrier (ship, tower, kite ...),
one may hold a bare carrier, and there is clutter around. The model sees a quarter of that size; crops are cut from
the original.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deepmmsearch.atlas.names import FAMOUS, Split

SCENE = (672, 448)
CELL = 224
FLAG = (320, 180)

COLOURS: dict[str, tuple[int, int, int]] = {
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
EMBLEMS = ("star", "sun", "moon", "tree", "anchor", "crown", "fish", "key", "diamond", "mountain", "hammer", "leaf")
CARRIERS = ("ship", "tower", "balloon", "tent", "bus", "wheel", "ladder", "gate", "kite", "house")
POSITIONS = ("top left", "top middle", "top right", "bottom left", "bottom middle", "bottom right")
BUILDINGS = ("tower", "bridge", "castle", "temple", "lighthouse", "arch")

RGB = tuple[int, int, int]
Pixels = tuple[int, int, int, int]


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


def _emblem(draw: ImageDraw.ImageDraw, kind: str, x: float, y: float, r: float, fill: RGB) -> None:
    def polygon(points: Sequence[tuple[float, float]]) -> None:
        draw.polygon([(x + px * r, y + py * r) for px, py in points], fill=fill)

    def around(n: int, inner: float) -> list[tuple[float, float]]:
        angles = [math.pi * i / n - math.pi / 2 for i in range(2 * n)]
        return [
            (math.cos(a) * (inner if i % 2 else 1), math.sin(a) * (inner if i % 2 else 1)) for i, a in enumerate(angles)
        ]

    match kind:
        case "star":
            polygon(around(5, 0.4))
        case "sun":
            polygon(around(12, 0.6))
        case "moon":
            draw.pieslice([x - r, y - r, x + r, y + r], 50, 310, fill=fill)
        case "tree":
            polygon([(0, -1), (0.8, 0.4), (0.2, 0.4), (0.2, 1), (-0.2, 1), (-0.2, 0.4), (-0.8, 0.4)])
        case "anchor":
            polygon(
                [
                    (-0.15, -1),
                    (0.15, -1),
                    (0.15, 0.5),
                    (0.8, 0.1),
                    (0.6, 0.8),
                    (0, 1),
                    (-0.6, 0.8),
                    (-0.8, 0.1),
                    (-0.15, 0.5),
                ]
            )
        case "crown":
            polygon([(-1, 0.7), (-1, -0.6), (-0.5, 0), (0, -0.9), (0.5, 0), (1, -0.6), (1, 0.7)])
        case "fish":
            polygon(
                [
                    (-1, -0.6),
                    (-0.5, 0),
                    (-0.2, -0.5),
                    (0.6, -0.5),
                    (1, 0),
                    (0.6, 0.5),
                    (-0.2, 0.5),
                    (-0.5, 0),
                    (-1, 0.6),
                ]
            )
        case "key":
            draw.ellipse([x - r, y - r * 0.5, x, y + r * 0.5], fill=fill)
            polygon([(-0.1, -0.15), (1, -0.15), (1, 0.6), (0.7, 0.6), (0.7, 0.15), (-0.1, 0.15)])
        case "diamond":
            polygon([(0, -1), (0.6, 0), (0, 1), (-0.6, 0)])
        case "mountain":
            polygon([(-1, 0.8), (-0.4, -0.5), (-0.1, 0.1), (0.3, -0.9), (1, 0.8)])
        case "hammer":
            polygon(
                [
                    (-0.8, -0.9),
                    (0.8, -0.9),
                    (0.8, -0.3),
                    (0.15, -0.3),
                    (0.15, 1),
                    (-0.15, 1),
                    (-0.15, -0.3),
                    (-0.8, -0.3),
                ]
            )
        case "leaf":
            polygon(
                [
                    (0, -1),
                    (0.5, -0.4),
                    (0.6, 0.3),
                    (0.1, 0.7),
                    (0.1, 1),
                    (-0.1, 1),
                    (-0.1, 0.7),
                    (-0.6, 0.3),
                    (-0.5, -0.4),
                ]
            )


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
        _emblem(draw, flag.emblem, x * h, y * h, r * h, c)
    return image


def _draw_carrier(d: ImageDraw.ImageDraw, kind: str, x: float, y: float, w: float, h: float, fill: RGB) -> None:
    def box(x0: float, y0: float, x1: float, y1: float, colour: RGB = fill) -> None:
        d.rectangle([x + x0 * w, y + y0 * h, x + x1 * w, y + y1 * h], fill=colour)

    def polygon(*points: tuple[float, float]) -> None:
        d.polygon([(x + px * w, y + py * h) for px, py in points], fill=fill)

    light = (225, 235, 245)
    match kind:
        case "ship":
            polygon((0, 0.5), (1, 0.5), (0.8, 1), (0.2, 1))
            box(0.46, 0, 0.54, 0.5)
        case "tower":
            box(0.36, 0, 0.64, 1)
            for t in (0.15, 0.45, 0.75):
                box(0.45, t, 0.55, t + 0.12, light)
        case "balloon":
            d.ellipse([x + w / 2 - h * 0.4, y, x + w / 2 + h * 0.4, y + h * 0.8], fill=fill)
            box(0.42, 0.88, 0.58, 1)
        case "tent":
            polygon((0.5, 0), (1, 1), (0, 1))
        case "bus":
            box(0, 0.25, 1, 0.8)
            for t in (0.1, 0.42, 0.74):
                box(t, 0.35, t + 0.17, 0.55, light)
            for t in (0.12, 0.66):
                d.ellipse([x + w * t, y + h * 0.68, x + w * (t + 0.22), y + h], fill=fill)
        case "wheel":
            d.ellipse([x + w / 2 - h / 2, y, x + w / 2 + h / 2, y + h], outline=fill, width=16)
            box(0.47, 0.05, 0.53, 0.95)
            box(0.15, 0.45, 0.85, 0.55)
        case "ladder":
            box(0.25, 0, 0.33, 1)
            box(0.67, 0, 0.75, 1)
            for t in (0.1, 0.35, 0.6, 0.85):
                box(0.25, t, 0.75, t + 0.07)
        case "gate":
            box(0, 0, 1, 0.3)
            box(0, 0, 0.2, 1)
            box(0.8, 0, 1, 1)
        case "kite":
            polygon((0.5, 0), (0.95, 0.35), (0.5, 0.8), (0.05, 0.35))
            d.line([x + w * 0.5, y + h * 0.8, x + w * 0.6, y + h * 0.9, x + w * 0.4, y + h], fill=fill, width=6)
        case "house":
            polygon((0.5, 0), (0.95, 0.45), (0.05, 0.45))
            box(0.15, 0.45, 0.85, 1)
            box(0.42, 0.65, 0.58, 1, light)


@dataclass(frozen=True)
class Placed:
    """What stands in one cell of a scene; `box` is the flag's (left, top, right, bottom) in scene pixels."""

    carrier: str
    cell: int
    flag: Flag | None = None
    box: Pixels | None = None

    @property
    def position(self) -> str:
        return POSITIONS[self.cell]


def _sky(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    top, bottom = rng.randint(195, 225), rng.randint(180, 215)
    tint = [rng.randint(-12, 12) for _ in range(3)]
    column = (np.linspace(top, bottom, size[1])[:, None] + tint).astype(np.uint8)
    # Fresh grain for every picture: were it shared, pictures would be recognised by it. Tones stay within a byte.
    grain = np.random.default_rng(rng.getrandbits(64)).integers(0, 12, (size[1], size[0], 1), np.uint8)
    return Image.fromarray(column[:, None, :] + grain)


def _clutter(rng: random.Random, draw: ImageDraw.ImageDraw, size: tuple[int, int], amount: int) -> None:
    """Low-contrast things that are neither flags nor carriers: clouds, birds, bushes, poles."""
    for _ in range(amount):
        x, y, g = rng.randint(0, size[0]), rng.randint(0, size[1]), rng.randint(150, 190)
        match rng.randrange(4):
            case 0:
                c = rng.randint(222, 240)
                for i in range(3):
                    draw.ellipse([x + 16 * i, y - 6 * (i % 2), x + 16 * i + 34, y + 18], fill=(c, c, c))
            case 1:
                draw.line([x, y, x + 8, y + 5, x + 16, y], fill=(g - 40, g - 40, g - 40), width=2)
            case 2:
                draw.ellipse([x, y, x + rng.randint(14, 30), y + rng.randint(10, 20)], fill=(g, g + 12, g))
            case 3:
                draw.line([x, y, x, y + rng.randint(20, 50)], fill=(g, g, g), width=3)


def _hang_flag(rng: random.Random, image: Image.Image, flag: Flag, x: int, y: int, w: int, h: int) -> Pixels:
    """Pastes the flag with a little wind (light and dark folds) and tilt; returns its box."""
    cloth = draw_flag(flag).resize((w, h), Image.Resampling.BILINEAR)
    phase, waves = rng.random() * 6.3, rng.uniform(1.0, 2.5)
    fold = 1 + rng.uniform(0.03, 0.09) * np.sin(np.linspace(phase, phase + 6.3 * waves, w))
    shade = np.asarray(cloth, np.float32) * (fold * rng.uniform(0.92, 1.03))[None, :, None]
    shaded = Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8))
    bordered = Image.new("RGB", (w + 4, h + 4), (70, 70, 70))
    bordered.paste(shaded, (2, 2))
    tilted = bordered.convert("RGBA").rotate(rng.uniform(-4, 4), Image.Resampling.BILINEAR, expand=True)
    image.paste(tilted, (x, y), tilted)
    return (x, y, x + tilted.width, y + tilted.height)


def draw_scene(
    rng: random.Random, flags: Sequence[Flag], bare: int | None = None
) -> tuple[Image.Image, tuple[Placed, ...]]:
    """A scene with these flags, each on another carrier, and the things placed in it, by cell."""
    image = _sky(rng, SCENE)
    draw = ImageDraw.Draw(image)
    _clutter(rng, draw, SCENE, rng.randint(6, 14))
    bare = rng.randint(0, min(1, 6 - len(flags))) if bare is None else bare
    cells = rng.sample(range(6), len(flags) + bare)
    carriers = rng.sample(CARRIERS, len(cells))
    placed = []
    for i, (cell, carrier) in enumerate(zip(cells, carriers, strict=True)):
        left, top = cell % 3 * CELL, cell // 3 * CELL
        w, h = rng.randint(142, 166), rng.randint(82, 92)
        cw, ch = rng.randint(112, 138), rng.randint(86, 96)
        grey = rng.randint(40, 90)
        fill = (grey + rng.randint(-15, 15), grey + rng.randint(-15, 15), grey + rng.randint(-15, 15))
        x, y = left + rng.randint(10, 206 - w), top + rng.randint(8, 16)
        _draw_carrier(draw, carrier, left + rng.randint(14, 206 - cw), y + h + 14, cw, ch, fill)
        box = _hang_flag(rng, image, flags[i], x, y, w, h) if i < len(flags) else None
        placed.append(Placed(carrier, cell, flags[i] if box else None, box))
    draw.rectangle([0, 0, SCENE[0] - 1, SCENE[1] - 1], outline=(50, 50, 60), width=6)
    return image, tuple(sorted(placed, key=lambda p: p.cell))


def _building_points(kind: str) -> list[tuple[float, float, float, float]]:
    """The blocks of a building as shares of its picture: left, top, right, bottom."""
    return {
        "tower": [(0.36, 0.1, 0.64, 0.95), (0.3, 0.3, 0.7, 0.36), (0.3, 0.62, 0.7, 0.68)],
        "bridge": [(0.05, 0.5, 0.95, 0.62), (0.15, 0.2, 0.24, 0.95), (0.76, 0.2, 0.85, 0.95), (0.46, 0.35, 0.54, 0.95)],
        "castle": [(0.15, 0.4, 0.85, 0.95), (0.1, 0.2, 0.28, 0.95), (0.72, 0.2, 0.9, 0.95), (0.42, 0.1, 0.58, 0.6)],
        "temple": [(0.12, 0.32, 0.88, 0.42), (0.08, 0.86, 0.92, 0.95)]
        + [(0.15 + 0.17 * i, 0.42, 0.23 + 0.17 * i, 0.86) for i in range(5)],
        "lighthouse": [(0.4, 0.15, 0.6, 0.95), (0.34, 0.12, 0.66, 0.2), (0.65, 0.7, 0.9, 0.95)],
        "arch": [(0.15, 0.1, 0.85, 0.35), (0.15, 0.1, 0.34, 0.95), (0.66, 0.1, 0.85, 0.95)],
    }[kind]


@lru_cache(maxsize=512)
def _building(kind: str, seed: int) -> Image.Image:
    """The building itself, RGBA 400 x 400 px: its blocks, windows and ornaments are its own, so that it is
    recognised."""
    rng = random.Random(seed)
    image = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    wall: RGB = (rng.randint(120, 210), rng.randint(100, 190), rng.randint(90, 180))
    trim: RGB = (wall[0] // 2, wall[1] // 2, wall[2] // 2)
    for left, top, right, bottom in _building_points(kind):
        tone = rng.randint(-18, 18)
        x0, y0 = left * 400 + rng.randint(-10, 10), top * 400 + rng.randint(-10, 10)
        x1, y1 = right * 400, bottom * 400
        draw.rectangle([x0, y0, x1, y1], fill=(wall[0] + tone, wall[1] + tone, wall[2] + tone), outline=trim, width=3)
        step_x, step_y, size = rng.randint(22, 34), rng.randint(24, 40), rng.randint(7, 12)
        y = y0 + 10
        while y + size < y1 - 4:
            x = x0 + 8
            while x + size < x1 - 4:
                if rng.random() < 0.65:
                    draw.rectangle([x, y, x + size, y + size * rng.uniform(1, 1.6)], fill=trim)
                x += step_x
            y += step_y
    for _ in range(4):
        colour = COLOURS[rng.choice(list(COLOURS))]
        left, top, right, _bottom = rng.choice(_building_points(kind))
        x, y = (left + (right - left) * rng.random()) * 400, (top + 0.06) * 400
        _emblem(draw, rng.choice(EMBLEMS), x, y, rng.randint(12, 20), colour)
    return image


def draw_building(rng: random.Random, kind: str, seed: int, size: tuple[int, int] = SCENE) -> Image.Image:
    """A photograph of the building: same building, another sky, distance and clutter each time."""
    image = _sky(rng, size)
    draw = ImageDraw.Draw(image)
    _clutter(rng, draw, size, 8)
    side = round(min(size) * rng.uniform(0.82, 0.97))
    building = _building(kind, seed).resize((side, side), Image.Resampling.BILINEAR)
    x = round((size[0] - side) * rng.uniform(0.2, 0.8))
    image.paste(building, (x, size[1] - side), building)
    return image


@lru_cache(maxsize=512)
def _head(seed: int) -> Image.Image:
    """A person's head and shoulders, RGBA 400 x 400 px."""
    rng = random.Random(seed)
    image = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    skin = rng.choice([(241, 205, 175), (224, 172, 130), (180, 125, 85), (120, 80, 55), (250, 220, 200)])
    coat, hair = COLOURS[rng.choice(list(COLOURS))], (rng.randint(20, 160), rng.randint(20, 110), rng.randint(10, 70))
    draw.ellipse([40, 280, 360, 560], fill=coat)
    for _ in range(5):
        _emblem(
            draw,
            rng.choice(EMBLEMS),
            rng.randint(90, 310),
            rng.randint(320, 385),
            rng.randint(10, 18),
            COLOURS[rng.choice(list(COLOURS))],
        )
    fringe = rng.randint(90, 130)
    draw.ellipse([105, 50, 295, 290], fill=hair)
    draw.ellipse([120, 80, 280, 310], fill=skin)
    draw.rectangle([120, 70, 280, fringe], fill=hair)
    gap, eye = rng.randint(30, 42), COLOURS[rng.choice(["blue", "green", "black"])]
    for x in (200 - gap, 200 + gap):
        draw.ellipse([x - 13, 165, x + 13, 185], fill=(255, 255, 255))
        draw.ellipse([x - 7, 168, x + 7, 182], fill=eye)
    draw.line([200, 190, 200 + rng.randint(-12, 12), 225], fill=(90, 60, 50), width=5)
    draw.arc([165, 225, 235, 225 + rng.randint(20, 50)], 10, 170, fill=(150, 40, 50), width=6)
    if rng.random() < 0.6:
        _emblem(draw, rng.choice(["crown", "star", "sun"]), 200, 45, 40, COLOURS[rng.choice(list(COLOURS))])
    if rng.random() < 0.4:
        for x in (200 - gap, 200 + gap):
            draw.ellipse([x - 24, 152, x + 24, 198], outline=(30, 30, 30), width=5)
    return image


def draw_portrait(rng: random.Random, seed: int, size: tuple[int, int] = SCENE) -> Image.Image:
    """A picture of a person: the same face, another background each time."""
    image = _sky(rng, size)
    _clutter(rng, ImageDraw.Draw(image), size, 5)
    side = round(min(size) * rng.uniform(0.85, 0.98))
    head = _head(seed).resize((side, side), Image.Resampling.BILINEAR)
    image.paste(head, (round((size[0] - side) * rng.uniform(0.2, 0.8)), size[1] - side), head)
    return image


def soften(image: Image.Image, rng: random.Random) -> Image.Image:
    """What another photographer's camera does to a reference picture: other size, a little blur."""
    scale = rng.uniform(0.7, 0.95)
    small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    return small.filter(ImageFilter.GaussianBlur(0.6))
