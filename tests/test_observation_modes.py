"""Thumbnails with titles (MMSearch-R1), and summaries by a model with citations, from a recipe to the end of `ask`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("cv2")

from checkpoints import tiny_checkpoint
from deepmmsearch.agent import play
from deepmmsearch.cli.ask import command
from deepmmsearch.compose.policies import LocalPolicySettings, build_policy
from deepmmsearch.compose.tool_settings import LocalToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.engine import Index
from deepmmsearch.images import load
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import ScriptedPolicy, tiny_tokenizer
from deepmmsearch.types import Completion, Question, Trajectory
from endpoints import Endpoint, endpoint, error, said

WHOLE = "<reason>I look.</reason><img_search><img></img_search>"
TEXT = "<reason>I read.</reason><text_search>capital of Veld</text_search>"
ANSWER = "<reason>I know.</reason><answer>Moru</answer>"


@pytest.fixture(scope="module")
def world(tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("world")
    (folder / "pages").mkdir()
    (folder / "pages" / "veld.md").write_text("# Veld\n\nThe capital of Veld is Moru. Veld lies in the north.\n")
    flag = Image.effect_noise((12, 9), 200).resize((120, 90)).convert("RGB")
    flag.save(folder / "pages" / "flag-of-veld.png")
    flag.resize((240, 180)).save(folder / "photo.png")
    Index.build(folder / "pages", folder / "index")
    return folder


def ask(world: Path, settings: dict[str, Any], server: Endpoint, *more: str) -> str:
    tools = world / f"tools-{len(server.asked)}-{len(settings)}.yaml"
    tools.write_text(json.dumps({"kind": "local", "index": str(world / "index"), **settings}))
    options = ["--base-url", server.url, "--model", "vlm", "--tools", str(tools), *more]
    arguments = [str(world / "photo.png"), "What is the capital?", *options]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def texts(body: dict[str, Any]) -> str:
    parts = [m["content"] for m in body["messages"]]
    return "\n".join(p if isinstance(p, str) else "\n".join(q.get("text", "[picture]") for q in p) for p in parts)


def test_thumbnails_reach_a_chat_endpoint_as_pictures_with_titles(world: Path) -> None:
    turns = [WHOLE, ANSWER]
    with endpoint(lambda _: said(turns.pop(0))) as server:
        out = ask(world, {"thumbnails": True}, server)
    assert "[1] match (picture 1):" in out and "Answer: Moru" in out
    first, second = server.asked
    assert str(first).count("image_url'") < str(second).count("image_url'")
    assert texts(second).count("[picture]") == 2 and "[picture]\n<information>[1] match (picture 1):" in texts(second)


def test_the_local_policy_reads_thumbnails(world: Path, tmp_path: Path) -> None:
    policy = build_policy(LocalPolicySettings(model=str(tiny_checkpoint(tmp_path / "small", max_new_tokens=4))))
    tools = build_toolbox(LocalToolSettings(index=world / "index", thumbnails=True), policy)
    start = Trajectory(Question("q", "Whose?", (load(world / "photo.png"),)), load_prompt("mmsearch-r1"))
    search = WHOLE.replace("img_search", "search")
    sampled = Completion(search, tuple(tiny_tokenizer().encode(search, add_special_tokens=False)))
    shown = asyncio.run(play(start, ScriptedPolicy(sampled, ANSWER), tools))
    seen = shown.turns[0].observation
    assert seen is not None and len(seen.images) == 1 and seen.images[0].size == (120, 90)
    one_turn = Trajectory(shown.question, shown.prompt, turns=shown.turns[:1])
    completion = asyncio.run(policy.act(one_turn))
    without = Trajectory(shown.question, shown.prompt)
    assert completion.ids and completion.prompt_tokens is not None
    assert completion.prompt_tokens > (asyncio.run(policy.act(without)).prompt_tokens or 0) + 12, "no picture was read"


def test_a_models_summary_is_cited_to_the_end_of_ask(world: Path) -> None:
    turns = [TEXT, ANSWER]

    def reply(body: dict[str, Any]) -> Any:
        if "You condense" in texts(body):
            return said("Moru is the capital of Veld. [1]\nIt has a million people. [4]\nIt is warm.")
        return said(turns.pop(0))

    with endpoint(reply) as server:
        settings = {"summarizer": {"kind": "chat", "base_url": server.url, "model": "vlm"}}
        out = ask(world, settings, server)
        row = json.loads(ask(world, settings, server, "--json")) if (turns := [TEXT, ANSWER]) else {}
    assert "Moru is the capital of Veld. [1]" in out and "million" not in out and "It is warm" not in out
    sources = out.split("Answer: Moru\n")[1]
    assert sources.startswith("  [1] Veld") and "\n      Moru is the capital of Veld." in sources
    assert row["sources"][0]["sentence"] == "Moru is the capital of Veld." and row["sources"][0]["rank"] == 1
    kept = row["turns"][0]["sentences"]
    assert [(s["text"], s["hits"]) for s in kept][1:] == [("It has a million people.", []), ("It is warm.", [])]
    asked = next(texts(body) for body in server.asked if "You condense" in texts(body))
    assert "The capital of Veld is Moru." in asked


def test_when_the_summariser_is_down_quotations_stand_in(world: Path) -> None:
    turns = [TEXT, ANSWER]

    def reply(body: dict[str, Any]) -> Any:
        return error("out of memory", 400) if "You condense" in texts(body) else said(turns.pop(0))

    with endpoint(reply) as server:
        summarizer = {"kind": "chat", "base_url": server.url, "model": "vlm", "per_page": True}
        row = json.loads(ask(world, {"summarizer": summarizer}, server, "--json"))
    turn = row["turns"][0]
    assert turn["observation"].startswith("The summariser failed, so these are quotations.\n[1] ")
    assert "The capital of Veld is Moru." in turn["observation"] and "out of memory" in turn["summary_error"]
    assert row["spent"]["failed"] == 1 and row["answer"] == "Moru"
