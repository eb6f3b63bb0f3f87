"""An evaluation on workers that are lost equals that of one process: with a stand-in, and with Ray where it is
installed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import done, run
from deepmmsearch.children import Child, ParentPipe
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.evaluate import part_of, play_recipe
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.errors import Failed, MissingExtra, UserError
from deepmmsearch.eval.run import EvalRun
from deepmmsearch.outputs import RunPart
from deepmmsearch.scale.eval_parts import EvalJob, play_on_workers
from deepmmsearch.scale.part_workers import PartJob, PartPlayed
from endpoints import Endpoint, endpoint, error, said
from part_runs import GoneError, Threads, three_losses, write_eval_recipe

QUESTIONS = 11
ASKED = [f"Which river is {n}?" for n in range(QUESTIONS)]


@pytest.fixture
def server() -> Iterator[Endpoint]:
    def reply(body: dict[str, Any]) -> Any:
        judging = "incorrect" in json.dumps(body)
        return said("correct" if judging else "<reason>I know.</reason><answer>Balor</answer>")

    with endpoint(reply) as served:
        yield served


@pytest.fixture
def file(tmp_path: Path, server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    return write_eval_recipe(tmp_path, server.url, QUESTIONS, concurrency=1)


@pytest.fixture
def recipe(file: Path) -> EvalRecipe:
    return load_recipe(file, EvalRecipe)


def told(folder: Path) -> dict[str, tuple[float, object, list[str]]]:
    """Verdict, answer and actions of each question."""
    played = EvalRun(folder)
    found = dict(played.store.items())
    assert len(played.store.ids()) == len(found)
    turns = {id: [repr(turn.action) for turn in trajectory.turns] for id, trajectory in found.items()}
    return {id: (row.score, found[id].answer, turns[id]) for (id, _), row in played.judged().items()}


def questions(server: Endpoint) -> list[str]:
    return sorted(question for question in ASKED for body in server.asked if question in json.dumps(body))


def test_workers_that_are_lost_change_nothing(recipe: EvalRecipe, tmp_path: Path, server: Endpoint) -> None:
    whole = recipe.model_copy(update={"output": tmp_path / "whole"})
    play_recipe(whole)
    server.asked.clear()

    said: list[str] = []
    workers = Threads(three_losses(recipe.output))
    play_on_workers(recipe, workers, 2, watch=lambda line: said.append(str(line)))
    assert told(recipe.output) == told(tmp_path / "whole") and len(told(recipe.output)) == QUESTIONS
    assert sorted(workers.played) == sorted([*range(1, 9), 2, 2, 5])
    assert workers.most == 2
    # part 2 of 8 are the questions 1 and 9
    assert questions(server) == sorted(ASKED + 2 * [ASKED[1], ASKED[9]])
    assert said.count("Part 2/8 lost its worker and goes to another: node 10.0.0.7 is gone") == 2
    assert "Part 5/8 lost its worker and goes to another: GoneError" in said
    assert "Parts played: 8 of 8, 11 new trajectories" in said
    assert said[-1] == f"11 trajectories and 11 verdicts are new in {recipe.output}"


def test_what_came_home_is_not_played_again(recipe: EvalRecipe, server: Endpoint) -> None:
    def fate(part: RunPart, before: int) -> None:
        shutil.rmtree(part.folder(recipe.output))
        if part.number == 6:
            raise GoneError("node 7")

    with pytest.raises(Failed, match=r"3 workers in turn were lost while they played part 6/8, the last with: node 7 "):
        play_on_workers(recipe, Threads(fate), 2)
    home = set(told(recipe.output))
    assert 5 <= len(home) < QUESTIONS
    server.asked.clear()
    # another number of parts, no folder of a part left
    play_on_workers(recipe, Threads(), 1)
    assert len(told(recipe.output)) == QUESTIONS == len(home) + len(server.asked)


def test_a_killed_process_goes_on_where_its_folder_is(recipe: EvalRecipe, tmp_path: Path) -> None:
    third, asked = threading.Event(), list[str]()

    def reply(body: dict[str, Any]) -> Any:
        asked.append(json.dumps(body))
        if len(asked) == 3:
            third.set()
            threading.Event().wait(20)  # until it is killed
        return said("<answer>Balor</answer>")

    class Killed(Threads):
        def play(self, job: PartJob) -> PartPlayed:
            if job.part.number == 1 and not third.is_set():
                with Child(_play_in_child, job) as child:
                    third.wait(60)
                    child.end()
                raise GoneError
            return super().play(job)

    with endpoint(reply) as served:
        policy = recipe.policies["m"].model_copy(update={"base_url": served.url})
        mine = recipe.model_copy(update={"policies": {"m": policy}, "benchmarks": recipe.benchmarks})
        play_on_workers(mine, Killed(), 1, keys=["OPENAI_API_KEY"])
    assert len(told(recipe.output)) == QUESTIONS
    # only what was under way was asked again
    assert len(asked) == QUESTIONS + 1


def _play_in_child(line: ParentPipe, job: PartJob) -> None:
    job.play()


def test_errors_of_a_part(recipe: EvalRecipe, tmp_path: Path) -> None:
    answer: dict[str, Any] = {"now": error("overloaded")}
    with endpoint(lambda body: answer["now"]) as served:
        policy = recipe.policies["m"].model_copy(update={"base_url": served.url})
        down = recipe.model_copy(update={"policies": {"m": policy}, "stop_after_errors": 4})
        workers = Threads()
        with pytest.raises(Failed, match="questions failed"):
            play_on_workers(down, workers, 1)
        # parts of three questions
        assert workers.played == [1, 2]
        answer["now"] = said("<answer>Balor</answer>")
        play_on_workers(down, Threads(), 1)
        assert sum(t.error is not None for _, t in EvalRun(recipe.output).store.items()) == 6
        play_on_workers(down, Threads(), 1, retry_errors=True)
        assert not any(t.error for t in dict(EvalRun(recipe.output).store.items()).values())
        # made with other settings: before anything is handed out
        workers = Threads()
        hotter = down.model_copy(update={"policies": {"m": policy.model_copy(update={"temperature": 0.5})}})
        with pytest.raises(UserError, match=r"policies\.m\.temperature"):
            play_on_workers(hotter, workers, 1)
        assert not workers.played


def test_what_a_machine_lacks_is_said(recipe: EvalRecipe, tmp_path: Path) -> None:
    played = EvalJob(recipe, RunPart(), folder=str(tmp_path / "nowhere")).play()
    assert played.refused is not None and "Every machine needs the recipe's files at the same paths" in played.refused
    (tmp_path / "mine.jsonl").unlink()
    with pytest.raises(UserError, match=r"mine\.jsonl.*\(part 1/4, on "):
        play_on_workers(recipe, Threads(), 1)


def test_what_is_recorded_comes_home(file: Path, tmp_path: Path) -> None:
    from deepmmsearch.tools.archive import count
    from deepmmsearch.tools.cassette import Cassette

    made = yaml.safe_load(file.read_text())
    recorder = {"mode": "cache", "cassette": str(tmp_path / "verdicts.sqlite")}
    asked = {"kind": "llm", "base_url": made["policies"]["m"]["base_url"], "model": "vlm", "recorder": recorder}
    file.write_text(yaml.safe_dump(made | {"judges": {"asked": asked}}))
    recipe = load_recipe(file, EvalRecipe)

    class Moving(Threads):
        def play(self, job: PartJob) -> PartPlayed:
            played = super().play(job)
            part_of(recipe, job.part).judges["asked"].recorder.cassette.unlink()  # type: ignore[union-attr]
            return played

    play_on_workers(recipe, Moving(), 1)
    with Cassette(tmp_path / "verdicts.sqlite", read_only=True) as home:
        assert count(home).answers == QUESTIONS


def test_keys_are_not_shown(recipe: EvalRecipe) -> None:
    assert "secret" not in repr(EvalJob(recipe, RunPart(), keys={"OPENAI_API_KEY": "secret"}))


def test_options_of_ray(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "belong to --ray" in str(run("eval", file, "--workers", "2").exception)
    assert "Give --ray or --part" in str(run("eval", file, "--ray", "local", "--part", "1/2").exception)
    monkeypatch.setattr("deepmmsearch.errors.find_spec", lambda name: None)
    missing = run("eval", file, "--ray", "local").exception
    assert isinstance(missing, MissingExtra) and "pip install 'deepmmsearch[ray]'" in str(missing)


def test_what_is_no_address_of_a_cluster_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepmmsearch.errors.find_spec", lambda name: object())
    for given in ("auto", "10.0.0.1", "10.0.0.1:port", "10.0.0.1:99999", ":6379", "ray://"):
        assert "is not an address of a Ray cluster" in str(run("eval", file, "--ray", given).exception), given
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for given in (f"127.0.0.1:{port}", f"ray://localhost:{port}"):
        error = run("eval", file, "--ray", given).exception
        assert isinstance(error, Failed) and f"No Ray cluster answers at {given}" in str(error)


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'deepmmsearch[ray]'")
def test_ray_equals_one_process(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_API_KEY", "unnamed")
    # Ray's workers would import from the current folder
    here = tmp_path / "here"
    here.mkdir()
    (here / "torch.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.chdir(here)
    done("eval", file, "--no-report", f"output={tmp_path / 'whole'}")
    found: dict[str, list[str]] = {}
    watching = threading.Event()

    def kill() -> None:
        """The first worker that plays; of all it is noted which keys they have."""
        while not watching.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    line = (process / "cmdline").read_bytes()
                    variables = (process / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                if (
                    line.startswith(b"ray::")
                    and str(here.parent).encode() in (process / "cwd").readlink().as_posix().encode()
                ):
                    found[process.name] = [v.decode() for v in variables if v.startswith(b"SOMEBODYS")]
                    if len(found) == 1:
                        os.kill(int(process.name), 9)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        output = done("eval", file, "--no-report", "--ray", "local", "--workers", "2")
    finally:
        watching.set()
        thread.join()
    assert told(tmp_path / "run") == told(tmp_path / "whole")
    assert "lost its worker and goes to another" in output
    assert found and not any(found.values())
    assert not (tmp_path / "imported").exists() and sys.platform == "linux"
