"""An experiment is recorded from the command line or a recipe, then runs again with everything gone that it asked."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepmmsearch import cli
from deepmmsearch.agent.runner import AgentWorkflow, run_all
from deepmmsearch.atlas.world_files import load_questions
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.policies import local_policy
from deepmmsearch.compose.recipe import read_settings
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.engine import Index
from deepmmsearch.prompts import load_prompt
from deepmmsearch.store import TrajectoryStore
from endpoints import endpoint, said

LOOK = "<reason>I look.</reason><img_search>the flag on the ship</img_search>"
BOX = '{"bbox_2d": [28, 28, 84, 84]}'
READ = "<reason>I read.</reason><text_search>capital of Veld</text_search>"
DONE = "<reason>It says so.</reason><answer>Moru</answer>"


def ask(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["deepmmsearch", "ask", *map(str, arguments)])
    cli.main()


def stored(folder: Path) -> bytes:
    """All that was stored, but the seconds of the policy, which is asked again, also for the box."""
    pictures = b"".join(p.name.encode() + p.read_bytes() for p in sorted((folder / "images").iterdir()))
    lines = (folder / "trajectories.jsonl").read_text().splitlines()
    played = [json.loads(line)["trajectory"] for line in lines]
    for turn in (turn for trajectory in played for turn in trajectory["turns"]):
        asked_again = [call for call in (turn["observation"] or {}).get("calls", ()) if call["tool"] == "grounder"]
        for record in (turn["completion"], *asked_again):
            assert record.pop("seconds") > 0
            record.pop("began", None)
    return json.dumps(played).encode() + pictures


def recipe(folder: Path, mode: str) -> Path:
    path = folder / f"{mode}.yaml"
    path.write_text(f"kind: local\nindex: {folder}/world\nrecorder: {{mode: {mode}, cassette: {folder}/c.sqlite}}\n")
    return path


def test_ask_again_with_the_index_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "veld.md").write_text("# Veld\n\nThe capital of Veld is Moru.\n")
    Image.effect_noise((120, 90), 70).convert("RGB").save(pages / "flag-of-veld.png")
    Image.effect_noise((224, 168), 80).convert("RGB").save(tmp_path / "ship.png")
    Index.build(pages, tmp_path / "world")
    left: list[str] = []
    with endpoint(lambda _: said(left.pop(0))) as server:

        def play(mode: str, *replies: str) -> str:
            left.extend(replies)
            options = ("--model", "vlm", "--base-url", server.url, "--tools", recipe(tmp_path, mode), "--save", mode)
            ask(monkeypatch, "ship.png", "What is the capital?", *options)
            assert not left
            shown = capsys.readouterr().out.split("Answer: ")[1]
            return re.sub(r"[0-9.]+ s,|deepmmsearch show .*", "", shown)

        first = play("cache", LOOK, BOX, READ, DONE)
        assert "Moru" in first and " tool calls, " in first
        for path in (tmp_path / "world", pages):
            shutil.rmtree(path)
        # the policy is asked again, as itself and for the box; no tool is
        assert play("replay", LOOK, BOX, READ, DONE) == first
    assert stored(tmp_path / "replay") == stored(tmp_path / "cache")


@pytest.mark.slow
def test_an_atlas_played_by_the_bundled_model_replays_byte_for_byte(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = ["atlas", "make", str(tmp_path / "atlas"), "--seed", "3", "--questions", "6"]
    monkeypatch.setattr(sys, "argv", ["deepmmsearch", *made])
    cli.main()
    Index.build(tmp_path / "atlas" / "sites", tmp_path / "world")
    policy = local_policy(BUNDLED)
    questions = list(load_questions(tmp_path / "atlas"))
    tried: list[Any] = []

    def play(mode: str) -> bytes:
        settings = read_settings(
            {"index": tmp_path / "world", "recorder": {"mode": mode, "cassette": tmp_path / "c.sqlite"}},
            ToolSettings,
            "tools",
        )
        toolbox = build_toolbox(settings, policy)
        store = TrajectoryStore(tmp_path / mode)

        async def run() -> None:
            agent = AgentWorkflow(policy, load_prompt("atlas"), lambda q: toolbox)
            # one after the other: a model's logprobs differ in the last digits with what else is in its batch
            async for trajectory in run_all(questions, agent, concurrency=1):
                store.append(trajectory)

        asyncio.run(run())
        return stored(tmp_path / mode)

    first = play("cache")
    shutil.rmtree(tmp_path / "world")
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: tried.append(address))
    assert play("replay") == first
    assert tried == [] and first.count(b'"tool": ') > 8
