"""A recipe is checked by building it: all that is missing in one list, at once, and about what it takes."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from commands import run
from deepmmsearch.compose.check import check_recipe
from deepmmsearch.compose.other_programs import other_program
from deepmmsearch.compose.plan import RunPlan
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.compose.recipe_kinds import kind_of
from deepmmsearch.compose.shipped import shipped_recipes
from deepmmsearch.errors import UserError
from deepmmsearch.strict_yaml import read_yaml

for module in ("torch", "trl", "peft", "pyarrow", "imagehash", "datasets", "tantivy", "cv2", "openai", "httpx2"):
    pytest.importorskip(module)

ROOT = Path(__file__).parent.parent
ROWS = {name: read_yaml(path.read_text(encoding="utf-8")) for name, path in shipped_recipes().items()}
NAMES = [name for name, row in ROWS.items() if other_program(row) is None]
# what a machine may lack: inputs, keys, extras, a GPU, room
LACKING = re.compile(
    r" is not there\. |^No key for |needs the extra ddgs|needs a package that no extra|is not on this machine|"
    r"does not have: |^The disk of "
)


@pytest.fixture(autouse=True)
def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERPER", "SERPAPI", "BRAVE", "TAVILY", "EXA", "JINA", "OPENAI"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, but for what a clone has."""
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(name: str, *overrides: str, **given: Any) -> RunPlan:
    path = shipped_recipes()[name]
    return check_recipe(load_recipe(path, kind_of(ROWS[name], name).model, overrides), **given)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_recipe_is_built(name: str, here: Path) -> None:
    plan = checked(name)
    assert not [text for text in plan.missing if not LACKING.search(text)], plan.missing
    assert plan.work or "runs/" in plan.missing[0], "nothing is known of what data will be there"
    assert plan.assumed.texts and all(work.questions > 0 for work in plan.work)
    assert [path.name for path in here.iterdir()] == ["checkpoints"], "a check writes nothing"


def test_a_clone_runs_what_needs_no_key(here: Path) -> None:
    for name in ("eval/atlas", "data/atlas", "atlas/grpo", "atlas/base", "tools/searxng", "tools/retrieve"):
        assert checked(name).missing == []
    [only] = checked("atlas/sft").missing
    assert only.endswith("Make it with: deepmmsearch atlas teach --out runs/atlas/teacher --worlds 24.")


def test_a_provider_of_words_for_pictures_is_found_at_once(here: Path) -> None:
    missing = checked("data/infoseek", "teacher.tools.image=[serper]").missing
    assert any("The provider serper does not do that. Name it under text:" in text for text in missing), missing


def test_everything_that_is_missing_is_in_one_list(here: Path) -> None:
    (here / "model").mkdir()
    (here / "model/config.json").write_text("{")
    missing = checked(
        "eval/paper",
        "policies.qwen={kind: local, model: ./model}",
        "policies.trained.base_url=no-address",
        "judges.llm.base_url=null",
        "benchmarks.2.split=trian",
        "workflows.qwen agent.prompt=nowhere",
        "tools.reader=jina-reeder",
        "tools.grounding=dino",
    ).missing
    for part in (
        "infoseek_data is not there. Get InfoSeek's JSON lines from https://",
        "model/config.json cannot be read",
        "no-address",
        "No key for https://api.openai.com/v1",
        "simplevqa has no split 'trian'",
        "'nowhere'",
        "Unknown reader 'jina-reeder'. Did you mean 'jina-reader'",
        "No key for serper.",
        "No key for serpapi-lens.",
    ):
        assert sum(part in text for text in missing) == 1, (part, missing)


def test_wrong_settings_are_told_together(here: Path) -> None:
    error = str(run("check", "eval/atlas", "concurency=1", "pictures=-1", "judges.reward.kind=rulle").exception)
    assert error.startswith("3 things have to be put right:\n- ")
    for part in ("Did you mean 'concurrency'", "pictures: Input should be greater", "Did you mean 'rule'"):
        assert part in error


def test_the_command_tells_kinds_apart_and_exits_with_2(here: Path) -> None:
    ready = run("check", "eval/atlas", "benchmarks.0.sample=50")
    assert ready.exit_code == 0 and "Nothing is missing." in ready.output and "(eval)" in ready.output
    lacking = run("check", "atlas/sft")
    assert lacking.exit_code == 2 and "Missing (1)\n1. runs/atlas/teacher is not there." in lacking.output
    told = json.loads(run("check", "data/infoseek", "--json").output)
    assert len(told["missing"]) >= 3 and told["money"] > 1000 and "runs/data/infoseek/dataset" in told["makes"]
    for words, text in (
        (("check", "eval/atlas", "benchmarks.0.sampel=5"), "Did you mean 'benchmarks.0.sample'"),
        (("check", "accelerate/fsdp2_8"), "configuration of accelerate"),
        (("check", "eval/atals"), "Did you mean 'eval/atlas'"),
    ):
        result = run(*words)
        assert isinstance(result.exception, UserError) and text in str(result.exception)


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "eval/atlas", "benchmarks.0.sample=50"),
        ("data", "build", "data/atlas", "seeds.worlds=1"),
        ("pretrain", "atlas/base"),
        ("grpo", "atlas/grpo"),
        ("reproduce", "eval", "--questions", "5"),
        ("reproduce", "train", "--seeds", "1"),
        ("reproduce", "tools", "--train", "--questions", "5"),
    ],
    ids=lambda command: command[0] + command[1],
)
def test_a_dry_run_only_tells(command: tuple[str, ...], here: Path) -> None:
    result = run(*command, "--dry-run")
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert "Nothing is missing." in result.output and "Makes\n- " in result.output and "About " in result.output
    assert [path.name for path in here.iterdir()] == ["checkpoints"]


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (("eval", "eval/paper"), ("infoseek_data is not there", "No key for serper.")),
        (("data", "build", "data/infoseek"), ("infoseek_data is not there", "No key for serpapi-lens.")),
        (("sft", "atlas/sft", "model=./none"), ("runs/atlas/teacher is not there", "Unknown model folder './none'")),
        (("grpo", "paper/grpo_mmsearch_r1"), ("runs/paper/fvqa_train is not there", "No key for serper.")),
        (("reproduce", "train", "trl.max_stps=1"), ("Did you mean 'max_steps'",)),
    ],
    ids=lambda value: value[0],
)
def test_a_run_begins_only_when_nothing_is_missing(
    command: tuple[str, ...], parts: tuple[str, ...], here: Path
) -> None:
    result = run(*command)
    assert isinstance(result.exception, UserError), result.exception
    assert all(part in str(result.exception) for part in parts)
    assert [path.name for path in here.iterdir()] == ["checkpoints"]


def test_a_recipe_of_a_harness_is_checked(here: Path) -> None:
    policy = "policy: {kind: chat, model: m, base_url: 'https://x.org/v1'}"
    Path("mine.yaml").write_text(f"{policy}\ntools: {{text: [serper]}}\n")
    result = run("check", "mine.yaml")
    assert result.exit_code == 2 and "(harness)" in result.output and "No key for serper." in result.output


def test_only_what_is_played_is_checked(here: Path) -> None:
    chosen = checked("eval/paper", only=["qwen direct"], benchmarks=["simplevqa"])
    assert chosen.missing == [] and [work.name for work in chosen.work] == ["qwen direct", "judge llm"]


def test_a_guess_at_a_models_size_asks_for_no_room(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**10, 0, 10**10))
    assert any("The disk" in line for line in checked("atlas/grpo", "model=somebody/named-7B").missing)
    assert not any("The disk" in line for line in checked("atlas/grpo", "model=somebody/nameless").missing)


def test_the_disk_and_the_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**9, 10**9, 1000))
    [full] = checked("eval/atlas").missing
    assert re.match(r"The disk of .* has 0\.0 MB left, and about .* are needed\. Make room", full)
    (here / "runs/eval/atlas").mkdir(parents=True)
    with (here / "runs/eval/atlas/written").open("wb") as file:
        file.truncate(10**12)
    assert not any("The disk" in line for line in checked("eval/atlas").missing)
    shutil.rmtree(here / "runs")
    monkeypatch.undo()
    monkeypatch.chdir(here)
    (here / "runs").write_text("")
    assert checked("eval/atlas", "output=runs").missing == ["runs is a file. Give a folder."]
    (here / "runs").unlink()
    monkeypatch.setattr("os.access", lambda place, mode: False)
    [closed] = checked("eval/atlas").missing
    assert "cannot be written" in closed


def test_the_estimate_follows_from_the_recipe(here: Path) -> None:
    given = ["benchmarks=[{name: simplevqa, sample: 100}]", "judges={exact: {rule: exact}}"]
    work = {w.name: w for w in checked("eval/paper", *given).work}
    direct, rag, agent = work["qwen direct"], work["qwen rag"], work["qwen agent"]
    assert (direct.questions, direct.turns, direct.calls, direct.money) == (100, 100, {}, 0)
    assert (rag.turns, rag.calls) == (200, {"image": 100, "text": 100, "pages": 500})
    assert rag.money == pytest.approx(100 * (0.001 + 0.025)) and agent.money > rag.money
    assert work["single text search"].calls["text"] == 100 and "image" not in work["no image search"].calls
    dear = {w.name: w for w in checked("eval/paper", *given, "tools.prices={serper: 1.0}").work}
    assert dear["qwen rag"].money == pytest.approx(100 * 1.025)
    few = checked("eval/paper", *given, "workflows.qwen agent.limits={calls: 1, image_searches: 0}").work[2]
    assert (few.turns, few.calls["text"]) == (200, 100)
    assert "runs/atlas/on-built/merged has about 7,000 million parameters." in checked("eval/data").assumed.texts
    given += ["tools.extra=[visit, {name: python, limit: 3}]", "tools.prices={python: 2.0, mcp_sky: 1.0}"]
    given += ["tools.mcp=[{name: sky, url: 'http://127.0.0.1:9', tools: [forecast]}]"]
    more = {w.name: w for w in checked("eval/paper", *given).work}["qwen agent"]
    assert {name: more.calls[name] for name in ("visit", "python", "mcp_sky")} == dict.fromkeys(
        ("visit", "python", "mcp_sky"), 50
    )
    assert more.turns == agent.turns + 150 and more.calls["pages"] == agent.calls["pages"] + 50
    assert more.money == pytest.approx(agent.money + 50 * (2.0 + 1.0))
    rollouts, updates = checked("atlas/grpo").work
    assert rollouts.questions == updates.questions == 60 * 64


def test_the_network_is_asked_only_when_told(here: Path) -> None:
    down = ["policies={m: {kind: chat, base_url: 'http://127.0.0.1:9/v1'}}", "workflows={a: {kind: direct}}"]
    assert checked("eval/general", *down, "benchmarks=[{name: atlas}]").missing == []
    [said] = checked("eval/general", *down, "benchmarks=[{name: atlas}]", network=True).missing
    assert "127.0.0.1:9" in said
    searxng = ["text.0.url=http://127.0.0.1:9"]
    assert checked("tools/searxng", *searxng).missing == []
    [said] = checked("tools/searxng", *searxng, network=True).missing
    assert said.startswith("The text search does not work")


def test_what_is_on_the_hub_is_told_of(here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    model = "policies.bundled.model=Qwen/Qwen2.5-VL-7B-Instruct"
    told = checked("eval/atlas", model)
    assert told.missing == [] and "Qwen/Qwen2.5-VL-7B-Instruct is fetched from the Hub" in told.notes[0]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "and HF_HUB_OFFLINE is set" in checked("eval/atlas", model).missing[0]
