"""A trial of a model's boxes: targets that are drawn, so that where they are is known, and each dialect's reading of
what the model says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import get_args

from PIL import Image, ImageDraw

from deepmmsearch.agent.regions import overlap
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.images import scale
from deepmmsearch.prompts import grounding_prompt
from deepmmsearch.thoughts import without_thoughts
from deepmmsearch.tools.grounding.boxes import BoxDialect, Speaker, parse_boxes
from deepmmsearch.types import Box

FITS = 0.5
"""The least mean overlap with which boxes can be cut out."""
_SIZE = (1200, 800)
# off the diagonal, and of other proportions than the picture: no two dialects read one box alike
_TARGETS = (
    ("the red rectangle", "#c81e1e", Box(720, 90, 1080, 250)),
    ("the blue rectangle", "#1e3cc8", Box(110, 500, 310, 740)),
    ("the yellow rectangle", "#e6c81e", Box(820, 560, 930, 760)),
)


@dataclass(frozen=True)
class Trial:
    """One target: what the model said, and how far each dialect's reading of it overlaps with where the target is
    (intersection over union, 0 to 1)."""

    phrase: str
    said: str
    overlaps: dict[BoxDialect, float]


def drawn() -> Image.Image:
    picture = Image.new("RGB", _SIZE, "#e8e8e0")
    draw = ImageDraw.Draw(picture)
    for x in range(0, _SIZE[0], 80):
        draw.line((x, 0, x, _SIZE[1]), "#d0d0c8")
    for _, colour, box in _TARGETS:
        draw.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), colour)
    return picture


async def locate_all(speaker: Speaker) -> AsyncIterator[Trial]:
    """Raises ToolError where the model cannot be asked."""
    picture = drawn()
    seen = speaker.view(picture)
    for phrase, _, target in _TARGETS:
        question = {"type": "text", "text": grounding_prompt(phrase)}
        try:
            reply = await speaker.complete([{"role": "user", "content": [{"type": "image"}, question]}], [seen])
        except UserError as error:
            raise ToolError(str(error)) from error
        said, wanted = without_thoughts(reply.text), scale(target, picture.size, seen.size)
        dialects: tuple[BoxDialect, ...] = get_args(BoxDialect)
        read = {dialect: parse_boxes(said, seen.size, dialect) for dialect in dialects}
        yield Trial(phrase, said, {d: max((overlap(b, wanted) for b in read[d]), default=0.0) for d in dialects})


def fitting(located: list[Trial]) -> tuple[BoxDialect, float] | None:
    """The dialect that overlaps most on average, and by how much; None where none overlaps enough."""
    means = {d: sum(one.overlaps[d] for one in located) / len(located) for d in located[0].overlaps}
    best = max(means, key=means.__getitem__)
    return (best, means[best]) if means[best] >= FITS else None
