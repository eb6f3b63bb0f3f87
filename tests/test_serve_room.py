"""The engine room: places and order, what watchers see, stopping, what is kept; what a restart finds in the history."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.compose.serving import UploadSettings
from deepmmsearch.errors import UserError
from deepmmsearch.images import KeptPicture
from deepmmsearch.prompts import load_prompt
from deepmmsearch.serve.history import History
from deepmmsearch.serve.intake import take_question
from deepmmsearch.serve.refusals import INTERRUPTED, STOPPED, NoPlace, TooMuch, UnknownRun
from deepmmsearch.serve.room import Room, Run, State, on_text
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Completion, Exchange, Question, Trajectory

SEARCH = "<reason>I look.</reason><text_search>Veld</text_search>"
ANSWER = "<reason>I know.</reason><answer>Veld</answer>"


@dataclass
class Slow:
    """Says `texts` in turn, piece by piece, each once `gate` lets it."""

    texts: tuple[str, ...] = (SEARCH, ANSWER)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    began: list[str] = field(default_factory=list)

    async def act(self, trajectory: Trajectory) -> Completion:
        self.began.append(trajectory.question.text)
        text = self.texts[len(trajectory.turns)]
        for piece in (text[:10], text[10:]):
            on_text(piece)
            await self.gates.setdefault(trajectory.question.text, asyncio.Event()).wait()
        return Completion(text)

    def let(self, text: str) -> None:
        self.gates.setdefault(text, asyncio.Event()).set()


def workflow(policy: Any) -> AgentWorkflow:
    return AgentWorkflow(policy, load_prompt("atlas"), lambda _: Toolbox(), label="slow")


def picture(colour: str = "red") -> Image.Image:
    return Image.new("RGB", (40, 30), colour)


@pytest.fixture
def history(tmp_path: Path) -> Any:
    made = History(tmp_path / "store")
    yield made
    made.close()


def room(history: History, **settings: Any) -> Room:
    return Room(lambda _: history, **settings)


async def until(run: Run, place: Room, enough: Callable[[State], bool]) -> State:
    async with asyncio.timeout(10):
        async for state in place.watch(run):
            if enough(state):
                return state
    raise AssertionError(f"it ended with {state}")


async def test_a_question_is_played_watched_and_kept(history: History) -> None:
    place, policy = room(history), Slow()
    run = await place.start(workflow(policy), Question("", "Who?", (picture(),)), "me", model="m")
    await place.on_disk(run)
    assert [(e.id, e.stop, e.model) for e in history.entries()] == [(run.id, None, "m")]
    assert (await until(run, place, lambda s: bool(s.writing))).writing == SEARCH[:10]
    policy.let("Who?")
    seen = [state async for state in place.watch(run)]
    assert seen[-1].ended and seen[-1].trajectory.answer == "Veld" and len(seen[-1].trajectory.turns) == 2
    entry = history.entry(run.id)
    assert (entry.answer, entry.stop, entry.pictures, entry.conversation) == ("Veld", "answer", 1, run.id)
    assert history.get(run.id).question.images[0].tobytes() == picture().tobytes()
    assert TrajectoryStore(history.store.folder).get(run.id).answer == "Veld", "an ordinary store"


async def test_a_question_is_on_the_disk_when_it_is_taken_and_its_pixels_leave_the_memory(history: History) -> None:
    place, policy = room(history), Slow((ANSWER,))
    run = await place.start(workflow(policy), Question("", "Who?", (picture(),)), "me")
    await place.on_disk(run)
    (image,) = run.trajectory.question.images
    assert isinstance(image, KeptPicture) and image.path is not None and image.path.stat().st_size > 40 * 30 * 3
    assert TrajectoryStore(history.store.folder).get(run.id).stop is None
    assert image.tobytes() == picture().tobytes()
    policy.let("Who?")
    await place.finish(run)
    async with asyncio.timeout(10):
        while image.path.stat().st_size > 1000:
            await asyncio.sleep(0.01)
    assert image.tobytes() == history.get(run.id).question.images[0].tobytes() == picture().tobytes()


def test_packing_brings_back_nothing_that_was_deleted(history: History) -> None:
    kept = KeptPicture.of(picture())
    taken = Trajectory(Question("a", "Who?", (kept,)), load_prompt("atlas"))
    history.accept(taken, {})
    history.remove(["a"])
    history.pack(taken)
    assert list((history.store.folder / "images").iterdir()) == []


async def test_a_watcher_that_comes_late_or_reads_slowly_sees_the_whole(history: History) -> None:
    place, policy = room(history), Slow()
    run = await place.start(workflow(policy), Question("", "Who?"), "me")
    watch = place.watch(run)
    first = await anext(watch)
    policy.let("Who?")
    assert (await place.finish(run)).answer == "Veld"
    # all between was skipped
    assert not first.ended and (await anext(watch)).ended
    assert [s.ended async for s in place.watch(place.find(run.id, "me"))] == [True]


async def test_runs_of_one_policy_stream_apart(history: History) -> None:
    place, policy = room(history), Slow((ANSWER,))
    runs = [await place.start(workflow(policy), Question("", text), "me") for text in ("a", "b")]
    for run in runs:
        assert (await until(run, place, lambda s: bool(s.writing))).writing == ANSWER[:10]
    policy.let("a")
    await place.finish(runs[0])
    assert place.state(runs[1]).writing == ANSWER[:10]
    await place.close()


async def test_places_are_counted_and_nobody_takes_them_all(history: History) -> None:
    place, policy = room(history, concurrency=2, waiting=3), Slow((ANSWER,))

    async def ask(owner: str, text: str) -> Run:
        return await place.start(workflow(policy), Question("", text), owner)

    runs = [await ask("greedy", f"g{i}") for i in range(4)]
    other = await ask("other", "o")
    with pytest.raises(NoPlace, match="3 questions are waiting"):
        await ask("other", "one more")
    assert [place.state(r).position for r in (*runs, other)] == [None, None, 0, 1, 2]
    policy.let("g0")
    await place.finish(runs[0])
    assert place.state(other).position is None and place.state(runs[2]).position == 0
    for text in ("g1", "g2", "g3", "o"):
        policy.let(text)
    for run in (*runs, other):
        assert (await place.finish(run)).answer == "Veld"
    assert policy.began == ["g0", "g1", "o", "g2", "g3"] and (place.playing, place.waiting) == (0, 0)


async def test_an_owner_has_so_many_and_sees_its_own(history: History) -> None:
    place, policy = room(history, per_owner=lambda owner: 1 if owner == "small" else None), Slow((ANSWER,))
    run = await place.start(workflow(policy), Question("", "a"), "small")
    with pytest.raises(NoPlace, match="1 questions of yours"):
        await place.start(workflow(policy), Question("", "b"), "small")
    with pytest.raises(UnknownRun):
        place.find(run.id, "other")
    with pytest.raises(UnknownRun):
        place.find("x", "small")
    await place.close()


async def test_a_run_that_is_stopped_keeps_its_turns(history: History) -> None:
    place, policy = room(history, concurrency=1), Slow()
    run = await place.start(workflow(policy), Question("", "a"), "me")
    waits = await place.start(workflow(policy), Question("", "b"), "me")
    policy.let("a")
    policy.gates["a"] = asyncio.Event()
    await until(run, place, lambda s: s.position is None)
    await place.stop(waits)
    await place.stop(run)
    await place.stop(run)
    for stopped in (run, waits):
        kept = history.get(stopped.id)
        assert kept.stop == "error" and kept.error == STOPPED
    assert (place.playing, place.waiting) == (0, 0)


async def test_a_run_that_waits_may_be_stopped_twice_and_watched_meanwhile(history: History) -> None:
    place, policy = room(history, concurrency=1), Slow()
    await place.start(workflow(policy), Question("", "a"), "me")
    waits = await place.start(workflow(policy), Question("", "b"), "me")
    stops = [asyncio.create_task(place.stop(waits)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not waits.ended and place.state(waits).position is None
    # and a server that ends waits for it
    await place.close()
    assert waits.ended and history.entry(waits.id).error == STOPPED
    await asyncio.gather(*stops)


async def test_a_server_that_stops_says_so_and_takes_nothing_more(history: History) -> None:
    place, policy = room(history, concurrency=1), Slow()
    runs = [await place.start(workflow(policy), Question("", text), "me") for text in ("a", "b")]
    await place.close()
    assert [history.entry(r.id).error for r in runs] == [INTERRUPTED, INTERRUPTED]
    with pytest.raises(NoPlace, match="being stopped"):
        await place.start(workflow(policy), Question("", "c"), "me")


async def test_what_fails_is_the_answers_error_and_frees_the_place(history: History) -> None:
    class Broken:
        async def act(self, trajectory: Trajectory) -> Completion:
            raise RuntimeError("boom")

    place = room(history, concurrency=1, timeout=0.05)
    broken = await place.start(workflow(Broken()), Question("", "a"), "me")
    late = await place.start(workflow(Slow()), Question("", "b"), "me")
    assert (await place.finish(broken)).error == "RuntimeError: boom"
    assert (await place.finish(late)).error == "No answer within 0.05 s."


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(history: History, monkeypatch: Any) -> None:
    place, policy = room(history), Slow((ANSWER,))
    run = await place.start(workflow(policy), Question("", "a"), "me")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "keep", full)
    monkeypatch.setattr(history, "accept", full)
    policy.let("a")
    assert (await place.finish(run)).answer == "Veld"
    assert "No space left" in str(place.state(run).unsaved)
    # not even the question could be kept
    policy.let("b")
    other = await place.start(workflow(policy), Question("", "b"), "me")
    assert (await place.finish(other)).answer == "Veld" and "No space left" in str(other.unsaved)
    assert (place.playing, place.waiting) == (0, 0)


# The history


def asked(id: str, text: str, colour: str = "red") -> Trajectory:
    return Trajectory(Question(id, text, (picture(colour),)), load_prompt("atlas"))


def test_a_restart_tells_what_was_interrupted_and_loses_nothing(tmp_path: Path) -> None:
    first = History(tmp_path / "store")
    first.keep(asked("a", "Who?"), {"date": "2026-01-01T00:00:00+00:00", "conversation": "c"})
    first.keep(asked("b", "What?").failed("x"), {"date": "2026-01-02T00:00:00+00:00"})
    with (tmp_path / "store" / "trajectories.jsonl").open("ab") as file:
        file.write(b'{"half a line')
    first.close()  # as the system does it for a process that is killed
    second = History(tmp_path / "store")
    assert [(e.id, e.error) for e in second.entries()] == [("b", "x"), ("a", INTERRUPTED)]
    assert second.entry("a").conversation == "c" and second.entry("a").date.startswith("2026-01-01")
    assert second.get("a").question.images[0].getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(UserError, match="Another server"):
        History(tmp_path / "store")
    second.close()


def test_the_history_is_searched_renamed_and_deleted(history: History) -> None:
    for i, (text, colour) in enumerate((("Who built the tower?", "red"), ("Whose flag?", "red"), ("A tower?", "blue"))):
        history.keep(asked(str(i), text, colour).failed("x"), {"date": f"2026-01-0{i + 1}", "conversation": "c"})
    assert [e.id for e in history.entries("TOWER")] == ["2", "0"]
    assert [e.id for e in history.entries("tower who")] == ["0"]
    history.rename("1", "  The\n flag ")
    assert history.entry("1").title == "The flag" and history.entries("the flag")[0].id == "1"
    with pytest.raises(UserError, match="title is empty"):
        history.rename("1", " ")
    assert [e.id for e in history.conversation("c")] == ["0", "1", "2"]
    pictures = {path.stem for path in (history.store.folder / "images").iterdir()}
    assert len(pictures) == 2
    history.remove(["0", "2", "nothing"])
    assert [e.id for e in history.entries()] == ["1"] and history.get("1").question.text == "Whose flag?"
    # the red one is still shown
    assert len(list((history.store.folder / "images").iterdir())) == 1
    with pytest.raises(UserError, match="no question '0'"):
        history.get("0")
    text = (history.store.folder / "trajectories.jsonl").read_text()
    assert "tower" not in text and json.loads(text.splitlines()[0])["id"] == "1"
    history.remove(["1"])
    assert history.entries() == [] and "flag" not in (history.store.folder / "titles.json").read_text()


def test_titles_last(tmp_path: Path) -> None:
    first = History(tmp_path / "store")
    first.keep(asked("a", "Who?").failed("x"), {})
    first.rename("a", "Somebody")
    first.close()
    second = History(tmp_path / "store")
    assert second.entry("a").title == "Somebody"
    second.close()


# Intake


def uri(image: Image.Image) -> str:
    from deepmmsearch.images import data_url

    return data_url(image)


async def test_what_comes_in_becomes_a_question() -> None:
    bounds = UploadSettings(exchanges=1)
    earlier = [Exchange("a", "b"), Exchange("c", "d")]
    asked = await take_question("Who? ", [uri(picture()), as_bytes(picture("blue"))], earlier, bounds)
    assert asked.text == "Who?" and [i.getpixel((0, 0)) for i in asked.images] == [(255, 0, 0), (0, 0, 255)]
    assert asked.history == (Exchange("c", "d"),)


def as_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("text", "pictures", "kind", "told"),
    [
        ("", [], UserError, "empty"),
        ("x" * 101, [], TooMuch, "101 characters"),
        ("x", [as_bytes(picture())] * 3, TooMuch, "3 pictures"),
        ("x", ["/etc/passwd"], UserError, "begins '/etc/passwd'"),
        ("x", ["file:///etc/passwd"], UserError, "data URI"),
        ("x", ["data:image/png;base64,!!!"], UserError, "not base64"),
        ("x", ["data:image/png;base64," + "A" * 9000], TooMuch, "more than 5000 bytes"),
        ("x", [b"x" * 5001], TooMuch, "5001 bytes"),
        ("x", [b"no picture"], UserError, "picture 1"),
        ("x", [as_bytes(Image.new("RGB", (300, 300)))], UserError, "too large"),
        ("x", ["http://127.0.0.1:80/x.png"], UserError, "could not be fetched"),
    ],
)
async def test_what_cannot_be_taken_is_told(text: str, pictures: list[Any], kind: type[UserError], told: str) -> None:
    bounds = UploadSettings(pictures=2, bytes=5000, pixels=50_000, characters=100)
    with pytest.raises(kind, match=told):
        await take_question(text, pictures, (), bounds)
