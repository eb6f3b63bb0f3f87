"""The training study: its plan, its stages, its claims."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from deepmmsearch.bundled import BUNDLED
from deepmmsearch.cli import group
from deepmmsearch.errors import UserError
from deepmmsearch.reproduce.study import Answered, Plan, Stage, claims, measure, run_stages, search_ratio, table
from deepmmsearch.reproduce.study_report import write_study

PLAN = Plan(Path("recipes/atlas"), Path("out"), seeds=(0, 1))


def answered(right: int, count: int = 100, free: int = 20, searches: int = 1, wasted: int = 1) -> list[Answered]:
    """`right` of `count`; the last `free` need no search and make `wasted` searches each."""
    rows = []
    for i in range(count):
        required = i < count - free
        made = searches if required else wasted
        rows.append(Answered(f"q{i:03d}", "text", required, (i * 37) % count < right, made, made, 0, 0))
    return rows


def test_every_stage_starts_from_an_earlier_one() -> None:
    seen: set[str] = set()
    for stage in PLAN.stages():
        assert set(stage.after) <= seen, stage
        seen.add(stage.name)
    assert {"base", "start", "sft", "rl-0", "rl-1", "cautious", "selective", "penalty", "scratch", "final"} <= set(
        PLAN.models()
    )


def test_every_stage_is_an_ordinary_command() -> None:
    for stage in PLAN.stages():
        words = [word for word in stage.command if "=" not in word and not word.startswith("-")]
        command = group
        for word in words[: 2 if words[0] == "atlas" else 1]:
            command = command.get_command(None, word)  # type: ignore[arg-type, assignment, union-attr]
            assert command is not None, stage
    recipes = {word for stage in PLAN.stages() for word in stage.command if word.endswith(".yaml")}
    root = Path(__file__).parent.parent
    assert all((root / recipe).is_file() for recipe in recipes)


class Given(Plan):
    """A plan of stages that are one-line programs."""

    def stages(self) -> list[Stage]:
        made = [("one", ()), ("two", ("one",))]
        return [Stage(name, ("data", "list"), self.out / name, after) for name, after in made]


def test_a_stage_that_leaves_no_result_is_a_user_error_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The stage one failed .* See .*one\.log"):
        run_stages(Given(Path("recipes"), tmp_path), 2, lambda line: None)
    assert (tmp_path / "one.log").read_text()


class Endless(Plan):
    """One stage that says who it is and goes on for ever."""

    def stages(self) -> list[Stage]:
        code = f"import os, pathlib, time; pathlib.Path({str(self.out / 'pid')!r}).write_text(str(os.getpid()))"
        return [Stage("endless", (f"{code}; time.sleep(600)",), self.out / "never")]


class Failing(Endless):
    """Another one beside it, which fails as soon as the first is there."""

    def stages(self) -> list[Stage]:
        code = f"import pathlib, time\nwhile not pathlib.Path({str(self.out / 'pid')!r}).exists(): time.sleep(0.05)"
        return [*super().stages(), Stage("failing", (f"{code}\nraise SystemExit('no disk')",), self.out / "never")]


def ended(pid: int) -> bool:
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages whose command is Python code, not one of ours."""
    monkeypatch.setattr("deepmmsearch.reproduce.study.COMMAND", (sys.executable, "-c"))


@pytest.mark.usefixtures("bare")
def test_a_stage_that_fails_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The stage failing failed \(no disk\)"):
        run_stages(Failing(Path("recipes"), tmp_path), 2, lambda line: None)
    assert ended(int((tmp_path / "pid").read_text()))


@pytest.mark.usefixtures("bare")
def test_a_signal_ends_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepmmsearch.reproduce.study.Plan", lambda recipes, out, **_: Endless(recipes, out))
    before = signal.getsignal(signal.SIGTERM)

    def kill_when_it_runs() -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        threading.Thread(target=kill_when_it_runs).start()
        result = CliRunner().invoke(group, ["reproduce", "train", "--out", str(tmp_path)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert result.exit_code == 1 and "Aborted" in result.output
    assert ended(int((tmp_path / "pid").read_text()))


def test_stages_that_are_done_are_skipped(tmp_path: Path) -> None:
    said: list[str] = []
    for name in ("one", "two"):
        (tmp_path / name).touch()
    run_stages(Given(Path("recipes"), tmp_path), 2, said.append)
    assert said == []


def test_claims_say_what_the_figures_show() -> None:
    start = answered(68)
    habits = {"cautious": answered(90, wasted=2), "selective": answered(90), "penalty": answered(90, wasted=0)}
    good = {"start": start, "rl-0": answered(80), "rl-1": answered(78), **habits, "final": answered(93)}
    found = {claim.text: claim for claim in claims(good, (0, 1))}
    assert all(claim.shown for claim in found.values()), found
    assert "+12.0 points" in next(c.figure for t, c in found.items() if "8 points" in t)
    habits = {"cautious": answered(90), "selective": answered(90, wasted=2), "penalty": answered(90, wasted=2)}
    bad = {"start": answered(50), "rl-0": answered(55), "rl-1": answered(40), **habits, "final": answered(90)}
    assert not any(claim.shown for claim in claims(bad, (0, 1)))


def test_the_penalty_is_judged_at_equal_accuracy() -> None:
    rows = {"start": answered(68), "rl-0": answered(80), "cautious": answered(80), "selective": answered(80)}
    rows["penalty"] = answered(80, wasted=0)
    (claim,) = [c for c in claims(rows, (0,)) if "penalty" in c.text]
    assert claim.shown and "ratio 1.000 to 0.500 (-50%), without the penalty 1.000" in claim.figure
    rows["penalty"] = answered(20, wasted=0)
    (claim,) = [c for c in claims(rows, (0,)) if "penalty" in c.text]
    assert not claim.shown


def test_the_search_ratio_weighs_both_halves_alike() -> None:
    assert search_ratio(answered(50, count=100, free=5, searches=2, wasted=0)) == 0.5
    assert search_ratio(answered(50, count=100, free=95, searches=0, wasted=1)) == 0.5


def test_the_report_has_table_claims_and_curves(tmp_path: Path) -> None:
    plan = Plan(Path("recipes/atlas"), tmp_path, seeds=(0,))
    (tmp_path / "rl-0").mkdir()
    rows = [{"step": i, "reward/mean": 0.1 * i, "eval/accuracy": 0.5} for i in range(5)]
    (tmp_path / "rl-0" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    measured = {"start": answered(68), "rl-0": answered(80)}
    write_study(plan, measured, lambda line: None)
    text = (tmp_path / "study.md").read_text()
    assert "| rl-0 | 80.0% [" in text and "- shown: the start is between" in text
    assert (tmp_path / "study.png").stat().st_size > 5000
    assert len(table(measured)) == len(json.loads((tmp_path / "study.json").read_text())["table"]) == 2


def test_a_checkpoint_is_measured_on_an_unseen_world(tmp_path: Path) -> None:
    rows = measure(BUNDLED, tmp_path, [5], 6)
    assert len(rows) == 6 and sum(row.right for row in rows) >= 4
    assert any(row.searches for row in rows)


def test_missing_recipes_are_a_user_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(group, ["reproduce", "train", "--recipes", str(tmp_path)])
    assert isinstance(result.exception, UserError) and "has no base.yaml" in str(result.exception)
