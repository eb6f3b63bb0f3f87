"""An evaluation in parts, on machines that share nothing, equals the whole one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from commands import done, run
from deepmmsearch.compose.cassettes import cassettes_of
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.evaluate import part_of
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.errors import UserError
from deepmmsearch.eval.run import EvalRun
from deepmmsearch.outputs import RunPart
from endpoints import Endpoint, endpoint, said
from part_runs import write_eval_recipe


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    with endpoint(lambda body: said("<reason>I know.</reason><answer>Balor</answer>")) as served:
        yield served


@pytest.fixture
def recipe(tmp_path: Path, server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    return write_eval_recipe(tmp_path, server.url, 7)


def verdicts(folder: Path) -> dict[str, tuple[float, object]]:
    played = EvalRun(folder)
    answers = {id: trajectory.answer for id, trajectory in played.store.items()}
    assert len(played.store.ids()) == len(answers)
    return {id: (row.score, answers[id]) for (id, _), row in played.judged().items()}


def test_parts_put_together_are_the_whole(recipe: Path, tmp_path: Path) -> None:
    done("eval", recipe, "--no-report")
    whole = verdicts(tmp_path / "run")
    for number in (1, 2, 3):
        done("eval", recipe, "--part", f"{number}/3")
    parts = [tmp_path / f"run.part-{number}-of-3" for number in (1, 2, 3)]
    assert [len(verdicts(part)) for part in parts] == [3, 2, 2]
    merged = tmp_path / "merged"
    told = done("eval", "merge", merged, parts[0], parts[2], "--no-report")
    assert "5 trajectories and 5 verdicts are new" in told
    assert "mine: direct: 2 of 7 questions are in none of the parts." in told
    told = done("eval", "merge", merged, *parts)
    assert "2 trajectories and 2 verdicts are new" in told and "none of the parts" not in told
    assert verdicts(merged) == whole and (merged / "report.html").is_file()
    assert "0 trajectories and 0 verdicts are new" in done("eval", "merge", merged, *parts, "--no-report")
    # and it is an evaluation like any other: nothing is left to play
    assert "nothing left to play" in done("eval", recipe, f"output={merged}", "--no-report")


def test_what_failed_in_one_part_is_taken_from_another(recipe: Path, tmp_path: Path, server: Endpoint) -> None:
    done("eval", recipe, "--no-report", f"output={tmp_path / 'b'}")
    done("eval", recipe, "--no-report", f"output={tmp_path / 'a'}")
    file = tmp_path / "a/trajectories/trajectories.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[2]["trajectory"] |= {"stop": "error", "error": "down", "turns": []}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [json.loads(line) for line in (tmp_path / "a/verdicts.jsonl").read_text().splitlines()]
    broken = [
        row | {"score": 0.0, "reason": "the episode failed"} if row["id"] == lines[2]["id"] else row for row in rows
    ]
    (tmp_path / "a/verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in broken))
    done("eval", "merge", tmp_path / "c", tmp_path / "a", tmp_path / "b", "--no-report")
    merged = EvalRun(tmp_path / "c")
    assert merged.store.get(lines[2]["id"]).answer == "Balor"
    assert {id: row.score for (id, _), row in merged.judged().items()} == {
        id: row.score for (id, _), row in EvalRun(tmp_path / "b").judged().items()
    }


def test_parts_of_different_recipes_are_not_put_together(recipe: Path, tmp_path: Path) -> None:
    done("eval", recipe, "--part", "1/2")
    done("eval", recipe, "--part", "2/2", "policies.m.temperature=0.5")
    parts = [tmp_path / f"run.part-{number}-of-2" for number in (1, 2)]
    error = run("eval", "merge", tmp_path / "merged", *parts).exception
    assert isinstance(error, UserError) and "policies.m.temperature: 0.0 -> 0.5" in str(error)
    assert not (tmp_path / "merged").exists()
    error = run("eval", "merge", tmp_path / "merged", tmp_path / "nowhere").exception
    assert isinstance(error, UserError) and "holds no evaluation" in str(error)


@pytest.mark.parametrize("given", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5"])
def test_what_is_no_part_is_said(recipe: Path, given: str) -> None:
    result = run("eval", recipe, f"--part={given}")
    assert result.exit_code == 2 or "is not a part" in str(result.exception), result.output


def test_parts_write_into_no_file_of_another(recipe: Path, tmp_path: Path) -> None:
    tools = {"text": [{"name": "searxng", "url": "http://127.0.0.1:9"}], "reader": "none"}
    recorder = {"mode": "cache", "cassette": str(tmp_path / "calls.sqlite")}
    made = yaml.safe_load(recipe.read_text()) | {"tools": {**tools, "recorder": recorder}}
    made["workflows"] = {"agent": {"kind": "agent"}}
    recipe.write_text(yaml.safe_dump(made))
    whole = load_recipe(recipe, EvalRecipe)
    mine = part_of(whole, RunPart(2, 4))
    assert mine.output == tmp_path / "run.part-2-of-4"
    assert cassettes_of(whole) == [tmp_path / "calls.sqlite"]
    assert cassettes_of(mine) == [tmp_path / "calls.part-2-of-4.sqlite"]
    # which cassette a part writes does not make it another evaluation
    for number in (1, 2):
        done("eval", recipe, "--part", f"{number}/2")
    parts = [tmp_path / f"run.part-{number}-of-2" for number in (1, 2)]
    assert "7 trajectories and 7 verdicts are new" in done("eval", "merge", tmp_path / "run", *parts, "--no-report")
    assert "nothing left to play" in done("eval", recipe, "--no-report")


def test_cassettes_of_parts_are_put_together(tmp_path: Path) -> None:
    from deepmmsearch.tools.cassette import Cassette

    for name in ("a", "b"):
        Cassette(tmp_path / f"{name}.sqlite").close()
    told = done("cache", "merge", tmp_path / "all.sqlite", tmp_path / "a.sqlite", tmp_path / "b.sqlite")
    assert told.count("New in") == 2 and (tmp_path / "all.sqlite").is_file()
