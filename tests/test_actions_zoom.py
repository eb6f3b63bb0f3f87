"""`zoom` and what it brings: the next picture of the episode, which can be searched by its number."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.actions.zoom import Zoom
from deepmmsearch.agent import Toolbox, play
from deepmmsearch.agent.dialect import DIALECTS, write_turn
from deepmmsearch.agent.table import make_tool
from deepmmsearch.console import Console
from deepmmsearch.errors import UserError
from deepmmsearch.prompts import load_prompt
from deepmmsearch.renderer import Renderer, messages
from deepmmsearch.serve.page_view import find_picture, view_turn
from deepmmsearch.show.gallery import render_episodes
from deepmmsearch.show.terminal import as_json, show_trajectory
from deepmmsearch.testing import ScriptedPolicy, tiny_tokenizer
from deepmmsearch.types import (
    Answer,
    Box,
    Completion,
    Hit,
    ImageSearch,
    Limits,
    Observation,
    Question,
    Trajectory,
    Turn,
    Use,
    is_search,
)
from said_and_read import check_said_and_read


def quarters() -> Image.Image:
    """100 x 80: red, green, blue and white, from the upper left, row by row."""
    image = Image.new("RGB", (100, 80), "white")
    for corner, colour in (((0, 0), "red"), ((50, 0), "green"), ((0, 40), "blue")):
        image.paste(Image.new("RGB", (50, 40), colour), corner)
    return image


class Pointer:
    async def locate(self, image: Image.Image, phrase: str) -> list[Box]:
        found = {
            "the green one": [Box(50, 0, 100, 40, 0.9)],
            "a colour": [Box(0, 0, 50, 40, 0.9), Box(50, 0, 100, 40, 0.9)],
            "everything": [Box(0, 0, 100, 80, 0.9)],
            "a speck": [Box(0, 0, 100, 2, 0.9)],
        }
        return found.get(phrase, [])


class Album:
    """Image search that tells the size and the middle of what it was given."""

    async def search(self, image: Image.Image, k: int) -> list[Hit]:
        middle = image.getpixel((image.width // 2, image.height // 2))
        return [Hit(f"{image.width} x {image.height} {middle}", "https://a.example", matched=True)]


def box(**settings: Any) -> Toolbox:
    return Toolbox(image_search=Album(), grounder=Pointer(), extra=(Zoom(**settings),), crop_padding=0.0)


def begun(*pictures: Image.Image) -> Trajectory:
    return Trajectory(Question("q", "Which?", pictures or (quarters(),)), load_prompt("deepmmsearch-r1"))


def zoomed(asked: Mapping[str, Any], trajectory: Trajectory | None = None, **settings: Any) -> Observation:
    action = Use("zoom", dict(asked), search=False)
    return asyncio.run(box(**settings).execute(action, trajectory or begun(), Limits()))


def test_a_region_in_words_comes_back_as_the_next_picture() -> None:
    seen = zoomed({"region": "the green one"})
    (shown,) = seen.images
    assert seen.text == 'Picture 2: "the green one" in picture 1, 50 x 40 pixels.'
    assert shown.size == (50, 40) and shown.getcolors() == [(2000, (0, 128, 0))]
    assert seen.grounding is not None and seen.grounding.box == Box(50, 0, 100, 40, 0.9)
    assert not seen.hits and seen.error is None and not is_search(Use("zoom", {}, search=False))


@pytest.mark.parametrize(
    ("frame", "sides"),
    [("thousandths", [0, 500, 500, 1000]), ("fractions", [0, 0.5, 0.5, 1]), ("pixels", [0, 40, 50, 80])],
)
def test_a_box_is_read_in_its_frame(frame: str, sides: list[float]) -> None:
    (shown,) = zoomed({"box": sides}, frame=frame).images
    assert shown.size == (50, 40) and shown.getcolors() == [(2000, (0, 0, 255))]
    assert {"thousandths": "thousandths", "fractions": "fractions", "pixels": "pixels"}[frame] in Zoom(
        frame=frame
    ).about  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("degrees", "corner", "size"),
    [(90, (0, 0, 255), (80, 100)), (180, (255, 255, 255), (100, 80)), (270, (0, 128, 0), (80, 100))],
)
def test_it_turns_clockwise(degrees: int, corner: tuple[int, int, int], size: tuple[int, int]) -> None:
    seen = zoomed({"rotate": degrees})
    (shown,) = seen.images
    assert shown.size == size and shown.getpixel((0, 0)) == corner
    assert seen.text == f"Picture 2: picture 1, turned by {degrees} degrees, {size[0]} x {size[1]} pixels."


def test_it_enlarges_as_far_as_its_pixels_go() -> None:
    assert zoomed({"region": "the green one", "enlarge": 3}).images[0].size == (150, 120)
    (bounded,) = zoomed({"enlarge": 8}, max_pixels=20_000).images
    assert 19_000 < bounded.width * bounded.height <= 20_000
    # what is larger already stays as it is
    assert zoomed({"box": [0, 0, 1000, 900], "enlarge": 8}, max_pixels=784).images[0].size == (100, 72)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"picture": 2, "rotate": 90}, "There is no picture 2, the last one is picture 1."),
        ({"region": "a ship"}, 'There is no "a ship" in picture 1 to be shown: no box was found.'),
        ({"region": "a speck"}, "the best box is only 100 x 2 pixels"),
        ({"box": [500, 500, 500, 500]}, "The box holds less than 4 x 4 pixels of 100 x 80."),
        ({"box": [900, 900, 100, 100]}, "The box holds less than 4 x 4 pixels"),
        ({"box": [2000, 0, 3000, 1000]}, "The box holds less than 4 x 4 pixels"),
    ],
)
def test_what_cannot_be_shown_is_told(asked: Mapping[str, Any], said: str) -> None:
    seen = zoomed(asked)
    assert seen.error is not None and said in seen.error and not seen.images


def test_without_a_picture_or_a_grounder_it_says_so() -> None:
    blind = Trajectory(Question("q", "Which?"), load_prompt("deepmmsearch-r1"))
    assert zoomed({"rotate": 90}, blind).error == "The episode has no picture. Use another tool or answer."
    action = Use("zoom", {"region": "the green one"}, search=False)
    seen = asyncio.run(replace(box(), grounder=None).execute(action, begun(), Limits()))
    assert seen.error is not None and "there is no grounding tool" in seen.error


def test_several_regions_and_a_whole_one_are_told() -> None:
    assert "one of several regions that fit equally well" in zoomed({"region": "a colour"}).text
    whole = zoomed({"region": "everything"})
    assert whole.images[0].size == (100, 80) and whole.grounding is not None and whole.grounding.fallback is None


def test_what_it_shows_is_searched_by_its_number_and_zoomed_again() -> None:
    turns = [
        write_turn("r", Use("zoom", {"box": [500, 0, 1000, 1000]}, search=False)),
        write_turn("r", Use("zoom", {"picture": 2, "box": [0, 500, 1000, 1000]}, search=False)),
        write_turn("r", ImageSearch(picture=3)),
        write_turn("r", ImageSearch(picture=2)),
        write_turn("r", Answer("x")),
    ]
    played = asyncio.run(play(begun(), ScriptedPolicy(*turns), box(), Limits(image_searches=2)))
    seen = [turn.observation for turn in played.turns]
    assert [p.size for p in played.pictures] == [(100, 80), (50, 80), (50, 40)]
    assert seen[2] is not None and seen[2].hits[0].title == "50 x 40 (255, 255, 255)"
    assert seen[3] is not None and seen[3].hits[0].title.startswith("50 x 80")
    assert [is_search(turn.action) for turn in played.turns] == [False, False, True, True, False]
    conversation, pictures = messages(played)
    assert len(pictures) == 3 and "Picture 3: " in json.dumps(conversation)
    sequence = Renderer(tiny_tokenizer()).sequence(played, teacher=True)
    assert len(sequence.images) == 3


def test_its_number_counts_the_pictures_before_it() -> None:
    begin = begun(quarters(), quarters())
    seen = zoomed({"rotate": 90}, begin)
    grown = begin.then(Turn(Completion("y"), Use("zoom", {"rotate": 90}, search=False), seen), Limits())
    again = zoomed({"picture": 3, "rotate": 270}, grown)
    assert again.text.startswith("Picture 4: picture 3,") and again.images[0].tobytes() == quarters().tobytes()


def test_uses_are_bounded() -> None:
    turns = [write_turn("r", Use("zoom", {"rotate": 90}, search=False))] * 3 + [write_turn("r", Answer("x"))]
    played = asyncio.run(play(begun(), ScriptedPolicy(*turns), box(limit=2), Limits()))
    assert [turn.observation.error is None for turn in played.turns if turn.observation] == [True, True, False]


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        ("the  green one", {"region": "the green one"}),
        ('{"picture": 2, "box": [0, 0, 500, 500.5]}', {"picture": 2, "box": [0, 0, 500, 500.5]}),
        ('{"rotate": 90, "enlarge": 2}', {"rotate": 90, "enlarge": 2}),
    ],
)
def test_it_is_written_and_read_in_every_dialect(content: str, asked: dict[str, Any]) -> None:
    tool = Zoom()
    action = tool.read(content)
    assert action == Use("zoom", asked, search=False)
    for name in DIALECTS.names():
        check_said_and_read(name, action, (tool,))


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"picture": 1}',
        '{"region": "x", "box": [0, 0, 1, 1]}',
        '{"box": [0, 0, 1]}',
        '{"box": [0, 0, NaN, 1]}',
        '{"box": [0, 0, Infinity, 1]}',
        '{"box": "all"}',
        '{"rotate": 45}',
        '{"enlarge": 9}',
        '{"enlarge": 0.5}',
        '{"picture": 0, "rotate": 90}',
        '{"region": " "}',
        '{"region": "<img 2> x"}',
        "<img 2> the flag",
        "[0, 0, 1, 1]",
        '"x"',
    ],
)
def test_wrong_arguments_are_told(content: str) -> None:
    with pytest.raises(ValueError, match=r"^(takes|has no).*\.$"):
        Zoom().read(content)


def test_settings_are_checked() -> None:
    for wrong in ({"frame": "inches"}, {"limit": 0}, {"max_pixels": 1}):
        with pytest.raises(UserError, match="The tool zoom"):
            make_tool("zoom", wrong)


def test_it_is_shown_in_the_terminal_as_json_and_on_the_page() -> None:
    asked = {"region": "the green one"}
    action = Use("zoom", asked, search=False)
    trajectory = begun().then(Turn(Completion("y"), action, zoomed(asked)), Limits())
    console = Console(file=io.StringIO(), width=100)
    show_trajectory(console, trajectory)
    assert isinstance(console.file, io.StringIO)
    assert "uses zoom: region the green one" in console.file.getvalue()
    row = json.loads(json.dumps(as_json(trajectory)["turns"][0]))
    assert (row["action"], row["arguments"], row["box"]) == ("zoom", asked, [50, 0, 100, 40, 0.9])
    page = render_episodes("t", "l", [], [trajectory])
    assert "a picture that came back" in page and "Searched with the whole image" not in page
    assert page.count('<rect class="frame"') == 1
    view = view_turn(trajectory, 1)
    assert (view["pictures"], view["grounding"]["box"]) == ([2], [0.5, 0, 1, 0.5])
    assert Image.open(io.BytesIO(find_picture(trajectory, "2"))).size == (50, 40)
