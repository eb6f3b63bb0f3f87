"""The pipeline: what each stage keeps and drops, that a kill costs nothing, that expensive work is not done again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data_files import grid, write_lines
from data_players import CROP, SEARCH, WHOLE, flaky_makers, good, makers, moody_judge, says, write_seeds

pytest.importorskip("pyarrow")
pytest.importorskip("imagehash")
pytest.importorskip("matplotlib")

from deepmmsearch.data.card import card_markdown
from deepmmsearch.data.dataset import hold_out
from deepmmsearch.data.pipeline import build
from deepmmsearch.data.reader import read_questions, read_trajectories
from deepmmsearch.data.recipe import BuildSettings, Tries
from deepmmsearch.data.stages import STAGES, Stage
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.progress import Step
from deepmmsearch.store import TrajectoryStore


def settings(folder: Path, questions: Path, **changes: Any) -> BuildSettings:
    return BuildSettings.model_validate(
        {
            "output": folder / "build",
            "seeds": {"benchmark": str(questions), "shard": 8},
            "taxonomy": {"categories": ["Arts", "Nature", "People"]},
            "episodes": {"concurrency": 4, "turns": 4},
            "balance": {"search_share": None},
            "splits": {"validation": 0.25},
            "tries": {"wait": 0},
            **changes,
        }
    )


ONCE = {"attempts": 1}


def calls(log: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in log.read_text().splitlines())


def stage(folder: Path, number: int) -> Stage:
    return Stage(folder / "build" / STAGES[number - 1])


@pytest.mark.parametrize(
    ("count", "share", "held"), [(20, 0.1, 2), (20, 0.05, 1), (20, 0.25, 5), (1000, 0.05, 50), (20, 0, 0), (3, 0.5, 1)]
)
def test_the_share_that_is_held_out_is_the_share_asked_for(count: int, share: float, held: int) -> None:
    ids = [f"q{n}" for n in range(count)]
    found = hold_out({id: [id] for id in ids}, set(ids), share)
    assert len(found) == held and found == hold_out({id: [id] for id in reversed(ids)}, set(ids), share)


def test_questions_about_one_picture_are_held_out_together() -> None:
    groups = {f"p{n}": [f"p{n}-{k}" for k in range(4)] for n in range(10)}
    every = {id for ids in groups.values() for id in ids}
    found = hold_out(groups, every, 0.2)
    assert len(found) == 8 and all(set(ids) <= found or not set(ids) & found for ids in groups.values())
    # of a mix of half of them the share is of that half
    half = {id for id in every if id.endswith(("0", "1"))}
    assert len(hold_out(groups, half, 0.2) & half) == 4


def test_every_stage_keeps_and_drops_what_it_should(tmp_path: Path) -> None:
    rows = [good(n, search=n % 2 == 0, kind=("Arts", "animal", "People")[n % 3]) for n in range(12)]
    rows += [
        {**good(12), "script": ["no tags", says("Ada")]},
        {**good(13), "script": [SEARCH, SEARCH, SEARCH, says("Ada")]},
        {**good(14), "script": [SEARCH] * 12},
        {**good(15), "script": [WHOLE, CROP, says("Bo")]},
        {**good(16), "script": ["raise"]},
        {**good(17), "kind": "Weather"},
        {**good(0), "picture": 0, "question": "WHO made number 0"},
        {**good(18), "image": "gone.png"},
    ]
    seeds = write_seeds(tmp_path / "seeds", rows)
    seen: list[str | Step] = []
    built = build(settings(tmp_path, seeds), makers(tmp_path / "log"), seen.append)

    dropped = {s["stage"]: s["dropped"] for s in built.card["stages"]}
    assert dropped["1-seeds"] == {"picture file missing": 1}
    assert dropped["2-episodes"] == {
        "A: a turn without a valid action": 1,
        "B: 4 turns or more": 2,
        "error: ConnectionError": 1,
    }
    assert dropped["3-correct"] == {"the judge finds it wrong": 1}
    assert dropped["4-labelled"] == {"no category": 1}
    assert dropped["6-unique"] == {"duplicate: picture and question": 1}
    assert [s["kept"] for s in built.card["stages"]] == [19, 15, 14, 13, 13, 12, 12]
    assert calls(tmp_path / "log")["q016"] == 4, "an episode that ends in an error is played again, but not for ever"

    kept = [*read_trajectories(built.dataset), *read_trajectories(built.dataset, "validation")]
    # q018 repeats q000: whichever the seed's order has first stays
    assert {t.question.id for t in kept} - {"q000", "q018"} == {f"q{n:03d}" for n in range(1, 12)}
    assert all(t.answer == "Ada" and t.question.image is not None and t.question.image.size == (128, 96) for t in kept)
    assert {t.question.metadata["category"] for t in kept} == {"Arts", "Nature", "People"}
    assert all(t.question.metadata["search_required"] == bool(t.searches) for t in kept)
    assert {q.id for q in read_questions(built.dataset)} == {t.question.id for t in read_trajectories(built.dataset)}
    last = [step for step in seen if isinstance(step, Step) and step.stage == "2-episodes"][-1]
    assert last == Step("2-episodes", 19, 19, "kept 79%")


def test_what_others_wrote_is_text_in_the_card() -> None:
    nasty = "<img src=x>|[x](http://x.test)*"
    counts = {"rows": 1, "turns": {"1": 1}, "tools": {nasty: 1.0}, "calls": {nasty: 1.0}, "categories": {nasty: {}}}
    stage = {"stage": "1-seeds", "rows": 1, "kept": 0, "seconds": 1, "cost": 0, "dropped": {nasty: 1}}
    card = dict.fromkeys(("name", "source", "teacher", "judge", "licence", "licence_of_seeds"), nasty)
    contents = {"train": counts, "validation": counts}
    text = card_markdown(
        {**card, "revision": "1a", "contents": contents, "stages": [{**stage, "examples": {nasty: [nasty]}}]}
    )
    body = text.partition("\n---\n")[2]
    assert "<img" not in body.replace("\\<img", "") and "[x](http" not in body.replace("\\[x\\](http", "")


def test_the_card_tells_everything(tmp_path: Path) -> None:
    rows = [good(n, search=n % 3 > 0) for n in range(20)]
    rows[5] = {**rows[5], "script": [CROP, SEARCH, says("Ada")]}
    built = build(settings(tmp_path, write_seeds(tmp_path / "seeds", rows)), makers(tmp_path / "log"))
    card = (built.dataset / "README.md").read_text()
    assert card.startswith("---\npretty_name:") and "license: " in card and "| Arts |" in card
    contents = json.loads((built.dataset / "card.json").read_text())["contents"]
    both = [contents[split] for split in ("train", "validation")]
    assert sum(c["rows"] for c in both) == 20 and all(c["rows"] for c in both)
    assert sum(sum(c["turns"].values()) for c in both) == 20
    assert sum(c["search"].get("free", 0) for c in both) == 7
    part = next(c for c in both if c["tools"]["image search, cropped"])
    assert part["tools"]["image and text search"] == part["tools"]["image search, cropped"] > 0
    for name in ("contents.png", "stages.png"):
        assert (built.dataset / name).read_bytes().startswith(b"\x89PNG")
    recipe = (built.dataset / "recipe.yaml").read_text()
    assert "shard: 8" in recipe and "told" in recipe


def test_a_second_run_does_nothing_and_cheap_changes_cost_nothing(tmp_path: Path) -> None:
    seeds = write_seeds(tmp_path / "seeds", [good(n, search=n % 2 == 0) for n in range(12)])
    wanted = settings(tmp_path, seeds)
    first = build(wanted, makers(tmp_path / "log"))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "build").rglob("*.parquet")}
    played = calls(tmp_path / "log")
    assert build(wanted, makers(tmp_path / "log")).card == first.card
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "build").rglob("*.parquet")} == before

    mixed = settings(
        tmp_path, seeds, balance={"size": 4, "variants": {"free": {"search_share": 0.0}, "all": {"search_share": None}}}
    )
    built = build(mixed, makers(tmp_path / "log"))
    assert calls(tmp_path / "log") == played, "nothing was played again"
    rows = {split: built.card["contents"][split] for split in ("train", "validation")}
    assert sum(r["rows"] for r in rows.values()) == 4
    free = [
        *read_trajectories(tmp_path / "build/variants/free"),
        *read_trajectories(tmp_path / "build/variants/free", "validation"),
    ]
    assert len(free) == 6 and not any(t.searches for t in free)
    held_out = {q.id for q in read_questions(tmp_path / "build/variants/all", "validation")}
    assert not held_out & {q.id for q in read_questions(built.dataset)}, "held out once, held out of all mixes"


def test_a_build_grows_by_whole_shards(tmp_path: Path) -> None:
    seeds = write_seeds(tmp_path / "seeds", [good(n) for n in range(12)])

    def wanted(count: int) -> BuildSettings:
        return settings(tmp_path, seeds, seeds={"benchmark": str(seeds), "shard": 4, "count": count})

    assert build(wanted(4), makers(tmp_path / "log")).card["stages"][-1]["kept"] == 4
    assert build(wanted(12), makers(tmp_path / "log")).card["stages"][-1]["kept"] == 12
    assert all(count == 2 for count in calls(tmp_path / "log").values()), "two turns each, played once"
    smaller = build(wanted(8), makers(tmp_path / "log"))
    assert [s["kept"] for s in smaller.card["stages"]] == [8] * 7
    with pytest.raises(UserError, match=r"1-seeds was made with other settings"):
        build(wanted(6), makers(tmp_path / "log"))


def test_a_changed_recipe_is_refused_where_it_would_cost(tmp_path: Path) -> None:
    seeds = write_seeds(tmp_path / "seeds", [good(n) for n in range(4)])
    build(settings(tmp_path, seeds), makers(tmp_path / "log"))
    with pytest.raises(UserError, match=r"2-episodes was made with other settings \(teacher\.name: told -> another\)"):
        build(settings(tmp_path, seeds), makers(tmp_path / "log", teacher={"name": "another"}))
    with pytest.raises(UserError, match=r"1-seeds was made with other settings \(.*seeds\.count: null -> 2"):
        build(settings(tmp_path, seeds, seeds={"benchmark": str(seeds), "count": 2}), makers(tmp_path / "log"))


def test_corrected_answers_are_other_seeds(tmp_path: Path) -> None:
    seeds = write_seeds(tmp_path / "seeds", [good(n) for n in range(4)])
    build(settings(tmp_path, seeds), makers(tmp_path / "log"))
    seeds.write_text(seeds.read_text().replace("Ada", "Bo"))
    with pytest.raises(UserError, match=r"seeds\.benchmark: .* with another content"):
        build(settings(tmp_path, seeds), makers(tmp_path / "log"))


def test_a_stage_that_was_removed_is_made_again_with_what_comes_after_it(tmp_path: Path) -> None:
    seeds = write_seeds(tmp_path / "seeds", [good(n) for n in range(4)])
    build(settings(tmp_path, seeds), makers(tmp_path / "log"))
    shutil.rmtree(tmp_path / "build" / STAGES[3])
    with pytest.raises(UserError, match=r"5-search was made with other settings \(before: the stage before"):
        build(settings(tmp_path, seeds), makers(tmp_path / "log"))
    shutil.rmtree(tmp_path / "build" / STAGES[4])
    assert build(settings(tmp_path, seeds), makers(tmp_path / "log")).card["contents"]["train"]["rows"]


def test_files_of_the_users_stay_in_a_build(tmp_path: Path) -> None:
    seeds = write_seeds(tmp_path / "seeds", [good(n, search=n % 2 == 0) for n in range(8)])
    build(settings(tmp_path, seeds), makers(tmp_path / "log"))
    mine = [tmp_path / "build" / place for place in ("7-balanced/notes.json", "dataset/extra.parquet", "notes.txt")]
    for path in mine:
        path.write_text("mine")
    build(settings(tmp_path, seeds, balance={"size": 4}), makers(tmp_path / "log"))
    assert all(path.read_text() == "mine" for path in mine)
    (tmp_path / "other" / "build").mkdir(parents=True)
    (tmp_path / "other" / "build" / "recipe.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"recipe\.yaml is in it"):
        build(settings(tmp_path / "other", seeds), makers(tmp_path / "log"))


def test_a_teacher_that_is_down_stops_the_build_and_loses_nothing(tmp_path: Path) -> None:
    rows = [{**good(n), "script": [SEARCH, says("Ada")] if n < 5 else ["raise"]} for n in range(20)]
    seeds = write_seeds(tmp_path / "seeds", rows)
    wanted = settings(tmp_path, seeds, seeds={"benchmark": str(seeds), "shard": 20})
    with pytest.raises(UserError, match=r"8 episodes in a row ended in an error, .*the teacher is down"):
        build(wanted, makers(tmp_path / "log"))
    journal = TrajectoryStore(tmp_path / "build/2-episodes/journal/part-00000")
    finished = set(journal.ids())
    assert finished <= {f"q{n:03d}" for n in range(5)} and finished
    before = calls(tmp_path / "log")
    (tmp_path / "mended").write_text("")
    build(settings(tmp_path, seeds, seeds=wanted.seeds), makers(tmp_path / "log"))
    after = calls(tmp_path / "log")
    assert all(after[name] == before[name] for name in finished), "what was finished is not played again"
    assert stage(tmp_path, 2).counts().rows == 20 and stage(tmp_path, 3).counts().kept == 5


def flaky(n: int, **down: int) -> dict[str, Any]:
    """A good seed whose teacher (`act`), judge or label is down the first so many times that it is asked."""
    return {**good(n, search=n % 2 == 0), "down": down}


def test_what_a_flaky_endpoint_spoiled_is_tried_again_and_counted(tmp_path: Path) -> None:
    rows = [flaky(n, **({"act": n % 4, "judge": n % 3, "label": n % 2} if n else {})) for n in range(16)]
    seeds = write_seeds(tmp_path / "seeds", rows)
    built = build(settings(tmp_path, seeds), flaky_makers(tmp_path))
    assert [s["kept"] for s in built.card["stages"]] == [16] * 7
    told = {s["stage"]: (s["retries"], s["recovered"]) for s in built.card["stages"]}
    assert told["2-episodes"] == (24, 12) and told["3-correct"] == (15, 10) and told["4-labelled"] == (8, 8)
    assert "| 2-episodes | 16 | 16 | 24 times, 12 rows recovered |" in (built.dataset / "README.md").read_text()
    steady = build(settings(tmp_path / "steady", seeds), makers(tmp_path / "log"))
    assert contents(built.dataset) == contents(steady.dataset), "the same data as from one that never failed"


def test_episodes_that_failed_for_good_are_played_again_when_that_is_asked_for(tmp_path: Path) -> None:
    rows = [flaky(n, **({"act": 6} if n % 3 == 0 else {"judge": 2} if n % 3 == 1 else {})) for n in range(12)]
    seeds = write_seeds(tmp_path / "seeds", rows)
    wanted = settings(tmp_path, seeds)
    first = build(wanted, flaky_makers(tmp_path))
    assert first.card["stages"][1]["dropped"] == {"error: ConnectionError": 4}
    asked = calls(tmp_path / "log")
    assert build(wanted, flaky_makers(tmp_path)).card == first.card and calls(tmp_path / "log") == asked
    whole = build(wanted, flaky_makers(tmp_path), retry_errors=True)
    assert [s["kept"] for s in whole.card["stages"]] == [12] * 7
    assert (whole.card["stages"][1]["retries"], whole.card["stages"][1]["recovered"]) == (24, 4)
    again = calls(tmp_path / "log") - asked
    assert set(again) == {"q000", "q003", "q006", "q009"}, "nothing else was played again"
    steady = build(settings(tmp_path / "steady", seeds), makers(tmp_path / "log2"))
    assert contents(whole.dataset) == contents(steady.dataset)
    # there is nothing left to try
    assert build(wanted, flaky_makers(tmp_path), retry_errors=True).card == whole.card


def test_ids_that_shards_share_are_told_apart(tmp_path: Path) -> None:
    rows = [{**good(n), "id": f"q{n % 10}"} for n in range(20)]
    path = write_seeds(tmp_path / "seeds", rows)
    # as if each shard had been drawn by a process of its own, which knows of no other
    wanted = settings(tmp_path, path, seeds={"benchmark": str(path), "shard": 5}, processes=4)
    built = build(wanted, makers(tmp_path / "log"))
    ids = [t.question.id for split in ("train", "validation") for t in read_trajectories(built.dataset, split)]
    assert len(ids) == len(set(ids)) == 20


def test_rollouts_that_failed_say_nothing_of_their_question(tmp_path: Path) -> None:
    known = [says("Ada")]
    rows = [{**flaky(n, **({"rollout": 1} if n == 1 else {})), "rollouts": [known, known]} for n in range(3)]
    wanted = settings(
        tmp_path, write_seeds(tmp_path / "seeds", rows), search={"by": "rollouts", "rollouts": 2}, tries=ONCE
    )
    build(wanted, flaky_makers(tmp_path, rollouts=True))
    assert stage(tmp_path, 5).counts().dropped == {"left for the next start: ConnectionError": 1}
    build(wanted, flaky_makers(tmp_path, rollouts=True))
    assert stage(tmp_path, 5).counts().kept == 3


def test_waits_grow_and_end() -> None:
    assert [Tries(wait=2).seconds(tried) for tried in (1, 2, 3, 5, 6, 400)] == [2, 4, 8, 32, 60, 60]


def test_a_build_from_before_tries_were_a_setting_goes_on(tmp_path: Path) -> None:
    wanted = settings(tmp_path, write_seeds(tmp_path / "seeds", [good(n) for n in range(4)]))
    build(wanted, makers(tmp_path / "log"))
    path = tmp_path / "build/2-episodes/output.json"
    output = json.loads(path.read_text())
    output["settings"]["episodes"]["attempts"] = 2
    path.write_text(json.dumps(output))
    played = calls(tmp_path / "log")
    build(wanted, makers(tmp_path / "log"))
    assert calls(tmp_path / "log") == played


def test_what_a_judge_could_not_judge_waits_for_the_next_start(tmp_path: Path) -> None:
    rows = [good(n, search=n % 2 == 0) for n in range(12)]
    rows[3]["judge"] = rows[7]["judge"] = "down"
    seeds = write_seeds(tmp_path / "seeds", rows)
    first = build(settings(tmp_path, seeds), makers(tmp_path / "log", judges=moody_judge(tmp_path)))
    judged = {s["stage"]: s for s in first.card["stages"]}["3-correct"]
    assert judged["dropped"] == {"left for the next start: ConnectionError": 2} and judged["pending"] == 2
    assert first.card["stages"][-1]["kept"] == 10
    played = calls(tmp_path / "log")
    # a build that is still down says the same; one that is up again takes them in, and asks for nothing else
    assert build(settings(tmp_path, seeds), makers(tmp_path / "log", judges=moody_judge(tmp_path))).card == first.card
    (tmp_path / "mended").write_text("")
    asked = len((tmp_path / "judged").read_text().splitlines())
    whole = build(settings(tmp_path, seeds), makers(tmp_path / "log", judges=moody_judge(tmp_path)))
    assert (tmp_path / "judged").read_text().split()[asked:] == ["q003", "q007"]
    assert [s["kept"] for s in whole.card["stages"]] == [12] * 7
    assert not any(s["pending"] for s in whole.card["stages"]) and calls(tmp_path / "log") == played
    other = build(settings(tmp_path / "other", seeds), makers(tmp_path / "log2"))
    assert contents(whole.dataset) == contents(other.dataset)


def test_a_judge_that_is_down_stops_the_build(tmp_path: Path) -> None:
    rows = [{**good(n), "judge": "down"} for n in range(12)]
    seeds = write_seeds(tmp_path / "seeds", rows)
    with pytest.raises(Failed, match=r"8 rows of 3-correct in a row ended in an error.*ConnectionError: no judge"):
        build(settings(tmp_path, seeds), makers(tmp_path / "log", judges=moody_judge(tmp_path)))
    (tmp_path / "mended").write_text("")
    played = calls(tmp_path / "log")
    built = build(settings(tmp_path, seeds), makers(tmp_path / "log", judges=moody_judge(tmp_path)))
    assert built.card["stages"][-1]["kept"] == 12 and calls(tmp_path / "log") == played


def test_rollouts_that_could_not_be_judged_wait_too(tmp_path: Path) -> None:
    known, wrong = [says("Ada")], [says("Bo")]
    rows = [{**good(n), "rollouts": [known, wrong]} for n in range(3)]
    rows[1]["judge"] = "down in rollouts"
    seeds = write_seeds(tmp_path / "seeds", rows)
    wanted = settings(tmp_path, seeds, search={"by": "rollouts", "rollouts": 2})

    def run() -> Any:
        made = makers(tmp_path / "log", rollouts=True, judges=moody_judge(tmp_path), rollouts_={})
        return build(wanted, made)

    run()
    assert stage(tmp_path, 5).counts().dropped == {"left for the next start: ConnectionError": 1}
    (tmp_path / "mended").write_text("")
    run()
    assert {row["id"]: row["search"] for row in stage(tmp_path, 5).read("part-00000")} == {
        f"q{n:03d}": "free" for n in range(3)
    }


def test_rollouts_tell_search_free_from_search_required(tmp_path: Path) -> None:
    looked, known, wrong = [SEARCH, says("Ada")], [says("Ada")], [says("Bo")]
    rollouts = {0: [looked, wrong, known], 1: [wrong, looked, wrong], 2: [wrong] * 3, 3: [known] * 3}
    seeds = write_seeds(tmp_path / "seeds", [{**good(n), "rollouts": rollouts[n]} for n in range(4)])
    wanted = settings(tmp_path, seeds, search={"by": "rollouts", "rollouts": 3})
    with pytest.raises(UserError, match="Rollouts need a policy"):
        build(wanted, makers(tmp_path / "log"))
    build(wanted, makers(tmp_path / "log", rollouts=True, rollouts_={}))
    found = {row["id"]: row["search"] for row in stage(tmp_path, 5).read("part-00000")}
    assert found == {"q000": "free", "q001": "required", "q003": "free"}
    assert stage(tmp_path, 5).counts().dropped == {"wrong in all rollouts": 1}


def test_what_is_in_the_evaluation_is_removed(tmp_path: Path) -> None:
    rows = [good(n) for n in range(6)]
    seeds = write_seeds(tmp_path / "seeds", rows)
    grid(2).resize((64, 48)).save(tmp_path / "same.jpg", quality=60)
    evaluation = [
        {"id": "e0", "question": "Another question?", "answers": ["Bo"], "image": "same.jpg"},
        {"id": "e1", "question": "Who made number 4", "answers": ["ada"]},
    ]
    write_lines(tmp_path / "test.jsonl", evaluation)
    against = [{"benchmark": str(tmp_path / "test.jsonl")}]
    build(settings(tmp_path, seeds, unique={"against": against}), makers(tmp_path / "log"))
    report = json.loads((tmp_path / "build/6-unique/report/removed.json").read_text())
    assert {r["id"]: (r["of"], r["why"]) for r in report["removed"]} == {
        "q002": ("e0", "in test.jsonl: picture"),
        "q004": ("e1", "in test.jsonl: question and answer"),
    }
    assert report["evaluations"][0]["loaded"] == 2
    empty = [{"benchmark": str(write_lines(tmp_path / "empty.jsonl", [{"question": "Who?"}]))}]
    with pytest.raises(UserError, match="nothing can be compared"):
        build(settings(tmp_path, seeds, unique={"against": empty}), makers(tmp_path / "log"))


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    from deepmmsearch.files import locked

    seeds = write_seeds(tmp_path / "seeds", [good(0)])
    with locked(tmp_path / "build/.lock"), pytest.raises(UserError, match="Another run is at work"):
        build(settings(tmp_path, seeds), makers(tmp_path / "log"))


def test_nothing_left_is_said(tmp_path: Path) -> None:
    seeds = write_seeds(tmp_path / "seeds", [good(n) for n in range(3)])
    with pytest.raises(UserError, match="Nothing is left for the data set: 3 rows came to balancing"):
        build(settings(tmp_path, seeds, balance={"search_share": 0.5}), makers(tmp_path / "log"))


class Run:
    """A build in a process of its own."""

    def __init__(self, wanted: BuildSettings, log: Path, seconds: float) -> None:
        here = Path(__file__).parent
        self.process = subprocess.Popen(
            [sys.executable, str(here / "data_players.py"), wanted.model_dump_json(), str(log), str(seconds)],
            cwd=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def finish(self) -> str:
        output, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, output
        return output


def wait_until(true: Any, run: Run, seconds: float = 300) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert run.process.poll() is None, run.process.communicate()[0]
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.02)


def contents(folder: Path) -> dict[str, list[Any]]:
    return {
        split: [
            (t.question.id, t.question.metadata["category"], len(t.turns)) for t in read_trajectories(folder, split)
        ]
        for split in ("train", "validation")
    }


def test_an_interrupted_build_plays_no_more_and_all_that_it_played_is_put_up(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    from deepmmsearch.object_storage.remote_folders import RemoteFolder
    from deepmmsearch.object_storage.working_copy import WorkingCopy

    seeds = write_seeds(tmp_path / "seeds", [good(n, search=False) for n in range(40)])
    wanted, address = settings(tmp_path, seeds, seeds={"benchmark": str(seeds), "shard": 40}), f"file://{tmp_path}/up"
    before = threading.enumerate()

    def interrupted(step: str | Step) -> None:
        if isinstance(step, Step) and step.stage == STAGES[1] and step.done >= 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), WorkingCopy(wanted.output, address):
        build(wanted, makers(tmp_path / "log", 0.02), interrupted)
    assert not [thread for thread in threading.enumerate() if thread not in before and "(work)" in thread.name]
    played = set(TrajectoryStore(stage(tmp_path, 2).journal_store("part-00000")).ids())
    assert 6 <= len(played) < 40
    manifest = RemoteFolder(address).manifest()
    assert manifest is not None
    up = {path.relative_to(wanted.output).as_posix(): path.stat().st_size for path in wanted.output.rglob("*.jsonl")}
    assert up and up == {name: sum(p.size for p in manifest.files[name]) for name in up}
    build(wanted, makers(tmp_path / "log2"))
    assert not set(calls(tmp_path / "log2")) & played


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and file locks")
def test_kill_dash_nine_while_workers_play(tmp_path: Path) -> None:
    rows = [good(n, search=n % 2 == 0, kind=("Arts", "animal")[n % 2]) for n in range(40)]
    seeds = write_seeds(tmp_path / "seeds", rows)
    log = tmp_path / "log"
    log.touch()
    wanted = settings(tmp_path, seeds, processes=2)
    run = Run(wanted, log, 0.05)
    journals = tmp_path / "build/2-episodes/journal"

    def finished() -> set[str]:
        return {name for place in journals.glob("part-*") for name in TrajectoryStore(place).ids()}

    wait_until(lambda: len(finished()) >= 6, run)
    run.kill()
    workers = {int(line.split()[2]) for line in log.read_text().splitlines()}
    assert run.process.pid not in workers, "workers played"
    limit = time.monotonic() + 120
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < limit, "a worker outlived its parent"
        time.sleep(0.05)
    kept, before = finished(), calls(log)
    assert 6 <= len(kept) < 40

    Run(wanted, log, 0.0).finish()
    after = calls(log)
    assert all(after[name] == before[name] for name in kept), "what was played is not played again"
    assert stage(tmp_path, 2).counts().notes["taken from an earlier run"] > 0
    assert len(finished()) == 40 and stage(tmp_path, 2).counts().kept == 40
    other = settings(tmp_path / "other", seeds)
    built = build(other, makers(tmp_path / "log2"))
    assert contents(tmp_path / "build/dataset") == contents(built.dataset)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_again_and_again_at_any_stage(tmp_path: Path) -> None:
    rows = [good(n, search=n % 2 == 0, kind=("Arts", "animal")[n % 2]) for n in range(120)]
    seeds = write_seeds(tmp_path / "seeds", rows)
    log = tmp_path / "log"
    log.touch()
    wanted = settings(tmp_path, seeds)
    marks = [lambda n=n: stage(tmp_path, n).parts() for n in (1, 2, 3, 4, 5, 6, 7)]
    for true in (*marks, lambda: (tmp_path / "build/dataset/train-00000.parquet").exists()):
        run = Run(wanted, log, 0.001)
        limit = time.monotonic() + 300
        while not true() and run.process.poll() is None and time.monotonic() < limit:
            time.sleep(0.002)
        run.kill()
    Run(wanted, log, 0.0).finish()
    built = build(settings(tmp_path / "other", seeds), makers(tmp_path / "log2"))
    assert contents(tmp_path / "build/dataset") == contents(built.dataset)
    names = [
        name
        for place in (tmp_path / "build/2-episodes/journal").glob("part-*")
        for name in TrajectoryStore(place).ids()
    ]
    assert len(names) == len(set(names)) == 120
