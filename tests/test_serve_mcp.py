"""The MCP door, asked by the real client over HTTP and over stdio."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from deepmmsearch.compose.serving import CallerLimits
from deepmmsearch.images import data_url
from deepmmsearch.serve.callers import Caller
from deepmmsearch.types import Box
from endpoints import endpoint, streamed
from serving import KNOW, Scripted, house, running

RED = data_url(Image.new("RGB", (400, 300), "red"))


@asynccontextmanager
async def connected(url: str, **settings: Any) -> AsyncIterator[Client]:
    async with Client(f"{url}/mcp", **settings) as client:
        yield client


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_picture_is_asked_about_in_both_versions_of_the_protocol(tmp_path: Path, mode: str) -> None:
    policy = Scripted()
    told: list[tuple[float, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append((done, message))

    with running(house(tmp_path, policy)) as url:
        async with connected(url, mode=mode) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert names == {"answer_about_picture", "search_by_picture", "search_text", "locate", "read_page"}
            given = {"question": "Which capital?", "picture": RED}
            found = await client.call_tool("answer_about_picture", given, progress_callback=progress)
    assert not found.is_error, found
    told_ = found.structured_content
    assert told_["answer"] == "Orm" and told_["text"] == "Orm [1]"
    assert told_["sources"][0]["url"] == "https://veld.example/" and len(told_["steps"]) == 3
    assert ([n for n, _ in told] == [1, 2, 3] and "Veld" not in str(told[0][1])) or told
    assert policy.asked[0].question.image.size == (400, 300)  # type: ignore[union-attr]


class Finder:
    async def locate(self, image: Any, phrase: str) -> list[Box]:
        return [Box(10, 20, 110, 120, 0.9)] if phrase == "the flag" else []


async def test_the_searches_one_by_one(tmp_path: Path) -> None:
    served = house(tmp_path)
    tools = served.model(None).workflow.tools_for(None)  # type: ignore[arg-type]
    object.__setattr__(tools, "grounder", Finder())
    with running(served) as url:
        async with connected(url) as client:
            text = await client.call_tool("search_text", {"query": "Veld", "k": 2})
            assert [h["title"] for h in text.structured_content["hits"]] == ["Veld", "Other"]
            whole = await client.call_tool("search_by_picture", {"picture": RED})
            assert len(whole.content) == 1 and whole.structured_content["box"] is None
            part = await client.call_tool("search_by_picture", {"picture": RED, "phrase": "the flag"})
            assert part.structured_content["box"] == [10, 20, 110, 120]
            shown = [c for c in part.content if c.type == "image"]
            assert base64.b64decode(shown[0].data).startswith(b"\x89PNG")
            boxes = await client.call_tool("locate", {"picture": RED, "phrase": "the flag"})
            assert boxes.structured_content["boxes"] == [
                {"left": 10, "top": 20, "right": 110, "bottom": 120, "score": 0.9}
            ]


@pytest.mark.parametrize(
    ("tool", "given", "told"),
    [
        ("answer_about_picture", {"question": " "}, "empty"),
        ("answer_about_picture", {"question": "x", "picture": "/etc/passwd"}, "Paths are not taken"),
        ("answer_about_picture", {"question": "x", "picture": "file:///etc/passwd"}, "Paths are not taken"),
        ("answer_about_picture", {"question": "x", "picture": "data:image/png;base64,AAAA"}, "picture 1"),
        ("answer_about_picture", {"question": "x", "picture": "http://127.0.0.1/x.png"}, "could not be fetched"),
        ("answer_about_picture", {"question": "x", "model": "y"}, "model"),
        ("search_by_picture", {"picture": RED, "phrase": "a cat"}, "Nothing that finds"),
        ("search_text", {"query": "x", "k": 1000}, "k"),
        ("read_page", {"url": "https://x.example/"}, "No reader"),
    ],
)
async def test_what_is_wrong_with_a_call_is_its_result(tmp_path: Path, tool: str, given: Any, told: str) -> None:
    with running(house(tmp_path)) as url:
        async with connected(url) as client:
            found = await client.call_tool(tool, given)
    assert found.is_error and told in found.content[0].text and "Traceback" not in found.content[0].text


async def test_paths_below_a_folder_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    for place in ("open/in.png", "out.png"):
        Image.new("RGB", (30, 30), "blue").save(tmp_path / place)
    (tmp_path / "open" / "link.png").symlink_to(tmp_path / "out.png")
    policy = Scripted([KNOW])
    with running(house(tmp_path, policy, picture_folders=(tmp_path / "open",))) as url:
        async with connected(url) as client:
            for place, right in (("open/in.png", True), ("out.png", False), ("open/link.png", False)):
                given = {"question": "x", "picture": str(tmp_path / place)}
                assert (await client.call_tool("answer_about_picture", given)).is_error is not right, place


async def test_a_large_picture_fits(tmp_path: Path) -> None:
    noise = Image.effect_noise((2600, 1500), 90).convert("RGB")
    with running(house(tmp_path, Scripted([KNOW]))) as url:
        async with connected(url, read_timeout_seconds=60) as client:
            uri = data_url(noise)
            assert len(uri) > 5_000_000
            found = await client.call_tool("answer_about_picture", {"question": "x", "picture": uri})
    assert not found.is_error


async def test_a_key_is_needed_where_there_are_keys(tmp_path: Path) -> None:
    import httpx2

    known = {hashlib.sha256(b"k1").hexdigest(): Caller("anna", CallerLimits(concurrent=None))}
    with running(served := house(tmp_path, Scripted([KNOW]), known)) as url:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        assert httpx2.post(f"{url}/mcp", json=body).status_code == 401
        async with (
            httpx2.AsyncClient(headers={"Authorization": "Bearer k1"}, timeout=30) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
        ):
            found = await client.call_tool("answer_about_picture", {"question": "x"})
        assert not found.is_error and len(served.histories.of("anna").entries()) == 1


async def test_over_stdio_with_a_path(tmp_path: Path) -> None:
    Image.new("RGB", (30, 30), "blue").save(tmp_path / "picture.png")
    with endpoint(lambda _: streamed("<reason>I see.</reason>", "<answer>a flag</answer>")) as model:
        policy = {"kind": "chat", "base_url": model.url, "model": "vlm"}
        (tmp_path / "serve.yaml").write_text(yaml.safe_dump({"models": {"m": {"policy": policy}}, "store": "kept"}))
        arguments = ["-P", "-m", "deepmmsearch", "mcp", "serve.yaml"]
        host = StdioServerParameters(command=sys.executable, args=arguments, cwd=str(tmp_path))
        async with Client(stdio_client(host), read_timeout_seconds=60) as client:
            given = {"question": "What is it?", "picture": str(tmp_path / "picture.png")}
            found = await client.call_tool("answer_about_picture", given)
            # what has no end, or nothing in it, is not waited for
            os.mkfifo(tmp_path / "pipe.png")
            for path in (str(tmp_path / "pipe.png"), str(tmp_path), "a\0b.png"):
                wrong = await client.call_tool("answer_about_picture", {**given, "picture": path})
                assert wrong.is_error and "Give the path of a picture." in wrong.content[0].text
        assert not found.is_error and found.structured_content["answer"] == "a flag"
        assert len(model.asked) == 1
