from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from deepmmsearch.errors import UserError
from deepmmsearch.images import digest
from deepmmsearch.store import FILE, TrajectoryStore, from_dict, to_dict
from deepmmsearch.testing import trajectories
from deepmmsearch.types import Answer, Call, Completion, Observation, Prompt, Question, TextSearch, Trajectory, Turn


def a_trajectory(id: str = "q1", answer: str = "Veld") -> Trajectory:
    turn = Turn(Completion(f"<answer>{answer}", (1, 2), (-0.5, -0.25)), Answer(answer))
    return Trajectory(
        Question(id, "Which?", (Image.new("RGB", (4, 3), "red"),), (answer,), {"kind": "look", "n": [1, 2.5, None]}),
        Prompt("p", "deepmmsearch-r1", "s"),
        turns=(turn,),
        stop="answer",
    )


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(trajectories())
def test_round_trip_is_lossless(trajectory: Trajectory) -> None:
    kept: dict[str, Image.Image] = {}

    def keep(image: Image.Image) -> str:
        kept[digest(image)] = image
        return digest(image)

    record = json.loads(json.dumps(to_dict(trajectory, keep), ensure_ascii=False))
    assert from_dict(record, kept.__getitem__) == trajectory


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(trajectories(max_turns=2), trajectories(max_turns=2))
def test_the_disk_is_lossless(first: Trajectory, second: Trajectory) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = TrajectoryStore(folder)
        store.append(first, "a")
        store.append(second)
        assert list(TrajectoryStore(folder).items()) == [("a", first), (second.question.id, second)]


def test_appends_in_order_with_one_copy_of_a_picture(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path / "new" / "run")
    assert (len(store), store.ids(), list(store)) == (0, (), [])
    store.append(a_trajectory("q1", "Veld"))
    store.append(a_trajectory("q2", "Oslo"))
    store.append(a_trajectory("q1", "Bern"))
    assert store.ids() == ("q1", "q2", "q1")
    assert len(store) == 3
    assert store.get("q1").answer == "Bern"
    assert len(list((store.folder / "images").iterdir())) == 1
    with pytest.raises(UserError, match="no trajectory 'q9'"):
        store.get("q9")


def test_half_a_line_is_ignored_and_repaired(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    store.append(a_trajectory("q1"))
    store.append(a_trajectory("q2"))
    whole = (tmp_path / FILE).read_bytes()
    end_of_first = whole.index(b"\n") + 1
    for cut in range(end_of_first, len(whole), 97):
        (tmp_path / FILE).write_bytes(whole[:cut])
        assert store.ids() == ("q1",)
        store.append(a_trajectory("q3"))
        assert store.ids() == ("q1", "q3")
        assert [t.question.id for t in store] == ["q1", "q3"]


def test_half_of_the_only_line_is_repaired_even_when_it_is_long(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    (tmp_path / FILE).write_bytes(b'{"version": 1, "id": "' + b"x" * 200_000)
    assert store.ids() == ()
    store.append(a_trajectory("q1"))
    assert store.ids() == ("q1",)


WRITER = """
import sys
from PIL import Image
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Prompt, Question, Trajectory
store = TrajectoryStore(sys.argv[1])
for number in range(100000):
    picture = Image.new("RGB", (64, 64), (number % 256, number // 256, int(sys.argv[2])))
    question = Question(f"{sys.argv[2]}-{number}", "x" * 20000, (picture,))
    print(store.append(Trajectory(question, Prompt("p", "d", "s"))), flush=True)
"""


def test_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for attempt in range(3):
        numbers = (str(2 * attempt), str(2 * attempt + 1))
        commands = [[sys.executable, "-c", WRITER, str(tmp_path), number] for number in numbers]
        writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
        for writer in writers:
            assert writer.stdout is not None
            acknowledged.append(writer.stdout.readline().decode().strip())
        time.sleep(0.3 + 0.05 * attempt)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        for writer in writers:
            acknowledged += writer.communicate()[0].decode().split("\n")[:-1]
    store = TrajectoryStore(tmp_path)
    store.append(a_trajectory("last"))
    stored = store.ids()
    assert acknowledged and set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored))
    assert sum(1 for _ in store) == len(stored)


def test_bad_folders_are_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        TrajectoryStore(tmp_path / "file")
    (tmp_path / FILE).write_text("hello\n")
    with pytest.raises(UserError, match=r"line 1: this is no stored trajectory"):
        TrajectoryStore(tmp_path).ids()
    (tmp_path / FILE).write_text('{"version": 99, "id": "a", "trajectory": {}}\n')
    with pytest.raises(UserError, match="version 99"):
        TrajectoryStore(tmp_path).ids()


def test_a_missing_picture_is_one_clear_sentence(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    store.append(a_trajectory())
    next((tmp_path / "images").iterdir()).unlink()
    with pytest.raises(UserError, match="There is no picture"):
        list(store)


def test_metadata_that_are_no_json_are_refused_and_write_no_line(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    odd = a_trajectory()
    odd = replace(odd, question=replace(odd.question, metadata={"when": object()}))
    with pytest.raises(UserError, match="cannot be stored"):
        store.append(odd)
    assert store.ids() == ()


def test_what_a_newer_version_wrote_is_refused() -> None:
    record = to_dict(a_trajectory(), digest)
    with pytest.raises(UserError, match="unknown fields"):
        from_dict({**record, "mood": "good"}, lambda sha: Image.new("RGB", (1, 1)))
    record["turns"][0]["action"]["kind"] = "Ponder"
    with pytest.raises(UserError, match="'Ponder'"):
        from_dict(record, lambda sha: Image.new("RGB", (1, 1)))


def test_what_was_stored_before_calls_were_kept_still_loads(tmp_path: Path) -> None:
    observation = Observation("Oru.", calls=(Call("text_search", "serper", 0.5, 900, False, 0.001),))
    played = replace(a_trajectory(), turns=(Turn(Completion("?"), TextSearch("Veld"), observation),))
    store = TrajectoryStore(tmp_path)
    store.append(played)
    assert store.get("q1").calls == observation.calls
    line = json.loads((tmp_path / FILE).read_text())
    del line["trajectory"]["turns"][0]["observation"]["calls"]
    (tmp_path / FILE).write_text(json.dumps(line) + "\n")
    old = store.get("q1")
    assert (old.calls, old.cost) == ((), 0.0)
    line["trajectory"]["turns"][0] |= {"seconds": 2.5, "cost": 0.001}
    (tmp_path / FILE).write_text(json.dumps(line) + "\n")
    old = store.get("q1")
    assert (old.cost, old.turns[0].seconds) == (0.001, 2.5)


def test_a_turn_that_was_stored_with_its_seconds_keeps_them(tmp_path: Path) -> None:
    call = Call("text_search", "serper", 0.5, 900, False, 0.001)
    played = replace(a_trajectory(), turns=(Turn(Completion("?"), TextSearch("x"), Observation("", calls=(call,))),))
    store = TrajectoryStore(tmp_path)
    store.append(played)
    line = json.loads((tmp_path / FILE).read_text())
    (turn,) = line["trajectory"]["turns"]
    turn |= {"seconds": 1.5, "cost": 0.001}
    del turn["completion"]["seconds"], turn["observation"]["calls"][0]["began"]
    (tmp_path / FILE).write_text(json.dumps(line) + "\n")
    old = store.get("q1").turns[0]
    assert (old.seconds, old.cost, old.completion.seconds) == (1.5, 0.001, 1.0)


@pytest.mark.parametrize(
    ("error", "unavailable"),
    [
        ("python is not available.", True),
        ("Text search is not available, search the image or answer.", True),
        ("The page is not available.", False),
        (None, False),
    ],
)
def test_what_was_not_available_is_known_of_old_stores(tmp_path: Path, error: str | None, unavailable: bool) -> None:
    seen = Observation("x", error=error)
    store = TrajectoryStore(tmp_path)
    store.append(replace(a_trajectory(), turns=(Turn(Completion("?"), TextSearch("x"), seen),)))
    line = json.loads((tmp_path / FILE).read_text())
    del line["trajectory"]["turns"][0]["observation"]["unavailable"]
    (tmp_path / FILE).write_text(json.dumps(line) + "\n")
    assert store.get("q1").turns[0].observation == replace(seen, unavailable=unavailable)
