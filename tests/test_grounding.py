from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.images import model_view
from deepmmsearch.tools.grounding import BoxDialect, OwnModelGrounder, parse_boxes
from deepmmsearch.types import Box, Completion

SEEN = (168, 112)


class Speaker:
    def __init__(self, completion: Completion) -> None:
        self.completion = completion
        self.asked: list[tuple[Any, Sequence[Image.Image]]] = []

    async def complete(self, conversation: Any, pictures: Sequence[Image.Image] = ()) -> Completion:
        self.asked.append((conversation, pictures))
        return self.completion


def locate(
    text: str | Completion, size: tuple[int, int] = SEEN, dialect: BoxDialect = "qwen2.5-vl", phrase: str = "the flag"
) -> tuple[list[Box], Speaker]:
    speaker = Speaker(text if isinstance(text, Completion) else Completion(text))
    view = partial(model_view, min_pixels=3136, max_pixels=18816)
    boxes = asyncio.run(OwnModelGrounder(speaker, view, dialect).locate(Image.new("RGB", size), phrase))
    return boxes, speaker


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [10, 20, 30, 40], "label": "the flag"}]',
        '```json\n[\n\t{"bbox_2d": [10, 20, 30, 40], "label": "flag [1]"}\n]\n```',
        '{"bbox_2d": [10.0,20.0,30.0,40.0]}',
        '{"bbox_2d": [30, 40, 10, 20]}',
        '{"bbox_2d": ["10", "20", "30", "40"]}',
        "{'bbox_2d': [10, 20, 30, 40}",
        "10, 20, 30, 40",
        "The flag is at 10 20 30 40.",
        "bbox_2d: 10, 20, 30, 40",
        "(10,20),(30,40)",
        "<|box_start|>(10,20),(30,40)<|box_end|>",
        "[[10, 20], [30, 40]]",
        "[10, 20, 30, 40] and once more [10, 20, 30, 40]",
    ],
)
def test_every_way_to_write_one_box(text: str) -> None:
    assert parse_boxes(text, SEEN) == [Box(10, 20, 30, 40)]


@pytest.mark.parametrize(
    "text", ["", "There is no flag.", "[]", "[1, 2, 3]", "1 2 3", "1 2 3 4 5", "[5, 5, 5, 9]", "[200, 10, 300, 20]"]
)
def test_no_box(text: str) -> None:
    assert parse_boxes(text, SEEN) == []


def test_several_boxes_keep_their_order() -> None:
    text = '[{"bbox_2d": [50, 60, 70, 80]}, {"bbox_2d": [1, 2, 3, 4]}]'
    assert parse_boxes(text, SEEN) == [Box(50, 60, 70, 80), Box(1, 2, 3, 4)]


def test_what_lies_outside_is_cut_off() -> None:
    assert parse_boxes("[-5, -5, 999, 999]", SEEN) == [Box(0, 0, 168, 112)]
    assert parse_boxes("[-5, -5, 1999, 500]", SEEN, "qwen3-vl") == [Box(0, 0, 168, 56)]


@given(st.text(), st.sampled_from(["qwen2.5-vl", "qwen3-vl"]))
def test_no_text_raises_and_boxes_lie_within(text: str, dialect: BoxDialect) -> None:
    for box in parse_boxes(text, SEEN, dialect):
        assert 0 <= box.left < box.right <= SEEN[0] and 0 <= box.top < box.bottom <= SEEN[1]


@given(st.lists(st.sampled_from(["[", "]", "(", ")", ",", " ", "1", "-", ".", "9" * 12, '"']), max_size=40))
def test_no_brackets_raise(pieces: list[str]) -> None:
    for box in parse_boxes("".join(pieces), SEEN):
        assert all(map(math.isfinite, (box.left, box.top, box.right, box.bottom)))


sides = st.integers(30, 3000)
shares = st.tuples(*[st.floats(0, 1)] * 4)


@given(sides, sides, shares)
def test_boxes_come_back_in_the_pixels_of_the_original(width: int, height: int, shares: tuple[float, ...]) -> None:
    """Half a pixel of the view is the most that whole numbers may cost, at any size."""
    (x0, x1), (y0, y1) = sorted(shares[:2]), sorted(shares[2:])
    seen = model_view(Image.new("1", (width, height)), 3136, 18816).size
    for dialect, across, down in (("qwen2.5-vl", *seen), ("qwen3-vl", 1000, 1000)):
        said = [round(x0 * across), round(y0 * down), round(x1 * across), round(y1 * down)]
        if said[0] == said[2] or said[1] == said[3]:
            continue
        boxes, _ = locate(f'{{"bbox_2d": {said}}}', (width, height), dialect)  # type: ignore[arg-type]
        assert len(boxes) == 1
        box, slack_x, slack_y = boxes[0], 0.51 * width / across, 0.51 * height / down
        assert abs(box.left - x0 * width) <= slack_x and abs(box.right - x1 * width) <= slack_x
        assert abs(box.top - y0 * height) <= slack_y and abs(box.bottom - y1 * height) <= slack_y


def test_the_score_is_the_probability_of_the_answer() -> None:
    text = "[10, 20, 30, 40]"
    boxes, _ = locate(Completion(text, (1, 2), (math.log(0.5), math.log(0.125))))
    assert boxes[0].score == pytest.approx(0.25)
    assert locate(text)[0][0].score == 1.0


def test_what_the_model_is_asked() -> None:
    _, speaker = locate("[]", (640, 480), phrase="the flag\n on the <|im_end|> ship")
    conversation, pictures = speaker.asked[0]
    assert [p["type"] for p in conversation[0]["content"]] == ["image", "text"]
    text = conversation[0]["content"][1]["text"]
    assert text.startswith("Locate the flag on the") and text.endswith("Output its bounding box in JSON.")
    assert "<|im_end|>" not in text
    assert pictures[0].size == model_view(Image.new("1", (640, 480)), 3136, 18816).size


def test_a_full_window_is_an_error_of_the_tool() -> None:
    with pytest.raises(ToolError, match="window"):
        locate(Completion("", (), (), "context"))


def test_an_endpoint_that_is_down_is_an_error_of_the_tool() -> None:
    class Gone:
        async def complete(self, conversation: Any, pictures: Sequence[Image.Image] = ()) -> Completion:
            raise UserError("Nothing answers at http://127.0.0.1:1/v1.")

    with pytest.raises(ToolError, match="Nothing answers"):
        asyncio.run(OwnModelGrounder(Gone(), lambda image: image).locate(Image.new("RGB", SEEN), "the flag"))
