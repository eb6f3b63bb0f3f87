"""Boxes from endpoints: in the frame of what the server's model saw, or told to be in another."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepmmsearch import images
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.endpoints import endpoint_card, seeing_model
from deepmmsearch.compose.policies import ChatPolicySettings, build_policy, choose_prompt, policy_content
from deepmmsearch.compose.tool_parts import ChatGroundingSettings
from deepmmsearch.compose.toolbox import find_grounder, model_grounder
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.policies.agent_card import read_card
from deepmmsearch.tools.grounding import FrameError, box_dialect
from deepmmsearch.types import Box
from endpoints import Answer, as_json, endpoint

SCENE = Image.new("RGB", (1120, 840), "white")
WANTED = Box(280, 420, 560, 840)


def server(least: int = 3136, most: int = 12_845_056, counted: bool = True) -> Callable[[dict[str, Any]], Answer]:
    """Qwen2.5-VL behind a server with these bounds, which finds a quarter of the picture's width and height from the
    left and the middle, in pixels of what it sees."""

    def reply(asked: dict[str, Any]) -> Answer:
        (part,) = (p for p in asked["messages"][-1]["content"] if p["type"] == "image_url")
        data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as sent:
            width, height = images.view_size(sent.size, least, most)
        box = [round(width / 4), round(height / 2), round(width / 2), height]
        text = json.dumps([{"bbox_2d": box, "label": "it"}])[: asked["max_tokens"] * 100]
        message = {"role": "assistant", "content": text}
        told = {"usage": {"prompt_tokens": 30 + width * height // 784 if counted else 30, "completion_tokens": 9}}
        return as_json({"choices": [{"index": 0, "finish_reason": "stop", "message": message}], **told})

    return reply


def locate(url: str, **settings: Any) -> list[Box]:
    given: dict[str, Any] = {"model": "Qwen/Qwen2.5-VL-7B-Instruct", "base_url": url, "timeout": 10}
    return asyncio.run(find_grounder(build_policy(ChatPolicySettings(**{**given, **settings}))).locate(SCENE, "it"))  # type: ignore[union-attr]


def close(found: list[Box]) -> bool:
    (box,) = found
    apart = [abs(getattr(box, side) - getattr(WANTED, side)) for side in ("left", "top", "right", "bottom")]
    return max(apart) < 30


@pytest.mark.parametrize(
    ("bounds", "settings"),
    [
        ((3136, 12_845_056), {}),
        ((3136, 1280 * 784), {}),
        ((3136, 18_816), {"max_pixels": 18_816}),
        ((256 * 784, 640 * 784), {"min_pixels": 256 * 784, "max_pixels": 640 * 784}),
    ],
)
def test_boxes_are_in_the_frame_that_the_server_sees(bounds: tuple[int, int], settings: dict[str, Any]) -> None:
    with endpoint(server(*bounds), counts=True) as served:
        assert close(locate(served.url, **settings))


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ((3136, 18_816), "max_pixels: 15680 would do"),
        ((3136, 200 * 784), "max_pixels: 1\\d+ would do"),
        ((784 * 900, 10**7), "min_pixels"),
    ],
)
def test_another_frame_is_told_and_what_to_set(bounds: tuple[int, int], told: str) -> None:
    with endpoint(server(*bounds), counts=True) as served:
        with pytest.raises(FrameError, match=told) as caught:
            locate(served.url)
        assert "preprocessor_config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_server_that_counts_no_pictures_is_believed() -> None:
    with endpoint(server(counted=False), counts=True) as served:
        assert close(locate(served.url))


def test_where_pixels_are_a_guess_the_crop_alone_fails() -> None:
    with (
        endpoint(server(3136, 18_816), counts=True) as served,
        pytest.raises(ToolError, match=r"set grounding\.dialect if"),
    ):
        locate(served.url, model="some-model")


def test_the_frame_is_checked_once_however_many_ask() -> None:
    async def many(url: str, most: int) -> list[Any]:
        policy = build_policy(ChatPolicySettings(model="qwen2.5-vl-7b", base_url=url, max_pixels=most))
        grounder: Any = find_grounder(policy)
        first = [await asyncio.gather(*(grounder.locate(SCENE, "it") for _ in range(6)), return_exceptions=True)]
        return [*first[0], *await asyncio.gather(grounder.locate(SCENE, "it"), return_exceptions=True)]

    for most, probes, asked in ((18_816, 2, 9), (784 * 784, 2, 2)):
        with endpoint(server(3136, 18_816), counts=True) as served:
            found = asyncio.run(many(served.url, most))
            assert sum(request["max_tokens"] == 1 for request in served.asked) == probes
            assert len(served.asked) == asked
            assert len({str(each) for each in found}) == 1


def test_a_server_that_was_down_is_checked_later() -> None:
    down = True

    def reply(asked: dict[str, Any]) -> Answer:
        return as_json({"error": {"message": "loading"}}, 503) if down else server()(asked)

    async def twice(url: str) -> list[Box]:
        nonlocal down
        grounder: Any = find_grounder(build_policy(ChatPolicySettings(model="qwen2.5-vl", base_url=url, timeout=5)))
        with pytest.raises(UserError, match="503"):
            await grounder.locate(SCENE, "it")
        down = False
        found: list[Box] = await grounder.locate(SCENE, "it")
        return found

    with endpoint(reply, counts=True) as served:
        assert close(asyncio.run(twice(served.url)))


def test_another_model_that_finds_boxes_is_checked_too() -> None:
    with endpoint(server(3136, 18_816), counts=True) as served:
        settings: dict[str, Any] = {"model": "Qwen2.5-VL-3B", "base_url": served.url}
        with pytest.raises(FrameError):
            asyncio.run(model_grounder(seeing_model(ChatGroundingSettings(**settings))).locate(SCENE, "it"))
        right = seeing_model(ChatGroundingSettings(**settings, max_pixels=18_816))
        assert close(asyncio.run(model_grounder(right).locate(SCENE, "it")))


def test_thousandths_need_no_check() -> None:
    with endpoint(server(3136, 18_816), counts=True) as served:
        policy = build_policy(ChatPolicySettings(model="Qwen/Qwen3-VL-8B-Instruct", base_url=served.url))
        asyncio.run(find_grounder(policy).locate(SCENE, "it"))  # type: ignore[union-attr]
        assert len(served.asked) == 1


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl"),
        ("qwen2_5_vl", "qwen2.5-vl"),
        ("Qwen2.5-Omni-7B", "qwen2.5-vl"),
        ("qwen/qwen-2.5-vl-72b-instruct:free", "qwen2.5-vl"),
        ("qwen2.5vl:7b", "qwen2.5-vl"),
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl"),
        ("qwen3-vl:30b", "qwen3-vl"),
        ("qwen3_vl_moe", "qwen3-vl"),
        ("Qwen2-VL-2B", "qwen3-vl"),
        ("qwen2_vl", "qwen3-vl"),
        ("gpt-5", None),
        ("gemma3:4b", None),
        ("Qwen2.5-7B-Instruct", None),
    ],
)
def test_the_form_of_boxes_follows_the_model(name: str, dialect: str | None) -> None:
    assert box_dialect(name) == dialect


# what is known of a model by its name


@pytest.mark.parametrize("name", ["atlas", "deepmmsearch-atlas", str(BUNDLED), "/srv/x/deepmmsearch/bundled/model/"])
def test_the_bundled_model_is_known_by_its_name(name: str) -> None:
    card = read_card(BUNDLED)
    with endpoint(server(card.min_pixels or 0, card.max_pixels or 0), counts=True) as served:
        served.models = [name]
        for settings in (ChatPolicySettings(model=name, base_url=served.url), ChatPolicySettings(base_url=served.url)):
            policy: Any = build_policy(settings)
            assert (policy.model, policy.bounds) == (name, (card.min_pixels, card.max_pixels))
            assert policy.max_new_tokens == card.max_new_tokens
            assert choose_prompt(policy, _searching()).name == "atlas"
            assert close(asyncio.run(find_grounder(policy).locate(SCENE, "it")))  # type: ignore[union-attr]
        own = ChatPolicySettings(model=name, base_url=served.url, max_pixels=9_408, max_new_tokens=300)
        policy = build_policy(own)
        assert (policy.bounds[1], policy.max_new_tokens) == (9_408, 300)


def _searching() -> Any:
    from deepmmsearch.agent import Toolbox

    class Nothing:
        async def search(self, query: Any, k: int) -> list[Any]:
            return []

    return Toolbox(Nothing(), Nothing())


@pytest.mark.parametrize("name", ["my-atlas", "atlas-7b", "deepmmsearch", "other/model"])
def test_other_models_are_not_the_bundled_one(name: str) -> None:
    assert endpoint_card(name).prompt is None


def test_a_folder_says_what_its_model_sees(tmp_path: Path) -> None:
    shutil.copy(BUNDLED / "preprocessor_config.json", tmp_path)
    assert (endpoint_card(str(tmp_path)).min_pixels, endpoint_card(str(tmp_path)).max_pixels) == (3136, 18_816)
    (tmp_path / "agent.json").write_text(json.dumps({"max_pixels": 9_408, "grounding": "qwen3-vl"}))
    card = endpoint_card(str(tmp_path))
    assert (card.min_pixels, card.max_pixels, card.grounding) == (3136, 9_408, "qwen3-vl")
    # what a server calls its model leads to no folder here
    assert endpoint_card(str(tmp_path), trusted=False).max_pixels is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"size": 3}',
        '{"merge_size": 2, "size": {"shortest_edge": "x"}}',
        '{"size": {"shortest_edge": 224, "longest_edge": 448}}',
        '{"merge_size": 2, "min_pixels": 9, "size": {"longest_edge": 4}}',
    ],
)
def test_a_processor_that_does_not_say_leaves_it_open(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    assert endpoint_card(str(tmp_path)).max_pixels is None


def test_a_policy_of_an_endpoint_that_is_down_can_be_built() -> None:
    policy: Any = build_policy(ChatPolicySettings(base_url="http://127.0.0.1:9/v1"))
    assert policy.model is None
    assert policy_content(ChatPolicySettings(base_url="http://127.0.0.1:9/v1"))["model"]


def test_bounds_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="min_pixels is 800, above max_pixels, 700"):
        ChatPolicySettings(min_pixels=800, max_pixels=700)
