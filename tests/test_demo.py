"""`deepmmsearch demo`, played by the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deepmmsearch.atlas.questions import make_questions
from deepmmsearch.atlas.world import make_world
from deepmmsearch.cli import group
from deepmmsearch.cli.demo import SHOWN, _chosen
from deepmmsearch.errors import UserError
from deepmmsearch.store import TrajectoryStore


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, ["demo", *map(str, arguments)])


def test_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    result = run("--out", tmp_path, "--policy", "oracle")
    assert isinstance(result.exception, UserError) and "letter.txt is in it" in str(result.exception)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_an_unknown_policy_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    result = run("--out", tmp_path / "demo", "--policy", tmp_path / "nothing")
    assert isinstance(result.exception, UserError) and "oracle" in str(result.exception)
    assert not (tmp_path / "demo").exists()


def test_shows_one_question_of_each_telling_kind_with_several_flags() -> None:
    questions = make_questions(make_world(1, "eval", countries=12, famous=2), 40)
    chosen = _chosen(questions, len(SHOWN))
    assert [q.metadata["kind"] for q in chosen] == list(SHOWN)
    assert chosen[0].metadata["flags"] > 2


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("--seed", "4", "--questions", "24", "--policy", "oracle", "--show", "2")
    result = run(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]
    assert {p.name for p in (tmp_path / "demo").iterdir()} == {
        "world",
        "index",
        "trajectories",
        "report.html",
        "output.json",
        ".lock",
    }
    for words in (
        "with tools",
        "answering directly",
        "without crop",
        "searches with a part of the picture",
        "Answer:",
        "report.html",
    ):
        assert words in result.output
    played = list(TrajectoryStore(tmp_path / "demo" / "trajectories"))
    assert len(played) == 24 and sum(t.answer in t.question.answers for t in played) >= 23
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("<li>") > 24 and "data:image/jpeg" in page
    before = (tmp_path / "demo" / "index" / "meta.json").stat().st_mtime_ns
    again = run(*arguments)
    assert again.exit_code == 0 and (tmp_path / "demo" / "index" / "meta.json").stat().st_mtime_ns == before
    assert [t.answer for t in TrajectoryStore(tmp_path / "demo" / "trajectories")] == [t.answer for t in played]
    assert isinstance(error := run("--seed", "5").exception, UserError) and "seed: 4 -> 5" in str(error)
    (tmp_path / "demo" / "trajectories" / "mine.txt").write_text("mine")
    assert run(*arguments).exit_code == 0
    assert (tmp_path / "demo" / "trajectories" / "mine.txt").read_text() == "mine"
