"""No other experiment's results under this one's name: what `eval` refuses to add to, and what may join."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import done, run
from deepmmsearch.errors import UserError
from endpoints import Endpoint, endpoint, said

Row = dict[str, Any]
ROWS = [{"id": f"q{n}", "question": f"Which river is {n}?", "answers": ["Balor"]} for n in range(3)]


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    with endpoint(lambda body: said("<reason>I know.</reason><answer>Balor</answer>")) as served:
        yield served


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, server: Endpoint) -> tuple[Path, Row]:
    """An evaluation of a model behind an endpoint, and its recipe."""
    folder = tmp_path_factory.mktemp("played")
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    made: Row = {
        "output": str(folder / "run"),
        "policies": {"m": {"kind": "chat", "base_url": server.url, "model": "vlm"}},
        "benchmarks": [{"name": str(folder / "mine.jsonl"), "label": "mine", "sample": 2}],
        "workflows": {"direct": {"kind": "direct"}},
        "judges": {"reward": {"rule": "reward"}},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "key")
        assert "direct: 2 played, 100% right" in done("eval", written(folder, made))
    return folder, made


@pytest.fixture
def recipe(tmp_path: Path, played: tuple[Path, Row], monkeypatch: pytest.MonkeyPatch) -> Row:
    """Of a copy of the evaluation."""
    folder, made = played
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    shutil.copytree(folder / "run", tmp_path / "run")
    return changed(made, "output", str(tmp_path / "run"))


def written(folder: Path, recipe: Row) -> Path:
    path = folder / "eval.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def again(folder: Path, recipe: Row, *options: str) -> str:
    return done("eval", written(folder, recipe), "--no-report", *options)


def refusal(folder: Path, recipe: Row) -> str:
    error = run("eval", written(folder, recipe)).exception
    assert isinstance(error, UserError), repr(error)
    return str(error)


def changed(recipe: Row, place: str, value: Any) -> Row:
    copy: Row = json.loads(json.dumps(recipe))
    *folders, last = place.split(".")
    inner: Any = copy
    for name in folders:
        inner = inner[int(name) if name.isdigit() else name]
    inner[last] = value
    return copy


OTHERS = {
    "policies.m.model": ("other", "policies.m.model: vlm -> other"),
    "policies.m.base_url": ("http://127.0.0.1:9/v1", "/v1 -> http://127.0.0.1:9/v1"),
    "policies.m.temperature": (0.7, "policies.m.temperature: 0.0 -> 0.7"),
    "policies.m.seed": (3, "policies.m.seed: 0 -> 3"),
    "policies.m.max_new_tokens": (9, "policies.m.max_new_tokens: 1024 -> 9"),
    "policies.m.timeout": (9.0, "policies.m.timeout: 120.0 -> 9.0"),
    "policies.m": ({"kind": "local"}, "policies.m.kind: chat -> local"),
    "timeout": (5.0, "timeout: null -> 5.0"),
    "workflows.direct.limits": ({"tokens": 5}, "workflows.direct.limits.tokens: 8192 -> 5"),
    "workflows.direct.prompt": ("rag", "workflows.direct.prompt: direct -> rag"),
    "benchmarks.0.sample": (1, "benchmarks.mine.sample: 2 -> 1"),
    "benchmarks.0.seed": (4, "benchmarks.mine.seed: 0 -> 4"),
    "judges.reward.rule": ("exact", "judges.reward.rule: reward -> exact"),
}


@pytest.mark.parametrize("place", OTHERS)
def test_another_experiment_is_refused_with_what_differs(
    recipe: Row, server: Endpoint, tmp_path: Path, place: str
) -> None:
    value, named = OTHERS[place]
    before, asked = contents(tmp_path / "run"), len(server.asked)
    error = refusal(tmp_path, changed(recipe, place, value))
    assert named in error and "Choose another output, or remove it" in error and "\n" not in error
    assert contents(tmp_path / "run") == before and len(server.asked) == asked
    assert "direct: nothing left to play" in again(tmp_path, recipe)


def test_the_only_model_of_an_endpoint_is_told_by_its_name(recipe: Row, server: Endpoint, tmp_path: Path) -> None:
    recipe = changed(changed(recipe, "policies.m.model", None), "output", str(tmp_path / "served"))
    again(tmp_path, recipe)
    server.models[:] = ["other"]
    try:
        assert "policies.m.model: the endpoint's only model with another content" in refusal(tmp_path, recipe)
    finally:
        server.models[:] = ["vlm"]
    assert "nothing left to play" in again(tmp_path, recipe)


def test_corrected_answers_are_other_questions(recipe: Row, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    recipe = changed(changed(recipe, "benchmarks.0.name", str(file)), "output", str(tmp_path / "corrected"))
    again(tmp_path, recipe)
    file.write_text(file.read_text().replace("Balor", "Tanmir"))
    assert "benchmarks.mine.questions: 2 questions with another content" in refusal(tmp_path, recipe)


def test_another_model_at_the_same_place_is_another_policy(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.checkpoints import tiny_checkpoint

    model = tiny_checkpoint(tmp_path / "model", prompt="atlas", max_new_tokens=4)
    (tmp_path / "mine.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    made: Row = {
        "output": str(tmp_path / "run"),
        "policies": {"m": {"model": str(model)}},
        "benchmarks": [{"name": str(tmp_path / "mine.jsonl"), "label": "mine"}],
        "workflows": {"direct": {"kind": "direct"}},
    }
    again(tmp_path, made)
    shutil.copytree(model, tmp_path / "moved")
    assert "nothing left" in again(tmp_path, changed(made, "policies.m.model", str(tmp_path / "moved")))
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    assert "policies.m.model: " in refusal(tmp_path, made)


SAME = {
    "concurrency": 2,
    "pictures": 0,
    "stop_after_errors": 3,
    "policies.m.key_variable": "OTHER_KEY",
    "benchmarks.0.out_of_domain": True,
    "workflows.direct.change": "in other words",
}


@pytest.mark.parametrize("place", SAME)
def test_what_cannot_change_a_result_may_differ(
    recipe: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("OTHER_KEY", "key")
    monkeypatch.setenv("DEEPMMSEARCH_CONFIG", str(tmp_path / "config.toml"))
    done("config", "set", "variables", "OTHER_KEY")
    assert "nothing left to play" in again(tmp_path, changed(recipe, place, SAME[place]))


def test_judges_workflows_benchmarks_and_pages_may_join(recipe: Row, server: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text(json.dumps(ROWS[2]) + "\n")
    more = changed(recipe, "judges.exact", {"rule": "exact"})
    more = changed(more, "workflows.twice", {"kind": "direct", "limits": {"tokens": 9}})
    more["benchmarks"].append({"name": str(tmp_path / "more.jsonl"), "label": "more"})
    asked = len(server.asked)
    output = again(tmp_path, more)
    assert "mine: direct: nothing left to play" in output and "more: twice: 1 played" in output
    assert len(server.asked) - asked == 4
    verdicts = [json.loads(line) for line in (tmp_path / "run" / "verdicts.jsonl").read_text().splitlines()]
    assert {row["judge"] for row in verdicts if row["id"].startswith("mine/direct/")} == {"reward", "exact"}
    # the first recipe again: what joined stays, and its pages are written anew
    done("eval", written(tmp_path, recipe))
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert set(described["workflows"]) == {"direct", "twice"} and set(described["benchmarks"]) == {"mine", "more"}


def test_a_timeout_may_differ_where_what_failed_is_played_again(recipe: Row, tmp_path: Path) -> None:
    patient = changed(recipe, "timeout", 60.0)
    assert "nothing left to play" in again(tmp_path, patient, "--retry-errors")
    assert "timeout: 60.0 -> null" in refusal(tmp_path, recipe)


def test_an_evaluation_of_an_earlier_version_is_refused_and_can_still_be_read(recipe: Row, tmp_path: Path) -> None:
    (tmp_path / "run" / "output.json").unlink()
    assert "An earlier version of deepmmsearch made" in refusal(tmp_path, recipe)
    assert "report.html" in done("report", tmp_path / "run")


def test_a_report_replaces_no_file_of_the_users(recipe: Row, tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("mine")
    error = run("report", tmp_path / "run", "--out", tmp_path).exception
    assert isinstance(error, UserError) and "report.md is in it" in str(error)
    assert (tmp_path / "report.md").read_text() == "mine" and not (tmp_path / "report.html").exists()
    for _ in range(2):
        done("report", tmp_path / "run", "--out", tmp_path / "page")
    assert (tmp_path / "page" / "report.html").is_file()


def test_files_of_the_users_stay_or_stop_the_command(recipe: Row, tmp_path: Path) -> None:
    (tmp_path / "run" / "notes.txt").write_text("mine")
    again(tmp_path, recipe)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.html").write_text("mine")
    assert "report.html is in it" in refusal(tmp_path, changed(recipe, "output", str(tmp_path / "other")))
    assert contents(tmp_path / "other") == {"report.html": b"mine"}


def test_other_limits_and_switches_are_another_workflow(tmp_path: Path, worlds: Path) -> None:
    pytest.importorskip("tantivy")
    made: Row = {
        "output": str(tmp_path / "run"),
        "worlds": str(worlds),
        "benchmarks": [{"name": "atlas", "seed": 5, "sample": 6}],
        "workflows": {"oracle": {"kind": "oracle"}},
    }
    again(tmp_path, made)
    for place, value, named in (
        ("workflows.oracle.limits", {"calls": 1}, "workflows.oracle.limits.calls: 10 -> 1"),
        ("workflows.oracle.crop", False, "workflows.oracle.crop: true -> false"),
    ):
        assert named in refusal(tmp_path, changed(made, place, value))
    assert "benchmarks.atlas.seed: 5 -> 77" in refusal(tmp_path, changed(made, "benchmarks.0.seed", 77))
    assert not list(worlds.glob("eval-77-*")), "no world is made for a run that is refused"
    assert "nothing left" in again(tmp_path, made)
