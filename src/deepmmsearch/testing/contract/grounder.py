"""What holds for every grounder."""

from __future__ import annotations

import asyncio

from PIL import Image

from deepmmsearch import images
from deepmmsearch.agent.protocols import Grounder
from deepmmsearch.errors import ToolError
from deepmmsearch.testing import HOSTILE_TEXTS
from deepmmsearch.testing.contract.checks import Check
from deepmmsearch.types import Box

SIZES = ((64, 48), (48, 64), (301, 97), (28, 28))
PHRASE = "the flag on the ship"


def _picture(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 60).convert("RGB")


def _located(grounder: Grounder, image: Image.Image, phrase: str = PHRASE) -> list[Box]:
    return asyncio.run(grounder.locate(image, phrase))


def boxes_lie_within_the_picture_best_first(grounder: Grounder) -> None:
    for width, height in SIZES:
        boxes = _located(grounder, _picture(width, height))
        for box in boxes:
            assert 0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height, box
            assert 0.0 <= box.score <= 1.0
        assert [box.score for box in boxes] == sorted((box.score for box in boxes), reverse=True)


def any_phrase_is_looked_for_or_refused_in_words(grounder: Grounder) -> None:
    for phrase in ("", " ", "x" * 3000, *HOSTILE_TEXTS):
        try:
            assert isinstance(_located(grounder, _picture(64, 48), phrase), list)
        except ToolError as error:
            assert str(error).strip()


def the_picture_is_left_alone(grounder: Grounder) -> None:
    picture = _picture(64, 48)
    before = images.digest(picture)
    _located(grounder, picture)
    assert images.digest(picture) == before


def pictures_side_by_side_do_not_mix(grounder: Grounder) -> None:
    pictures = [_picture(*size) for size in SIZES]

    async def together() -> list[list[Box]]:
        return list(await asyncio.gather(*(grounder.locate(picture, PHRASE) for picture in pictures)))

    for (width, height), boxes in zip(SIZES, asyncio.run(together()), strict=True):
        assert all(box.right <= width and box.bottom <= height for box in boxes)


GROUNDER: tuple[Check[Grounder], ...] = (
    boxes_lie_within_the_picture_best_first,
    any_phrase_is_looked_for_or_refused_in_words,
    the_picture_is_left_alone,
    pictures_side_by_side_do_not_mix,
)
