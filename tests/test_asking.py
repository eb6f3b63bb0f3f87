"""The Python interface: from a picture to an answer with its sources."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

import deepmmsearch
from deepmmsearch import Agent
from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.dialect import write_turn
from deepmmsearch.compose.asking import read_question
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.testing import ScriptedPolicy
from deepmmsearch.types import Answer, Exchange, Hit, ImageSearch, Limits, TextSearch

PICTURE = Image.new("RGB", (60, 40), "red")
TURNS = (write_turn("I search.", TextSearch("capital of Veld")), write_turn("I know.", Answer("Ferner")))


class Shelf:
    async def search(self, asked: object, k: int) -> list[Hit]:
        return [Hit("Veld", "https://a.example/veld", "The capital of Veld is Ferner.")]


def agent(*script: str, limits: Limits | None = None) -> Agent:
    return Agent(ScriptedPolicy(*(script or TURNS)), Toolbox(Shelf()), limits=limits)


def test_an_answer_comes_with_its_sources() -> None:
    with agent() as asked:
        reply = asked.ask("What is the capital?", PICTURE)
    assert (reply.answer, reply.error) == ("Ferner", None)
    assert [(source.title, source.url) for source in reply.sources] == [("Veld", "https://a.example/veld")]
    assert reply.sources[0].sentence == "The capital of Veld is Ferner."
    assert reply.json()["answer"] == "Ferner"


def test_turns_are_seen_as_they_happen() -> None:
    with agent() as asked:
        seen = [(len(reply.trajectory.turns), reply.answer) for reply in asked.stream("What is the capital?", PICTURE)]
    assert seen[-2:] == [(1, None), (2, "Ferner")]


def test_a_stream_that_is_left_early_leaves_nothing_behind() -> None:
    with agent() as asked:
        stream = asked.stream("What is the capital?")
        assert next(reply for reply in stream if reply.trajectory.turns).answer is None
        stream.close()  # type: ignore[attr-defined]
        assert asked._loop.run(asyncio.sleep(0, "free")) == "free"


async def test_it_works_within_an_event_loop_and_as_part_of_one() -> None:
    with agent() as asked:
        assert asked.ask("What is the capital?", PICTURE).answer == "Ferner"
        question = await read_question("What is the capital?", [PICTURE])
        assert [reply.answer async for reply in asked.play(question)][-1] == "Ferner"


def test_several_threads_ask_one_agent() -> None:
    found: list[str | None] = []
    with agent() as asked:
        threads = [threading.Thread(target=lambda: found.append(asked.ask("What?", PICTURE).answer)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["Ferner"] * 8


def test_what_fails_is_the_replys_error_and_what_was_played_is_kept() -> None:
    with agent(TURNS[0]) as asked:
        reply = asked.ask("What is the capital?", PICTURE)
    assert reply.answer is None and "script" in (reply.error or "") and len(reply.trajectory.turns) == 1
    assert [source.title for source in reply.read] == ["Veld"]


def test_pictures_come_as_files_bytes_and_images(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    given = [tmp_path / "a.png", str(tmp_path / "a.png"), data, PICTURE]
    question = asyncio.run(read_question("Which?", given, [("Who?", "Ada")]))
    assert [image.size for image in question.images] == [(60, 40)] * 4
    assert question.history == (Exchange("Who?", "Ada"),)
    same = asyncio.run(read_question("Which?", given))
    assert same.id == question.id and same.id != asyncio.run(read_question("Which?")).id


@pytest.mark.parametrize(("text", "pictures", "said"), [("  ", (), "empty"), ("x" * 20_001, (), "Shorten it"),
                                                        ("Which?", ("nowhere.png",), "nowhere.png")])  # fmt: skip
def test_what_cannot_be_asked_is_told_before_anything_is_played(
    text: str, pictures: tuple[str, ...], said: str
) -> None:
    with agent() as asked, pytest.raises(UserError, match=said):
        asked.ask(text, *pictures)


def test_a_history_is_of_pairs_and_a_closed_agent_answers_no_more() -> None:
    with agent() as asked:
        for history in (["ab"], [("a", "b", "c")], [("a", None)]):
            with pytest.raises(UserError, match="pairs of texts"):
                asked.ask("Which?", history=history)  # type: ignore[arg-type]
        assert asked.ask("Which?", history=[("Who?", "Ada")]).answer == "Ferner"
    with pytest.raises(UserError, match="closed"):
        asked.ask("Which?")


def test_limits_are_the_dialects_unless_others_are_given() -> None:
    assert Agent(ScriptedPolicy(), prompt="mmsearch-r1").workflow.limits.calls == 3
    assert Agent(ScriptedPolicy(), prompt="deepmmsearch-r1").workflow.limits == Limits()
    again = write_turn("r", ImageSearch())
    with agent(again, again, limits=Limits(calls=1)) as asked:
        assert asked.ask("Which?", PICTURE).trajectory.stop == "turns"


def test_it_is_loaded_from_what_a_recipe_would_say(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with Agent.load(max_new_tokens=8, temperature=0.5) as asked:
        reply = asked.ask("whose flag is this ?", Image.new("RGB", (112, 112), "white"))
    assert reply.trajectory.turns and reply.trajectory.prompt.name == "atlas-direct"
    TrajectoryStore(tmp_path / "kept").append(reply.trajectory)
    with pytest.raises(UserError, match="base_url"):
        Agent.load(kind="local", base_url="http://127.0.0.1:1/v1")
    with pytest.raises(UnknownName, match="temprature"):
        Agent.load(temprature=0.5)
    with pytest.raises(UserError, match="index"):
        Agent.load(index=tmp_path / "nothing")


def test_importing_the_package_loads_nothing_of_it() -> None:
    """`deepmmsearch.Agent` is found when it is asked for."""
    code = "import sys, deepmmsearch as d; print([m for m in sys.modules if m.startswith(('deepmmsearch.', 'PIL'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="Agnet"):
        deepmmsearch.Agnet  # type: ignore[attr-defined]  # noqa: B018
