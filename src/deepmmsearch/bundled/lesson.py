"""A lesson: a short conversation whose assistant turns are learnt."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Lesson:
    """Turns of (kind, user text, assistant text); the picture belongs to the first user turn. Every turn has its
    kind, by which accuracy is reported."""

    turns: tuple[tuple[str, str, str], ...]
    image: Image.Image | None = None
