"""Scenes: flags on ships, towers, kites, with clutter around. 672 x 448 px, six cells of 224 px."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deepmmsearch.atlas.drawing.emblems import RGB
from deepmmsearch.atlas.drawing.flags import Flag, draw_flag

SCENE = (672, 448)
CELL = 224

CARRIERS = ("ship", "tower", "balloon", "tent", "bus", "wheel", "ladder", "gate", "kite", "house")
POSITIONS = ("top left", "top middle", "top right", "bottom left", "bottom middle", "bottom right")

Pixels = tuple[int, int, int, int]


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


def draw_scene(
    rng: random.Random, flags: Sequence[Flag], bare: int | None = None
) -> tuple[Image.Image, tuple[Placed, ...]]:
    """A scene with these flags, each on another carrier, and the things placed in it, by cell."""
    image = sky(rng, SCENE)
    draw = ImageDraw.Draw(image)
    clutter(rng, draw, SCENE, rng.randint(6, 14))
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


def sky(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    top, bottom = rng.randint(195, 225), rng.randint(180, 215)
    tint = [rng.randint(-12, 12) for _ in range(3)]
    column = (np.linspace(top, bottom, size[1])[:, None] + tint).astype(np.uint8)
    # Fresh grain for every picture: were it shared, pictures would be recognised by it. Tones stay within a byte.
    grain = np.random.default_rng(rng.getrandbits(64)).integers(0, 12, (size[1], size[0], 1), np.uint8)
    return Image.fromarray(column[:, None, :] + grain)


def clutter(rng: random.Random, draw: ImageDraw.ImageDraw, size: tuple[int, int], amount: int) -> None:
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


def soften(image: Image.Image, rng: random.Random) -> Image.Image:
    """What another photographer's camera does to a reference picture: other size, a little blur."""
    scale = rng.uniform(0.7, 0.95)
    small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    return small.filter(ImageFilter.GaussianBlur(0.6))
