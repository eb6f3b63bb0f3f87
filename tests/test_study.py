"""The training study: its plan, its stages, its claims."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from deepmmsearch.bundled import BUNDLED
from deepmmsearch.cli import group
from deepmmsearch.errors import UserError
from deepmmsearch.eval.claims import Finding
from deepmmsearch.eval.figures import EXACT, Played, Results, load_results, measure
from deepmmsearch.eval.run import BenchmarkInfo, Described, EvalRun, Judged
from deepmmsearch.outputs import Output
from deepmmsearch.progress import Step
from deepmmsearch.prompts import load_prompt
from deepmmsearch.reproduce.study import Job, Study, measure_all, recipe_of, run_jobs
from deepmmsearch.reproduce.study_figures import search_ratio, study_findings, study_table, write_study
from deepmmsearch.types import Completion, Question, TextSearch, Trajectory, Turn

STUDY = Study(Path("recipes/atlas"), Path("out"), seeds=(0, 1))


def answered(right: int, count: int = 100, free: int = 20, searches: int = 1, wasted: int = 1) -> list[Played]:
    """`right` of `count`; the last `free` need no search and make `wasted` searches each."""
    rows = []
    for i in range(count):
        required = i < count - free
        question = Question(f"q{i:03d}", "?", metadata={"search_required": required})
        turn = Turn(Completion(""), TextSearch("x"))
        trajectory = Trajectory(question, load_prompt("atlas"), turns=(turn,) * (searches if required else wasted))
        rows.append(measure(trajectory, {EXACT: Judged("", EXACT, float((i * 37) % count < right))}))
    return rows


def results(**players: list[Played]) -> Results:
    rows = [
        replace(row, benchmark="atlas", workflow=name.replace("_", "-"))
        for name, played in players.items()
        for row in played
    ]
    workflows = {row.workflow: Described(row.workflow, "agent") for row in rows}
    return Results("", EXACT, (EXACT,), workflows, {"atlas": BenchmarkInfo("atlas")}, rows, [], {})


def test_every_job_starts_from_an_earlier_one() -> None:
    seen: set[str] = set()
    for job in STUDY.jobs():
        assert set(job.after) <= seen, job
        seen.add(job.name)
    assert {"base", "start", "sft", "rl-0", "rl-1", "cautious", "selective", "penalty", "scratch", "final"} <= set(
        STUDY.models()
    )


def test_every_job_is_an_ordinary_command() -> None:
    for job in STUDY.jobs():
        words = [word for word in job.command if "=" not in word and not word.startswith("-")]
        command = group
        for word in words[: 2 if words[0] == "atlas" else 1]:
            command = command.get_command(None, word)  # type: ignore[arg-type, assignment, union-attr]
            assert command is not None, job
    recipes = {word for job in STUDY.jobs() for word in job.command if word.endswith(".yaml")}
    root = Path(__file__).parent.parent
    assert all((root / recipe).is_file() for recipe in recipes)


class Given(Study):
    """A study of jobs that do nothing for it."""

    def jobs(self) -> list[Job]:
        made = [("one", ()), ("two", ("one",))]
        return [Job(name, ("data", "list"), self.out / name, after) for name, after in made]


def test_a_job_that_leaves_no_result_is_a_user_error_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The job one failed .* See .*one\.log"):
        run_jobs(Given(Path("recipes"), tmp_path), 2, lambda line: None)
    assert (tmp_path / "one.log").read_text()


class Endless(Study):
    """One job that says who it is and goes on for ever."""

    def jobs(self) -> list[Job]:
        code = f"import os, pathlib, time; pathlib.Path({str(self.out / 'pid')!r}).write_text(str(os.getpid()))"
        return [Job("endless", (f"{code}; time.sleep(600)",), self.out / "never")]


class Failing(Endless):
    """Another one beside it, which fails as soon as the first is there."""

    def jobs(self) -> list[Job]:
        code = f"import pathlib, time\nwhile not pathlib.Path({str(self.out / 'pid')!r}).exists(): time.sleep(0.05)"
        return [*super().jobs(), Job("failing", (f"{code}\nraise SystemExit('no disk')",), self.out / "never")]


def ended(pid: int) -> bool:
    for _ in range(2000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs whose command is Python code, not one of ours."""
    monkeypatch.setattr("deepmmsearch.reproduce.study.PROGRAM", "given_code")


@pytest.mark.usefixtures("bare")
def test_a_job_that_fails_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The job failing failed \(no disk\)"):
        run_jobs(Failing(Path("recipes"), tmp_path), 2, lambda line: None)
    assert ended(int((tmp_path / "pid").read_text()))


@pytest.mark.usefixtures("bare")
def test_a_signal_ends_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepmmsearch.reproduce.study.Study", lambda recipes, out, **_: Endless(recipes, out))
    before = signal.getsignal(signal.SIGTERM)

    def kill_when_it_runs() -> None:
        # written, not only made
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        threading.Thread(target=kill_when_it_runs).start()
        result = CliRunner().invoke(group, ["reproduce", "train", "--out", str(tmp_path)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert result.exit_code == 1 and "Aborted" in result.output
    assert ended(int((tmp_path / "pid").read_text()))


def test_jobs_that_are_done_are_skipped(tmp_path: Path) -> None:
    told: list[object] = []
    Output(tmp_path, "reproduce train").claim({})
    for name in ("one", "two"):
        (tmp_path / name).touch()
    run_jobs(Given(Path("recipes"), tmp_path), 2, told.append)
    assert told == [Step("Jobs", 2, 2)]


def test_a_job_with_other_settings_is_refused_before_any_is_run(tmp_path: Path) -> None:
    class Taught(Study):
        def jobs(self) -> list[Job]:
            # no such command, so it fails at once
            given = ("tune", str(self.recipes / "sft.yaml"), f"output={self.out / 'one'}", f"threads={self.threads}")
            return [Job("one", (*given, *self.overrides), self.out / "one")]

    (tmp_path / "sft.yaml").write_text("seed: 0")
    study = Taught(tmp_path, tmp_path / "out")
    (study.out / "one").mkdir(parents=True)
    with pytest.raises(UserError, match=r"did not make it \(one is in it\)"):
        run_jobs(study, 1)
    (study.out / "one").rmdir()
    with pytest.raises(UserError, match="The job one failed"):
        run_jobs(replace(study, overrides=("trl.max_steps=2",)), 1)
    (study.out / "one").mkdir()
    run_jobs(replace(study, overrides=("trl.max_steps=2",), threads=3), 1)
    with pytest.raises(UserError, match=r"one\.trl\.max_steps: 2 -> 4"):
        run_jobs(replace(study, overrides=("trl.max_steps=4",)), 1)
    (tmp_path / "sft.yaml").write_text("seed: 1")
    with pytest.raises(UserError, match=r"one\.recipe: sft\.yaml with another content"):
        run_jobs(replace(study, overrides=("trl.max_steps=2",)), 1)


def test_findings_say_what_the_figures_show() -> None:
    habits = {"cautious": answered(90, wasted=2), "selective": answered(90), "penalty": answered(90, wasted=0)}
    good = results(start=answered(68), rl_0=answered(80), rl_1=answered(78), **habits, final=answered(93))
    found = {finding.text: finding for finding in study_findings(good, (0, 1))}
    assert all(finding.shown for finding in found.values()), found
    gains = next(f.figure for text, f in found.items() if "8 points" in text)
    assert "+12.0 points" in gains and "; over 2 seeds +11.0 points [" in gains
    habits = {"cautious": answered(90), "selective": answered(90, wasted=2), "penalty": answered(90, wasted=2)}
    bad = results(start=answered(50), rl_0=answered(55), rl_1=answered(40), **habits, final=answered(90))
    assert not any(finding.shown for finding in study_findings(bad, (0, 1)))


def test_the_penalty_is_judged_at_equal_accuracy() -> None:
    rows = {"start": answered(68), "rl_0": answered(80), "cautious": answered(80), "selective": answered(80)}

    def found(penalty: list[Played]) -> Finding:
        (finding,) = [f for f in study_findings(results(**rows, penalty=penalty), (0,)) if "penalty" in f.text]
        return finding

    good = found(answered(80, wasted=0))
    assert good.shown and "ratio 1.000 to 0.500 (-50%), without the penalty 1.000" in good.figure
    assert not found(answered(20, wasted=0)).shown


def test_the_search_ratio_weighs_both_halves_alike() -> None:
    assert search_ratio(answered(50, count=100, free=5, searches=2, wasted=0)) == 0.5
    assert search_ratio(answered(50, count=100, free=95, searches=0, wasted=1)) == 0.5


def test_the_report_has_table_findings_and_curves(tmp_path: Path) -> None:
    study = Study(Path("recipes/atlas"), tmp_path, seeds=(0,))
    (tmp_path / "rl-0").mkdir()
    rows = [{"step": i, "reward/mean": 0.1 * i, "eval/accuracy": 0.5} for i in range(5)]
    (tmp_path / "rl-0" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_study(study, results(start=answered(68), rl_0=answered(80)), lambda line: None)
    text = (tmp_path / "study.md").read_text()
    assert "| rl-0 | 80.0% \\[" in text and "- shown: the start is between" in text
    assert (tmp_path / "study.png").stat().st_size > 5000
    kept = json.loads((tmp_path / "study.json").read_text())
    assert kept["table"][1]["searches, needed"] == "1.00" and kept["claims"][0]["shown"] is True


class Bundled(Study):
    """The bundled model is all that there is to measure."""

    def models(self) -> dict[str, Path]:
        return {"final": BUNDLED}


def test_models_are_measured_as_evaluations(tmp_path: Path, worlds: Path) -> None:
    worlds.mkdir(exist_ok=True)
    (tmp_path / "worlds").symlink_to(worlds)
    study = Bundled(Path("recipes/atlas"), tmp_path)
    found = measure_all(study, 5, 6, 1)
    assert found.accuracy("final").count == 6 and found.accuracy("final").mean >= 4 / 6
    (row,) = study_table(found).rows
    assert row[0] == "final" and float(row[5]) > 0
    run = EvalRun(recipe_of(study, "final", 5, 6).output)
    assert load_results([run], EXACT).rows == found.rows and len(run.store) == 6


def test_missing_recipes_are_a_user_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(group, ["reproduce", "train", "--recipes", str(tmp_path)])
    assert isinstance(result.exception, UserError) and "has no base.yaml" in str(result.exception)
