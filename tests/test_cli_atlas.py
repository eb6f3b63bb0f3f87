"""`deepmmsearch atlas` as a user runs it, over the real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commands import done, run
from deepmmsearch.errors import UserError
from deepmmsearch.store import TrajectoryStore


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atlas") / "world"
    done("atlas", "make", folder, "--seed", "2", "--countries", "12", "--famous", "2", "--questions", "30")
    return folder


@pytest.fixture(scope="module")
def index(world: Path) -> Path:
    from deepmmsearch.engine import Index

    folder = world.parent / "index"
    Index.build(world / "sites", folder)
    return folder


def test_make_writes_an_atlas(world: Path) -> None:
    assert {p.name for p in world.iterdir()} == {"sites", "images", "questions.jsonl", "atlas.json", "README.md"}
    assert [p.name for p in world.parent.iterdir() if p.name.startswith(".")] == []
    known = json.loads((world / "atlas.json").read_text())
    assert (known["seed"], known["split"], known["countries"], known["famous"], known["questions"]) == (
        2,
        "eval",
        12,
        2,
        30,
    )
    assert "--seed 2 --split eval --countries 12 --famous 2" in (world / "README.md").read_text()


def test_make_changes_nothing_that_is_there(world: Path) -> None:
    arguments = ("atlas", "make", world, "--seed", "2", "--countries", "12", "--famous", "2")
    (world / "notes.txt").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    assert "is this world already" in done(*arguments, "--questions", "30")
    result = run(*arguments, "--questions", "31")
    assert isinstance(result.exception, UserError) and "questions: 30 -> 31" in str(result.exception)
    assert before == {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    (world / "notes.txt").unlink()


def test_make_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    result = run("atlas", "make", tmp_path, "--seed", "1")
    assert isinstance(result.exception, UserError) and "not an atlas" in str(result.exception)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_user_error_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    command = [sys.executable, "-c", "from deepmmsearch.cli import main; main()"]
    result = subprocess.run(
        [*command, "atlas", "make", str(tmp_path), "--seed", "1"], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 2 and result.stderr.startswith("Error: ") and "Traceback" not in result.stderr


def test_the_oracle_plays_nearly_perfectly_and_a_second_run_goes_on(world: Path, index: Path, tmp_path: Path) -> None:
    first = done("atlas", "play", world, "--index", index, "--out", tmp_path / "out", "--limit", "20")
    assert "Played 20 questions, 0 were" in first and "oracle" in first
    second = done("atlas", "play", world, "--index", index, "--out", tmp_path / "out")
    assert "Played 10 questions, 20 were" in second
    store = TrajectoryStore(tmp_path / "out")
    assert len(set(store.ids())) == len(store) == 30
    right = [t for t in store if t.answer in t.question.answers]
    assert len(right) >= 28
    played = {t.question.metadata["kind"]: t for t in right}
    assert len(played["image_two_text"].searches) == 3 and not played["look"].searches
    nothing = done("atlas", "play", world, "--index", index, "--out", tmp_path / "out")
    assert "Played 0 questions, 30 were" in nothing


def test_play_adds_to_no_other_experiment(world: Path, index: Path, tmp_path: Path) -> None:
    given = ("atlas", "play", world, "--index", index, "--out", tmp_path / "out", "--limit", "1")
    done(*given)
    error = run(*given, "--prompt", "atlas-direct").exception
    assert isinstance(error, UserError) and "prompt: atlas -> atlas-direct" in str(error)
    assert "Played 0 questions" in done(*given)


def test_directly_it_knows_only_what_it_sees_or_remembers(world: Path, index: Path, tmp_path: Path) -> None:
    done("atlas", "play", world, "--index", index, "--out", tmp_path / "out", "--prompt", "atlas-direct")
    for trajectory in TrajectoryStore(tmp_path / "out"):
        assert not trajectory.searches
        right = trajectory.answer in trajectory.question.answers
        assert right == (trajectory.question.metadata["kind"] in ("look", "memory"))


def test_play_refuses_what_is_not_there(world: Path, index: Path, tmp_path: Path) -> None:
    cases = {
        "not an atlas": ("atlas", "play", tmp_path, "--index", index, "--out", tmp_path / "o"),
        "ndex": ("atlas", "play", world, "--index", tmp_path, "--out", tmp_path / "o"),
    }
    for words, arguments in cases.items():
        result = run(*arguments)
        assert isinstance(result.exception, UserError) and words in str(result.exception)


@pytest.mark.parametrize("arguments", [("atlas",), ("atlas", "make"), ("atlas", "play"), ("demo",)])
def test_help_has_an_example(arguments: tuple[str, ...]) -> None:
    assert "Example:  deepmmsearch" in done(*arguments, "--help")
