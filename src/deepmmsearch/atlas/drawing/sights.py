"""Photographs of buildings and portraits of people: the same one each time, in other surroundings."""

from __future__ import annotations

import random
from functools import lru_cache

from PIL import Image, ImageDraw

from deepmmsearch.atlas.drawing.emblems import EMBLEMS, RGB, draw_emblem
from deepmmsearch.atlas.drawing.flags import COLOURS
from deepmmsearch.atlas.drawing.scenes import SCENE, clutter, sky

BUILDINGS = ("tower", "bridge", "castle", "temple", "lighthouse", "arch")


def draw_building(rng: random.Random, kind: str, seed: int, size: tuple[int, int] = SCENE) -> Image.Image:
    """A photograph of the building: same building, another sky, distance and clutter each time."""
    image = sky(rng, size)
    draw = ImageDraw.Draw(image)
    clutter(rng, draw, size, 8)
    side = round(min(size) * rng.uniform(0.82, 0.97))
    building = _building(kind, seed).resize((side, side), Image.Resampling.BILINEAR)
    x = round((size[0] - side) * rng.uniform(0.2, 0.8))
    image.paste(building, (x, size[1] - side), building)
    return image


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
        draw_emblem(draw, rng.choice(EMBLEMS), x, y, rng.randint(12, 20), colour)
    return image


def draw_portrait(rng: random.Random, seed: int, size: tuple[int, int] = SCENE) -> Image.Image:
    """A picture of a person: the same face, another background each time."""
    image = sky(rng, size)
    clutter(rng, ImageDraw.Draw(image), size, 5)
    side = round(min(size) * rng.uniform(0.85, 0.98))
    head = _head(seed).resize((side, side), Image.Resampling.BILINEAR)
    image.paste(head, (round((size[0] - side) * rng.uniform(0.2, 0.8)), size[1] - side), head)
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
        draw_emblem(
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
        draw_emblem(draw, rng.choice(["crown", "star", "sun"]), 200, 45, 40, COLOURS[rng.choice(list(COLOURS))])
    if rng.random() < 0.4:
        for x in (200 - gap, 200 + gap):
            draw.ellipse([x - 24, 152, x + 24, 198], outline=(30, 30, 30), width=5)
    return image
