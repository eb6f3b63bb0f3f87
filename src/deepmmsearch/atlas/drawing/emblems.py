"""Emblems: small signs in one colour, on flags, walls and coats."""

from __future__ import annotations

import math

from PIL import ImageDraw

EMBLEMS = ("star", "sun", "moon", "tree", "anchor", "crown", "fish", "key", "diamond", "mountain", "hammer", "leaf")

RGB = tuple[int, int, int]


def draw_emblem(draw: ImageDraw.ImageDraw, kind: str, x: float, y: float, r: float, fill: RGB) -> None:
    """Around (x, y), with radius `r`."""
    match kind:
        case "moon":
            draw.pieslice([x - r, y - r, x + r, y + r], 50, 310, fill=fill)
            return
        case "key":
            draw.ellipse([x - r, y - r * 0.5, x, y + r * 0.5], fill=fill)
    draw.polygon([(x + px * r, y + py * r) for px, py in _OUTLINES[kind]], fill=fill)


def _around(points: int, inner: float) -> list[tuple[float, float]]:
    """A star: its points on the circle of radius 1, between them others at `inner`."""
    angles = [math.pi * i / points - math.pi / 2 for i in range(2 * points)]
    return [
        (math.cos(a) * (inner if i % 2 else 1), math.sin(a) * (inner if i % 2 else 1)) for i, a in enumerate(angles)
    ]


# fmt: off
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "star": _around(5, 0.4),
    "sun": _around(12, 0.6),
    "tree": [(0, -1), (0.8, 0.4), (0.2, 0.4), (0.2, 1), (-0.2, 1), (-0.2, 0.4), (-0.8, 0.4)],
    "anchor": [
        (-0.15, -1), (0.15, -1), (0.15, 0.5), (0.8, 0.1), (0.6, 0.8), (0, 1), (-0.6, 0.8), (-0.8, 0.1), (-0.15, 0.5),
    ],
    "crown": [(-1, 0.7), (-1, -0.6), (-0.5, 0), (0, -0.9), (0.5, 0), (1, -0.6), (1, 0.7)],
    "fish": [
        (-1, -0.6), (-0.5, 0), (-0.2, -0.5), (0.6, -0.5), (1, 0), (0.6, 0.5), (-0.2, 0.5), (-0.5, 0), (-1, 0.6),
    ],
    "key": [(-0.1, -0.15), (1, -0.15), (1, 0.6), (0.7, 0.6), (0.7, 0.15), (-0.1, 0.15)],
    "diamond": [(0, -1), (0.6, 0), (0, 1), (-0.6, 0)],
    "mountain": [(-1, 0.8), (-0.4, -0.5), (-0.1, 0.1), (0.3, -0.9), (1, 0.8)],
    "hammer": [
        (-0.8, -0.9), (0.8, -0.9), (0.8, -0.3), (0.15, -0.3), (0.15, 1), (-0.15, 1), (-0.15, -0.3), (-0.8, -0.3),
    ],
    "leaf": [
        (0, -1), (0.5, -0.4), (0.6, 0.3), (0.1, 0.7), (0.1, 1), (-0.1, 1), (-0.1, 0.7), (-0.6, 0.3), (-0.5, -0.4),
    ],
}
# fmt: on
