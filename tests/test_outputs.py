from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict, Field

from deepmmsearch.errors import UserError
from deepmmsearch.outputs import FILE, Output, content, digest_of
from deepmmsearch.settings import Aside, Settings, decisive


class Sampler(Settings):
    model_config = ConfigDict(extra="allow")
    temperature: float = 0.0
    batch: Aside[int] = Field(default=64, ge=1)


class Recipe(Settings):
    output: Aside[Path]
    seed: int = 0
    sampler: Sampler = Sampler()
    many: dict[str, Sampler] = Field(default_factory=dict)
    data: tuple[Path, ...] = ()


def test_what_is_aside_does_not_count_however_deep_it_stands() -> None:
    recipe = Recipe(output=Path("a"), sampler=Sampler(batch=2, top_p=0.5), many={"m": Sampler(temperature=1)})  # type: ignore[call-arg]
    assert decisive(recipe) == {
        "seed": 0,
        "sampler": {"temperature": 0.0, "top_p": 0.5},
        "many": {"m": {"temperature": 1}},
        "data": [],
    }


def claim(folder: Path, settings: dict[str, Any], parts: dict[str, Any] | None = None, **more: Any) -> bool:
    return Output(folder, "sft").claim(settings, parts, **more)


def refusal(folder: Path, settings: dict[str, Any], parts: dict[str, Any] | None = None) -> str:
    with pytest.raises(UserError) as error:
        claim(folder, settings, parts)
    return str(error.value)


def test_the_same_settings_go_on_and_others_are_named(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = {"seed": 0, "lora": {"r": 8, "targets": None}, "model": content("base", "a1"), "data": ["x"]}
    assert claim(out, settings) is claim(out, settings) is False
    changed = {"seed": 1, "lora": {"r": 4, "targets": None}, "model": content("other", "b2"), "data": ["x", "y"]}
    said = refusal(out, changed)
    for part in ("seed: 0 -> 1", "lora.r: 8 -> 4", "model: base -> other", 'data: ["x"] -> ["x", "y"]'):
        assert part in said
    assert str(out) in said and "Choose another output, or remove it" in said and "targets" not in said
    assert "model: base with another content" in refusal(out, {**settings, "model": content("base", "b2")})
    assert "lora.r: 8 -> not set" in refusal(out, {**settings, "lora": None})
    assert claim(out, {**settings, "model": content("moved/base", "a1")}) is False


def test_what_is_finished_stays_so(tmp_path: Path) -> None:
    output = Output(tmp_path / "run", "sft")
    assert output.claim({"seed": 0}) is False
    output.finish()
    before = (tmp_path / "run" / FILE).read_bytes()
    assert Output(tmp_path / "run", "sft").claim({"seed": 0}) is True
    assert (tmp_path / "run" / FILE).read_bytes() == before
    assert "seed: 0 -> 1" in refusal(tmp_path / "run", {"seed": 1})


def test_parts_join_and_keep_their_settings(tmp_path: Path) -> None:
    out = tmp_path / "run"
    claim(out, {}, {"workflows.agent": {"calls": 10, "crop": True}})
    claim(out, {}, {"workflows.direct": {"calls": 0}})
    assert "workflows.agent.calls: 10 -> 4" in refusal(out, {}, {"workflows.agent": {"calls": 4, "crop": True}})
    assert set(json.loads((out / FILE).read_text())["parts"]) == {"workflows.agent", "workflows.direct"}
    assert "workflows.direct.calls: 0 -> null" in refusal(out, {}, {"workflows.direct": {"calls": None}})


def test_runs_that_start_side_by_side_lose_no_part(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: claim(out, {}, {f"workflows.{n}": {"n": n}}), range(16)))
    assert len(json.loads((out / FILE).read_text())["parts"]) == 16


def test_what_may_differ_is_named_by_who_asks(tmp_path: Path) -> None:
    out = tmp_path / "run"
    claim(out, {"timeout": 5}, {"policies.m": {"timeout": 60.0, "seed": 0}})
    assert "timeout: 5 -> 9" in refusal(out, {"timeout": 9})
    claim(out, {"timeout": 9}, {"policies.m": {"timeout": 90.0, "seed": 0}}, spare=["timeout"])
    assert json.loads((out / FILE).read_text())["parts"]["policies.m"]["timeout"] == 90.0


def test_a_setting_of_a_newer_version_is_as_if_it_had_been_off(tmp_path: Path) -> None:
    out = tmp_path / "run"
    claim(out, {"seed": 0, "gone": None})
    claim(out, {"seed": 0, "new": False, "section": {"most": None, "names": []}})
    assert "new: false -> true" in refusal(out, {"seed": 0, "new": True})
    assert "newest: not set -> 3" in refusal(out, {"seed": 0, "newest": 3})


def test_a_model_that_was_not_there_yet_is_told_by_its_name(tmp_path: Path) -> None:
    out = tmp_path / "run"
    claim(out, {"model": content("Qwen/Qwen2.5-VL-7B-Instruct", "")})
    claim(out, {"model": content("Qwen/Qwen2.5-VL-7B-Instruct", "abc")})
    assert "with another content" in refusal(out, {"model": content("Qwen/Qwen2.5-VL-7B-Instruct", "abd")})


def test_what_others_put_into_a_folder_stops_the_command_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("may be there already")
    Output(tmp_path, "sft")
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match=r"did not make it \(letter\.txt is in it\)"):
        Output(tmp_path, "sft")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["letter.txt", "run.log"]
    with pytest.raises(UserError, match="is a file"):
        Output(tmp_path / "letter.txt", "sft")
    claim(tmp_path / "mine", {})
    with pytest.raises(UserError, match="was made by `deepmmsearch sft`, not by `deepmmsearch eval`"):
        Output(tmp_path / "mine", "eval")
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    claim(tmp_path / "mine", {})


@pytest.mark.parametrize("name", ["run.json", "recipe.json", "lessons.json", "demo.json", "1-seeds"])
def test_a_folder_of_an_earlier_version_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match="An earlier version of deepmmsearch made"):
        Output(tmp_path, "sft")


def test_a_damaged_mark_and_one_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    claim(tmp_path, {})
    mark = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**mark, "version": 99}))
    with pytest.raises(UserError, match="A newer version"):
        Output(tmp_path, "sft")
    for damaged in ("{", "[]", "{}"):
        (tmp_path / FILE).write_text(damaged)
        with pytest.raises(UserError, match="cannot be read"):
            Output(tmp_path, "sft")


def test_one_run_at_a_time(tmp_path: Path) -> None:
    output = Output(tmp_path, "data build")
    with output.alone():
        output.claim({"seed": 0})
        with pytest.raises(UserError, match="Another run is at work"), Output(tmp_path, "data build").alone():
            pass
    with Output(tmp_path, "data build").alone():
        pass


def test_parts_of_a_digest_are_told_apart() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc") and digest_of("a") == digest_of(b"a")


def test_what_is_known_first_can_be_refused_first(tmp_path: Path) -> None:
    out = tmp_path / "run"
    output = Output(out, "sft")
    output.expect({"seed": 1}, {})
    assert not out.exists(), "nothing is taken"
    output.claim({"seed": 0, "data": content("9 rows", "a1")}, {"workflows.agent": {"calls": 3, "texts": "x"}})
    output.expect({"seed": 0}, {"workflows.agent": {"calls": 3}, "workflows.new": {"calls": 9}})
    with pytest.raises(UserError, match=r"\(seed: 0 -> 1; workflows\.agent\.calls: 3 -> 4\)"):
        output.expect({"seed": 1}, {"workflows.agent": {"calls": 4}})


def test_where_a_command_makes_but_a_few_files_only_those_count(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    Output(tmp_path, "report", makes=["report.html"]).claim({})
    Output(tmp_path, "report", makes=["report.html"]).claim({})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.html").write_text("mine")
    with pytest.raises(UserError, match=r"report\.html is in it"):
        Output(tmp_path / "other", "report", makes=["report.html"])
