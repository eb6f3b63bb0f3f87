"""A data build in parts, on machines that share nothing or on workers that are lost, equals the whole one."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("pyarrow")
pytest.importorskip("imagehash")
pytest.importorskip("matplotlib")

from commands import done, run
from data_players import write_seeds
from deepmmsearch.compose.cassettes import cassettes_of
from deepmmsearch.compose.data_build import DataRecipe, build_of, composed, run_build
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.data.pipeline import ShardStages, taken
from deepmmsearch.data.records import read_rows
from deepmmsearch.data.stages import STAGES, Stage
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.outputs import RunPart
from deepmmsearch.progress import silent
from deepmmsearch.scale.build_jobs import BuildJob, build_on_workers
from deepmmsearch.store import TrajectoryStore
from endpoints import Endpoint, endpoint, error, said
from part_runs import Threads, three_losses

QUESTIONS, SHARD = 11, 2
SHARDS = [f"part-{n:05d}" for n in range(6)]


def reply(body: dict[str, Any]) -> Any:
    wrong = "number 4" in json.dumps(body) or "number 9" in json.dumps(body)
    return said(f"<reason>I know.</reason><answer>{'Bo' if wrong else 'Ada'}</answer>")


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint(reply) as served:
        yield served


@pytest.fixture
def file(tmp_path: Path, server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    rows = [{"question": f"Who made number {n}?", "answers": ["Ada"], "category": "Arts"} for n in range(QUESTIONS)]
    # a duplicate that lies in another shard
    seeds = write_seeds(tmp_path / "seeds", [*rows, {**rows[0], "picture": 0}])
    made: dict[str, Any] = {
        "output": str(tmp_path / "run"),
        "seeds": {"benchmark": str(seeds), "shard": SHARD},
        "teacher": {
            "policy": {"kind": "chat", "base_url": server.url, "model": "vlm"},
            "tools": {"kind": "none"},
        },
        "judge": {"rule": "exact"},
        "episodes": {"concurrency": 1},
        "tries": {"attempts": 1},
        "balance": {"search_share": None},
        "splits": {"validation": 0.25},
    }
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump(made))
    return path


@pytest.fixture
def recipe(file: Path) -> DataRecipe:
    loaded: DataRecipe = load_recipe(file, DataRecipe)
    return loaded


def told(folder: Path) -> dict[str, Any]:
    """Every file of the data set with its rows in order, and of each stage what stayed and why the rest did not."""
    card = json.loads((folder / "dataset/card.json").read_text())
    stages = {s["stage"]: (s["rows"], s["kept"], s["dropped"]) for s in card["stages"]}
    files = sorted((folder / "dataset").glob("*.parquet"))
    rows = {path.name: [_plain(row) for row in read_rows(path)] for path in files}
    assert len(rows) == 2
    return {"stages": stages, "contents": card["contents"], "key": card["key"], **rows}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Without how long a call took."""
    trajectory = json.loads(row["trajectory"])
    turns = [(turn["action"], turn["completion"]["text"]) for turn in trajectory["turns"]]
    return {**row, "trajectory": turns}


def asked(server: Endpoint) -> Counter[int]:
    """How often each question was asked."""
    bodies = [json.dumps(body) for body in server.asked]
    return Counter(n for n in range(QUESTIONS) for body in bodies if f"number {n}?" in body)


def shards_in(folder: Path) -> list[str]:
    return Stage(folder / STAGES[4]).parts()


def test_parts_put_together_are_the_whole(file: Path, tmp_path: Path, server: Endpoint) -> None:
    done("data", "build", file)
    whole = told(tmp_path / "run")
    server.asked.clear()
    for number in (1, 2, 3, 4):
        done("data", "build", file, "--part", f"{number}/4", f"output={tmp_path / 'other'}")
    parts = [tmp_path / f"other.part-{number}-of-4" for number in (1, 2, 3, 4)]
    assert [shards_in(part) for part in parts] == [SHARDS[0::4], SHARDS[1::4], SHARDS[2::4], SHARDS[3::4]]
    assert not any((part / "dataset").exists() for part in parts)
    assert sum(asked(server).values()) == QUESTIONS + 1
    merged = tmp_path / "merged"
    output = done("data", "merge", merged, parts[0], parts[2])
    assert "3 shards are new" in output and not (merged / "dataset").exists()
    assert f"3 shards are finished in none of the parts, so there is no data set yet: {SHARDS[1]}, " in output
    output = done("data", "merge", merged, *parts)
    assert "3 shards are new" in output and "rows for training" in output
    assert told(merged) == whole
    assert "0 shards are new" in done("data", "merge", merged, *parts)
    # and it is a build like any other: nothing is left to ask, and what is cheap takes effect
    server.asked.clear()
    done("data", "build", file, f"output={merged}", "splits.validation=0.5")
    assert not server.asked
    assert told(merged)["contents"]["validation"]["rows"] > whole["contents"]["validation"]["rows"]


@pytest.mark.slow
def test_parts_of_an_atlas_bring_their_worlds(tmp_path: Path) -> None:
    made = {
        "output": str(tmp_path / "run"),
        "seeds": {"worlds": 2, "questions": 4},
        "teacher": {"policy": {"kind": "oracle"}, "gold_boxes": True},
        "balance": {"search_share": None},
        "splits": {"validation": 0.25},
        "unique": {"bits": 0},
    }
    path = tmp_path / "atlas.yaml"
    path.write_text(yaml.safe_dump(made))
    for number in (1, 2):
        done("data", "build", path, "--part", f"{number}/2")
    done("data", "merge", tmp_path / "run", *(tmp_path / f"run.part-{number}-of-2" for number in (1, 2)))
    worlds = sorted((tmp_path / "run/worlds").iterdir())
    assert [world.name for world in worlds] == ["world-0", "world-1"]
    assert all((world / "index/meta.json").is_file() for world in worlds)
    assert json.loads((tmp_path / "run/dataset/card.json").read_text())["stages"][0]["rows"] == 8


def test_parts_of_different_recipes_are_not_put_together(file: Path, tmp_path: Path) -> None:
    for number, change in ((1, "teacher.policy.temperature=0.0"), (2, "teacher.policy.temperature=0.5")):
        done("data", "build", file, "--part", f"{number}/2", change)
    parts = [tmp_path / f"run.part-{number}-of-2" for number in (1, 2)]
    problem = run("data", "merge", tmp_path / "merged", *parts).exception
    assert isinstance(problem, UserError) and "2-episodes.teacher.policy.temperature: 0.0 -> 0.5" in str(problem)
    assert not (tmp_path / "merged").exists()
    for nothing in (tmp_path / "nowhere", tmp_path / "seeds"):
        problem = run("data", "merge", tmp_path / "merged", nothing).exception
        assert isinstance(problem, UserError) and not (tmp_path / "merged").exists()
    done("data", "merge", tmp_path / "merged", parts[0])
    problem = run("data", "merge", tmp_path / "merged", parts[1]).exception
    assert isinstance(problem, UserError) and "was made with other settings" in str(problem)


def test_links_are_not_followed_out_of_a_part(file: Path, tmp_path: Path) -> None:
    done("data", "build", file, "--part", "1/2")
    part = tmp_path / "run.part-1-of-2"
    rows = Stage(part / STAGES[1]).rows_file(SHARDS[0])
    secret = tmp_path / "secret"
    rows.rename(secret)
    rows.symlink_to(secret)
    problem = run("data", "merge", tmp_path / "merged", part).exception
    assert isinstance(problem, UserError) and "is a link" in str(problem)


def test_parts_write_into_no_file_of_another(file: Path, tmp_path: Path) -> None:
    made = yaml.safe_load(file.read_text())
    recorder = {"mode": "cache", "cassette": str(tmp_path / "calls.sqlite")}
    made["teacher"]["tools"] = {"text": [{"name": "searxng", "url": "http://127.0.0.1:9"}], "recorder": recorder}
    file.write_text(yaml.safe_dump(made))
    whole = load_recipe(file, DataRecipe)
    mine = build_of(whole, RunPart(2, 4))
    assert mine.output == tmp_path / "run.part-2-of-4"
    assert cassettes_of(whole) == [tmp_path / "calls.sqlite"]
    assert cassettes_of(mine) == [tmp_path / "calls.part-2-of-4.sqlite"]
    for number in (1, 2):
        done("data", "build", file, "--part", f"{number}/2")
    # which cassette a part writes does not make it another build
    done("data", "merge", tmp_path / "run", tmp_path / "run.part-1-of-2")
    done("data", "merge", tmp_path / "run", tmp_path / "run.part-2-of-2")


def test_workers_that_are_lost_change_nothing(recipe: DataRecipe, tmp_path: Path, server: Endpoint) -> None:
    run_build(recipe.model_copy(update={"output": tmp_path / "whole"}))
    server.asked.clear()

    lines: list[str] = []
    workers = Threads(three_losses(recipe.output))
    build_on_workers(recipe, workers, 2, watch=lambda line: lines.append(str(line)))
    assert told(recipe.output) == told(tmp_path / "whole")
    # six shards are six parts, of the eight that two workers get
    assert sorted(workers.played) == sorted([*range(1, 7), 2, 2, 5])
    assert workers.most == 2
    assert lines.count("Part 2/8 lost its worker and goes to another: node 10.0.0.7 is gone") == 2
    assert "Parts played: 6 of 6, 6 of 6 shards" in lines
    # only what went with a disk was asked again: two shards' worth of questions
    assert sum(asked(server).values()) == QUESTIONS + 1 + 2 * SHARD
    server.asked.clear()
    build_on_workers(recipe, Threads(), 2)
    assert not server.asked and told(recipe.output) == told(tmp_path / "whole")


def test_what_came_home_is_not_paid_for_again(recipe: DataRecipe, tmp_path: Path) -> None:
    down = {"from": 7}
    count = Counter[str]()

    def flaky(body: dict[str, Any]) -> Any:
        count["asked"] += 1
        return error("overloaded") if count["asked"] > down["from"] else reply(body)

    with endpoint(flaky) as served:
        policy = recipe.teacher.policy.model_copy(update={"base_url": served.url})
        teacher = recipe.teacher.model_copy(update={"policy": policy})
        # one shard, of which the first seven are answered and then eight in a row are not
        seeds = recipe.seeds.model_copy(update={"shard": 40})
        mine = recipe.model_copy(update={"teacher": teacher, "seeds": seeds})
        rows = [{"question": f"Who made {n}?", "answers": ["Ada"], "category": "Arts"} for n in range(20)]
        write_seeds(tmp_path / "seeds", rows)

        def fate(part: RunPart, before: int) -> None:
            shutil.rmtree(part.folder(mine.output))

        with pytest.raises(Failed, match=r"8 episodes.*\(part 1/4, on "):
            build_on_workers(mine, Threads(fate), 1)
        journal = TrajectoryStore(Stage(mine.output / STAGES[1]).journal_store(SHARDS[0]))
        played = len([t for t in journal if t.error is None])
        assert played == 7
        # another worker, whose disk holds nothing of it, goes on there
        down["from"] = 10**6
        before = count["asked"]
        build_on_workers(mine, Threads(fate), 1)
        assert count["asked"] - before == 20 - 7


def test_errors_are_played_again_by_workers(recipe: DataRecipe, tmp_path: Path) -> None:
    broken = {"number 3?", "number 7?"}

    def flaky(body: dict[str, Any]) -> Any:
        return error("overloaded") if any(each in json.dumps(body) for each in broken) else reply(body)

    with endpoint(flaky) as served:
        policy = recipe.teacher.policy.model_copy(update={"base_url": served.url})
        mine = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"policy": policy})})

        def gone(part: RunPart, before: int) -> None:
            shutil.rmtree(part.folder(mine.output))

        build_on_workers(mine, Threads(gone), 1)
        assert told(mine.output)["stages"]["2-episodes"][1] == QUESTIONS + 1 - 2
        broken.clear()
        served.asked.clear()
        build_on_workers(mine, Threads(gone), 1)
        assert not served.asked
        build_on_workers(mine, Threads(gone), 1, retry_errors=True)
        assert asked(served) == {3: 1, 7: 1}
        assert told(mine.output)["stages"]["2-episodes"][1] == QUESTIONS + 1


def test_another_recipe_is_refused_before_anything_is_handed_out(recipe: DataRecipe) -> None:
    settings, makers = composed(recipe)
    with taken(settings, makers):
        ShardStages(settings, makers, silent).claim()
    workers = Threads()
    policy = recipe.teacher.policy.model_copy(update={"temperature": 0.5})
    hotter = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"policy": policy})})
    with pytest.raises(UserError, match=r"teacher\.policy\.temperature"):
        build_on_workers(hotter, workers, 1)
    assert not workers.played


def test_keys_are_not_shown(recipe: DataRecipe) -> None:
    assert "secret" not in repr(BuildJob(recipe, RunPart(), keys={"OPENAI_API_KEY": "secret"}))


def test_options_of_ray(file: Path) -> None:
    assert "belong to --ray" in str(run("data", "build", file, "--workers", "2").exception)
    assert "Give --ray or --part" in str(run("data", "build", file, "--ray", "local", "--part", "1/2").exception)


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'deepmmsearch[ray]'")
def test_ray_equals_one_process(file: Path, tmp_path: Path) -> None:
    done("data", "build", file, f"output={tmp_path / 'whole'}")
    output = done("data", "build", file, "--ray", "local", "--workers", "2")
    assert told(tmp_path / "run") == told(tmp_path / "whole") and "rows for training" in output
