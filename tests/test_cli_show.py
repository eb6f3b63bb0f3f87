from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from checkpoints import tiny_checkpoint
from deepmmsearch.cli.show import command
from deepmmsearch.errors import UserError
from deepmmsearch.prompts import load_prompt
from deepmmsearch.show.citations import find_sources
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.testing import tiny_tokenizer
from deepmmsearch.types import (
    Answer,
    Completion,
    Hit,
    ImageSearch,
    Malformed,
    Observation,
    Question,
    TextSearch,
    Trajectory,
    Turn,
)

REASON = "<reason>[red]why[/red]</reason>"


def trajectory(name: str = "q1", answer: str = "Moru") -> Trajectory:
    found = Observation(
        "[1] The capital is Moru.\n[2] Something else.",
        hits=(Hit("Veld", "https://a.example/veld", "long text"), Hit("[b]Else[/b]", "https://b.example", "no")),
    )
    turns = (
        Turn(Completion("nonsense"), Malformed("There is no action."), Observation("Error: no", error="no")),
        Turn(Completion(REASON + "<img_search><img></img_search>"), ImageSearch(), Observation("Nothing found.")),
        Turn(Completion(REASON + "<text_search>x</text_search>"), TextSearch("x"), found),
        Turn(Completion(f"{REASON}<answer>{answer}</answer>"), Answer(answer)),
    )
    question = Question(name, "What is the [i]capital[/i]?", (Image.new("RGB", (56, 28)),), ("Moru",))
    return Trajectory(question, load_prompt("atlas"), turns=turns, stop="answer")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    TrajectoryStore(tmp_path / "kept").append(trajectory())
    return tmp_path / "kept"


def show(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_a_trajectory_turn_by_turn(folder: Path) -> None:
    out = show(folder).output
    for expected in ("[i]capital[/i]", "[red]why[/red]", "no valid action: There is no action.", "[b]Else[/b]"):
        assert expected in out
    assert "Answer: Moru\n  [1] Veld  https://a.example/veld\n" in out
    assert show(folder / "trajectories.jsonl", "q1").output == out


def test_several_are_listed(folder: Path) -> None:
    TrajectoryStore(folder).append(replace(trajectory("q2", "Tavo"), stop="answer"))
    out = show(folder).output
    assert out.index("q1") < out.index("q2") and "2 stored, newest last" in out
    assert "Answer: Tavo" in show(folder, "q2").output


def test_one_is_found_by_its_id_the_beginning_of_it_or_as_the_last(folder: Path) -> None:
    store = TrajectoryStore(folder)
    about = {"date": "2026-01-02T03:04:05+00:00", "model": "vlm", "endpoint": "http://a.example/v1"}
    for name, answer in (("3f2a90", "Tavo"), ("3f2b11", "Veld"), ("3f2a90", "Oru")):
        store.append(trajectory("q", answer), name, about)
    for wanted, answer in (("3f2a90", "Oru"), ("3f2a", "Oru"), ("3f2b", "Veld"), ("last", "Oru"), ("q1", "Moru")):
        assert f"Answer: {answer}\n" in show(folder, wanted).output, wanted
    assert "3f2b11 | 2026-01-02T03:04:05+00:00 | vlm | http://a.example/v1\n" in show(folder, "3f2b").output
    with pytest.raises(UserError, match=r"2 ids .* begin with '3f2': 3f2a90, 3f2b11\. Give more of one."):
        show(folder, "3f2")
    line = show(folder).output.splitlines()[2]
    assert line == "3f2b11  2026-01-02 03:04  What is the [i]capital[/i]?  Veld  vlm"


def test_listing_and_trajectory_as_json(folder: Path) -> None:
    store = TrajectoryStore(folder)
    store.append(
        replace(trajectory("q", "x"), turns=trajectory().turns[:1], stop="turns"), "late", {"date": "2026-01-02"}
    )
    first, late = map(json.loads, show(folder, "--json").output.splitlines())
    unknown = {"date": None, "model": None, "endpoint": None}
    question = "What is the [i]capital[/i]?"
    assert first == {"id": "q1", **unknown, "question": question, "answer": "Moru", "stop": "answer"}
    assert late == {
        "id": "late",
        **unknown,
        "date": "2026-01-02",
        "question": question,
        "answer": None,
        "stop": "turns",
    }
    whole = json.loads(show(folder, "q1", "--json").output)
    assert first.items() <= whole.items() and [s["url"] for s in whole["sources"]] == ["https://a.example/veld"]
    assert [turn["action"] for turn in whole["turns"]] == ["malformed", "image_search", "text_search", "answer"]


def test_the_folder_around_the_trajectories_will_do(tmp_path: Path) -> None:
    TrajectoryStore(tmp_path / "demo" / "trajectories").append(trajectory())
    assert "Answer: Moru" in show(tmp_path / "demo").output


def test_tokens_colour_the_mask(folder: Path, tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "small")
    out = show(folder, "--tokens", "--model", model).output
    tokenizer = tiny_tokenizer()
    said = [t.completion.text for t in trajectory().turns]
    counted = sum(len(tokenizer.encode(text, add_special_tokens=False)) + 1 for text in said)
    assert f"{counted} of them count" in out and "pictures: 1" in out and "[picture 56 x 28]" in out
    assert "no token ids" in out and "[red]why[/red]" in out


def test_what_cannot_be_shown(folder: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((tmp_path / "nowhere",), "nothing at"),
        ((tmp_path,), "holds no trajectories"),
        ((folder, "q9"), "no 'q9' in .*kept. .*deepmmsearch show"),
        ((folder, "--tokens", "--model", tmp_path), "config.json"),
        ((folder, "--tokens", "--model", "no/such"), "could be loaded from"),
    ):
        with pytest.raises(UserError, match=message):
            show(*arguments)


def test_sources_hold_the_answer_as_whole_words() -> None:
    assert [s.url for s in find_sources(trajectory())] == ["https://a.example/veld"]
    assert [s.url for s in find_sources(trajectory(answer="the capital is: MORU"))] == ["https://a.example/veld"]
    for nothing in ("Mor", "moru is", "", "?"):
        assert find_sources(trajectory(answer=nothing)) == []
