"""Hits are marked by what their pictures show, else by their rank; never against what the search itself said."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from deepmmsearch.agent.protocols import Matcher
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.tools.matching import Compare, PictureMatcher, RankMatcher, SameByEncoder, same_subject
from deepmmsearch.types import Hit

CROP = Image.new("RGB", (40, 30), "red")


def match(matcher: Matcher, hits: Sequence[Hit], image: Image.Image = CROP) -> list[tuple[bool | None, str | None]]:
    return [(h.matched, h.matched_by) for h in asyncio.run(matcher.match(image, hits))]


def by_colour(image: Image.Image, pictures: Sequence[Image.Image]) -> list[bool]:
    return [p.getpixel((0, 0)) == image.getpixel((0, 0)) for p in pictures]


def test_pictures_decide_where_there_are_any_and_rank_where_not() -> None:
    hits = [
        Hit("a", "u"),
        Hit("b", "u", image=Image.new("RGB", (9, 9), "red")),
        Hit("c", "u", image=CROP),
        Hit("d", "u"),
    ]
    hits[2:2] = [Hit("e", "u", image=Image.new("RGB", (9, 9), "blue"))]
    assert match(PictureMatcher(by_colour), hits) == [
        (True, "rank"),
        (True, "picture"),
        (False, "picture"),
        (True, "picture"),
        (False, "rank"),
    ]
    assert match(PictureMatcher(by_colour, ranks=0), [Hit("a", "u")]) == [(False, "rank")]


def test_what_the_search_said_stays() -> None:
    said = [Hit("a", "u", image=CROP, matched=False), Hit("b", "u", matched=True), Hit("c", "u")]
    for matcher in (PictureMatcher(by_colour), RankMatcher()):
        assert match(matcher, said) == [(False, None), (True, None), (False, "rank")]
    assert match(PictureMatcher(by_colour), []) == []


def test_rank_alone() -> None:
    hits = [Hit(str(n), "u", image=CROP) for n in range(3)]
    assert [m for m, _ in match(RankMatcher(2), hits)] == [True, True, False]


def test_a_comparison_that_fails_is_an_error_of_the_tool() -> None:
    def broken(image: Image.Image, pictures: Sequence[Image.Image]) -> list[bool]:
        raise RuntimeError("(-215:Assertion failed)")

    compare: Compare = broken
    with pytest.raises(ToolError, match="could not be compared"):
        match(PictureMatcher(compare), [Hit("a", "u", image=CROP)])


class Colours:
    """Encodes the mean colour, to unit length."""

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        means = np.array([np.asarray(i.convert("RGB")).reshape(-1, 3).mean(0) for i in images])
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def test_a_neural_encoder_decides_by_cosine() -> None:
    pictures = [Image.new("RGB", (9, 9), colour) for colour in ("#f00000", "#f08000", "#0000f0")]
    assert SameByEncoder(Colours())(CROP, pictures) == [True, True, False]
    assert SameByEncoder(Colours(), 0.99)(CROP, pictures) == [True, False, False]
    with pytest.raises(UserError, match="between -1 and 1"):
        SameByEncoder(Colours(), 80)


def test_the_engines_descriptors_tell_a_flag_from_another() -> None:
    pytest.importorskip("cv2")
    from test_engine_image import clutter, flag, hang, jpeg

    rng = random.Random(3)
    for _ in range(2):
        one, other, scene = flag(rng), flag(rng), clutter(rng)
        left, top, right, bottom = hang(scene, one, rng, 200, 120)
        crop = scene.crop((left - 8, top - 6, right + 9, bottom + 5))
        small = [jpeg(p.resize((160, 100)), 60) for p in (one, other)]
        assert same_subject(crop, [*small, jpeg(scene.resize((256, 171)))]) == [True, False, True]
    assert same_subject(CROP, []) == []
    assert same_subject(Image.new("RGB", (1, 1)), [Image.new("L", (3, 900)), Image.new("RGB", (1, 1))]) is not None
