"""`deepmmsearch data` as users meet it: tables, counts, one sentence for what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from data_files import write_lines, write_picture

pytest.importorskip("pyarrow")

from deepmmsearch.cli import group
from deepmmsearch.data.reader import read_questions, read_trajectories
from deepmmsearch.errors import UnknownName, UserError

RECIPE = Path(__file__).parent.parent / "recipes/data/atlas.yaml"


def run(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(group, ["data", *map(str, words)], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_list_names_every_benchmark() -> None:
    output = run("list").output
    for name in ("infoseek", "evqa", "simplevqa", "dynvqa", "okvqa", "aokvqa", "fvqa-train", "fvqa-test", "mmsearch"):
        assert name in output
    listed = {row["name"]: row for row in map(json.loads, run("list", "--json").output.splitlines())}
    assert listed["okvqa"]["splits"] and listed["okvqa"]["problem"] is None and set(listed) >= {"infoseek", "mmsearch"}
    for name in ("livevqa", "ocrbench", "mmvet", "ai2d", "mathvista", "mmbench", "docvqa", "infovqa"):
        assert name in output


def test_show_and_stats_of_own_questions(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/a.jpg")
    rows = [
        {"question": "Who is [bold]this[/bold]?", "answers": ["Ada", "Lovelace"], "image": "a.jpg", "kind": "person"},
        {"question": "Why?", "answers": []},
    ]
    path = write_lines(tmp_path / "mine.jsonl", rows)
    shown = run("show", path).output
    assert "Who is [bold]this[/bold]?" in shown and "96 x 64" in shown and "Ada; Lovelace" in shown
    assert "2 rows read, 1 loaded, 1 left out." in shown and "1 x no answer: row 2" in shown
    counted = run("stats", path).output
    assert "kind: person" in counted and "accepted answers a question" in counted
    [row] = map(json.loads, run("show", path, "--json").output.splitlines())
    assert (row["question"], row["answers"]) == ("Who is [bold]this[/bold]?", ["Ada", "Lovelace"])
    assert row["images"] == [{"width": 96, "height": 64}] and row["metadata"]["kind"] == "person"
    found = json.loads(run("stats", path, "--json").output)
    assert (found["questions"], found["rows"], found["kinds"]) == (1, 2, {"person": 1})
    assert found["dropped"] == {"no answer": 1} and found["answers_each"] == 2


def test_unknown_names_are_explained(tmp_path: Path) -> None:
    for words, kind, text in (
        (("show", "infoseq"), UnknownName, "Did you mean 'infoseek'"),
        (("show", "infoseek"), UserError, "--path"),
        (("build", tmp_path / "none.yaml"), UserError, "no recipe"),
        (("convert", tmp_path, tmp_path / "x", "--to", "verl"), UserError, "holds no questions"),
    ):
        result = CliRunner().invoke(group, ["data", *map(str, words)])
        assert isinstance(result.exception, kind) and text in str(result.exception), words


def test_a_recipe_is_checked_before_anything_is_drawn(tmp_path: Path) -> None:
    for change, text in (
        ("taxonomy={by: model, promt: x}", "Did you mean 'taxonomy.prompt'"),
        ("search.by=rollouts", "Set rollout_policy"),
        ("judge.rule=best", "Unknown judge"),
        ("seeds.benchmark=okvqa", "give either worlds or benchmark"),
        ("balance.sise=3", "Did you mean 'balance.size'"),
        ("judge.kind=llm", "judge.rule belongs to kind rule, but this is kind llm"),
    ):
        result = CliRunner().invoke(group, ["data", "build", str(RECIPE), f"output={tmp_path / 'out'}", change])
        assert isinstance(result.exception, UserError) and text in str(result.exception), (change, result.exception)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.slow
def test_a_small_atlas_is_built_shown_and_converted(tmp_path: Path) -> None:
    small = ("seeds.worlds=1", "seeds.questions=40", "processes=1", "unique.against=[]", "balance.variants={}")
    output = run("build", RECIPE, f"output={tmp_path / 'out'}", "balance.search_share=null", *small).output
    assert "2-episodes" in output and "for training" in output
    dataset = tmp_path / "out/dataset"
    played = [*read_trajectories(dataset), *read_trajectories(dataset, "validation")]
    assert len(played) >= 36 and all(t.answer for t in played)
    kinds = {t.question.metadata["kind"] for t in played}
    assert {"look", "image_text"} <= kinds
    run("convert", dataset, tmp_path / "q.parquet", "--to", "verl")
    run("convert", dataset, tmp_path / "gpt/atlas.json", "--to", "sharegpt")
    assert len(list(read_questions(tmp_path / "q.parquet"))) == len(list(read_questions(dataset)))
    entries = json.loads((tmp_path / "gpt/atlas.json").read_text())
    assert all(entry["messages"][-1]["role"] == "assistant" and entry["images"] for entry in entries)


def test_every_benchmark_is_listed_with_its_source_and_licence() -> None:
    rows = {row["name"]: row for row in map(json.loads, run("list", "--json").output.splitlines())}
    assert {"mmsearch-plus", "browsecomp-vl", "visbrowse", "dynvqa-zh", "simplevqa-zh", "vdr-bench"} <= set(rows)
    assert all(row["source"].startswith("https://") and row["licence"] and row["splits"] for row in rows.values())
    encrypted = {name for name, row in rows.items() if row["encrypted"]}
    assert encrypted == {"mmsearch-plus", "visbrowse", "mm-browsecomp"}
    shown = run("list").output
    assert all(f" {name} " in shown for name in rows) and "(published" in shown
