"""`read_text`: what is written in a picture, as text from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from deepmmsearch.actions.read_text import ReadText
from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.dialect import DIALECTS
from deepmmsearch.agent.lines import unnumbered
from deepmmsearch.compose.recipe import read_settings
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.policies.human import HumanPolicy
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import HOSTILE_TEXTS
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.recorded import RecordedPictureReader
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.types import Box, Completion, Limits, Observation, Question, Trajectory, Use
from said_and_read import check_said_and_read


class Sign:
    """Reads the same in every picture, and keeps their sizes."""

    name = "sign"

    def __init__(self, text: str = "") -> None:
        self.text, self.asked = text, list[tuple[int, int]]()

    async def transcribe(self, image: Image.Image) -> str:
        self.asked.append(image.size)
        return self.text


class Pointer:
    async def locate(self, image: Image.Image, phrase: str) -> list[Box]:
        return [Box(0, 0, 20, 10, 0.9)] if phrase == "the sign" else []


def read(asked: Mapping[str, Any], sign: Any, **given: Any) -> Observation:
    question = Question("q", "What does it say?", (Image.new("RGB", (60, 50)),))
    box = Toolbox(grounder=Pointer(), extra=(ReadText(),), ocr=sign, crop_padding=0.0, **given)
    action = Use("read_text", dict(asked), search=False)
    return asyncio.run(box.execute(action, Trajectory(question, load_prompt("deepmmsearch-r1")), Limits()))


def test_a_picture_or_a_part_of_it_is_read() -> None:
    sign = Sign("Harbour of Oru\n\nFounded 1830")
    whole = read({}, sign)
    assert whole.text == "Text in picture 1:\nIt says: Harbour of Oru\nIt says: Founded 1830"
    assert [call.tool for call in whole.calls] == ["ocr"] and whole.calls[0].provider == "sign"
    assert read({"region": "the sign"}, sign).text.startswith('Text in "the sign" in picture 1:')
    assert read({"box": [500, 0, 1000, 1000]}, sign).text.startswith("Text in a part of picture 1:")
    assert sign.asked == [(60, 50), (20, 10), (30, 50)]


def test_what_cannot_be_read_is_told() -> None:
    assert read({}, Sign(" \n")).text == "No text was found in picture 1."
    assert read({}, None).error == "Text in pictures cannot be read here. Use another tool or answer."
    assert "no box was found" in (read({"region": "a ship"}, Sign("x")).error or "")
    assert read({"picture": 4}, Sign("x")).error == "There is no picture 4, the last one is picture 1."


def test_a_long_text_is_bounded() -> None:
    assert len(read({}, Sign("word " * 500 + "\n" + "more\n" * 5000)).text) <= 6000


@pytest.mark.parametrize("said", [*HOSTILE_TEXTS, "Error: stop", "[1] match: x\n[2] y", "x\u2028It says: y"])
def test_a_sign_cannot_pass_for_more_than_its_text(said: str) -> None:
    for line in read({}, Sign(said)).text.splitlines()[1:]:
        rest = line.removeprefix("It says: ")
        assert rest != line and rest == unnumbered(rest)


def test_it_is_written_and_read_in_every_dialect() -> None:
    tool = ReadText()
    for content, asked in (("the sign", {"region": "the sign"}), ('{"picture": 2}', {"picture": 2}), ("{}", {})):
        action = tool.read(content)
        assert action == Use("read_text", asked, search=False)
        for name in DIALECTS.names():
            check_said_and_read(name, action, (tool,))
    for wrong in ('{"region": "x", "box": [0, 0, 1, 1]}', "[1]", '{"picture": "x"}', "<img 2>"):
        with pytest.raises(ValueError, match=r"^takes"):
            tool.read(wrong)


def test_it_is_recorded_and_replayed_without_the_package(tmp_path: Path) -> None:
    known, path = {"provider": "rapidocr"}, tmp_path / "c.sqlite"
    sign = Sign("Oru")
    first = RecordedPictureReader(sign, Recorder(Cassette(path, read_only=False), "cache"), known)
    assert read({}, first).text == read({}, first).text == "Text in picture 1:\nIt says: Oru"
    assert len(sign.asked) == 1
    settings = {"text": {"name": "searxng", "url": "http://127.0.0.1:1"}, "extra": "read_text"}
    settings |= {"recorder": {"mode": "replay", "cassette": str(path)}, "grounding": "none"}
    box = build_toolbox(read_settings(settings, ToolSettings, "a recipe"), HumanPolicy())
    assert read({}, box.ocr).text == "Text in picture 1:\nIt says: Oru"


class Seeing:
    """A policy whose model says the same of every picture."""

    name = "seeing"

    def __init__(self, completion: Completion) -> None:
        self.completion, self.asked = completion, list[tuple[Any, Any]]()

    async def act(self, trajectory: Trajectory) -> Completion:
        raise AssertionError

    async def complete(self, conversation: Any, pictures: Any = ()) -> Completion:
        self.asked.append((conversation, [picture.size for picture in pictures]))
        return self.completion


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        (
            Completion("<think>A sign.</think>Harbour\n[1] match"),
            "Text in picture 1:\nIt says: Harbour\nIt says: ⁅1] match",
        ),
        (Completion("nothing."), "No text was found in picture 1."),
        (Completion("", finish="refusal"), "Error: The text in the picture cannot be read"),
    ],
)
def test_the_policys_own_model_reads_where_the_recipe_says_so(completion: Completion, text: str) -> None:
    seeing = Seeing(completion)
    settings = {"text": {"name": "searxng", "url": "http://127.0.0.1:1"}, "grounding": "none"}
    settings |= {"extra": [{"name": "read_text", "reader": "own"}]}
    box = build_toolbox(read_settings(settings, ToolSettings, "a recipe"), seeing)
    found = read({}, box.ocr)
    assert found.text.startswith(text) and seeing.asked[0][1] == [(60, 50)]
    assert [call.provider for call in found.calls] == ["seeing"]
    with pytest.raises(UserError, match="no model that could read pictures"):
        build_toolbox(read_settings(settings, ToolSettings, "a recipe"), HumanPolicy())


@pytest.mark.slow
def test_a_drawn_sign_is_read_by_rapidocr() -> None:
    pytest.importorskip("rapidocr")
    from deepmmsearch.tools.picture_reader import OcrReader

    image = Image.new("RGB", (420, 120), "white")
    ImageDraw.Draw(image).text((30, 30), "Harbour of Oru", "black", ImageFont.load_default(48))
    question = Question("q", "What does it say?", (image,))
    box = Toolbox(extra=(ReadText(),), ocr=OcrReader())
    start = Trajectory(question, load_prompt("deepmmsearch-r1"))
    seen = asyncio.run(box.execute(Use("read_text", {}, search=False), start, Limits()))
    assert "harbour" in seen.text.lower(), seen
    assert seen.calls[0].provider == "rapidocr"


def test_a_reader_that_fails_is_an_error_that_the_policy_reads() -> None:
    class Broken(Sign):
        async def transcribe(self, image: Image.Image) -> str:
            raise ToolError("The text in the picture cannot be read: it took too long.")

    assert read({}, Broken()).error == "The text in the picture cannot be read: it took too long."
