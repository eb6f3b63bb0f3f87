from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.agent import Toolbox, play
from deepmmsearch.agent.metering import Budget, Ledger, Meter
from deepmmsearch.agent.protocols import Page
from deepmmsearch.errors import ToolError, UnknownName, UserError
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.testing import FakeTools, ScriptedPolicy
from deepmmsearch.tools.cassette import APPLICATION, Cassette
from deepmmsearch.tools.recorded import (
    RecordedCondenser,
    RecordedGrounder,
    RecordedImageSearch,
    RecordedMatcher,
    RecordedModel,
    RecordedReader,
    RecordedSummarizer,
    RecordedTextSearch,
)
from deepmmsearch.tools.recorder import Mode, Recorder, ReplayMiss, canonical
from deepmmsearch.types import Box, Cited, Completion, Hit, Prompt, Question, Trajectory

PICTURE = Image.effect_noise((40, 30), 80).convert("RGB")
THUMBNAIL = Image.effect_noise((24, 24), 60).convert("RGB")
TEXT_HITS = [Hit("Veld “1”", "https://veld.test/?a=1&b=2", "Oru\n\ud800 is its capital.", 0.1 + 0.2, source="fake")]
IMAGE_HITS = [Hit("Flag", "u", "s", 1.0, THUMBNAIL, True), Hit("Sail", "v", "", 0.5, None, None)]
BOXES = [Box(1 / 3, 2.5, 10.0, 12.0, 0.7), Box(0.0, 0.0, 4.0, 4.0)]


@dataclass
class Source:
    """Any tool: gives `answer`, or raises it; counts how often it was asked."""

    answer: Any
    seconds: float = 0.0
    gate: asyncio.Event | None = None
    asked: list[Any] = field(default_factory=list)
    name: str = "fake"

    async def _give(self, *arguments: Any) -> Any:
        self.asked.append(arguments)
        await (self.gate.wait() if self.gate else asyncio.sleep(self.seconds))
        answer = self.answer(len(self.asked)) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer

    search = locate = read = summarize = condense = match = complete = _give


def recorder(path: Path, mode: Mode = "cache", **options: Any) -> Recorder:
    return Recorder(Cassette(path / "c.sqlite", read_only=mode == "replay"), mode, **options)


def texts(source: Source | None, recorder: Recorder) -> RecordedTextSearch:
    return RecordedTextSearch(source, recorder, {"provider": "fake"})


EVERYTHING: dict[str, tuple[type, Any, tuple[Any, ...]]] = {
    "text": (RecordedTextSearch, TEXT_HITS, ("capital of Veld", 5)),
    "nothing found": (RecordedTextSearch, [], ("capital of Veld", 5)),
    "image": (RecordedImageSearch, IMAGE_HITS, (PICTURE, 5)),
    "boxes": (RecordedGrounder, BOXES, (PICTURE, "the flag")),
    "page": (RecordedReader, Page("https://veld.test/", "Veld", "Long text."), ("https://veld.test/",)),
    "summary": (RecordedSummarizer, ["Oru.", ""], ("Which?", "capital", ["a", "b"])),
    "condensed": (RecordedCondenser, [Cited("Oru.", (1, 2))], ("Which?", "capital", ["a", "b"], "text")),
    "match": (RecordedMatcher, [replace(h, matched=True) for h in IMAGE_HITS], (PICTURE, IMAGE_HITS)),
}
VERBS = {
    RecordedGrounder: "locate",
    RecordedReader: "read",
    RecordedSummarizer: "summarize",
    RecordedCondenser: "condense",
    RecordedMatcher: "match",
}


@pytest.mark.parametrize("kind", EVERYTHING)
async def test_what_a_tool_answered_is_what_cache_and_replay_give(kind: str, tmp_path: Path) -> None:
    recorded, answer, arguments = EVERYTHING[kind]
    verb, source, identity = VERBS.get(recorded, "search"), Source(answer), {"provider": "fake", "country": "us"}
    first = recorder(tmp_path)
    assert await getattr(recorded(source, first, identity), verb)(*arguments) == answer
    assert await getattr(recorded(source, first, identity), verb)(*arguments) == answer
    first.close()
    for mode in ("cache", "replay"):
        again = recorder(tmp_path, mode)  # type: ignore[arg-type]
        tool = recorded(source if mode == "cache" else None, again, identity)
        for _ in range(2):
            given = await getattr(tool, verb)(*arguments)
            assert given == answer and type(given) is type(answer)
        if isinstance(given, list):
            # what a caller does to its list is its own affair
            given.append("mine")
            assert await getattr(tool, verb)(*arguments) == answer
        again.close()
    assert len(source.asked) == 1


async def test_a_models_reply_is_recorded_for_the_one_who_asks(tmp_path: Path) -> None:
    reply = Completion("Oru.", (1, 2), (-0.5, -0.25), "stop", 7)
    model, shared = Source(reply), recorder(tmp_path)
    conversation = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where?"}]}]
    for tool in ("judge", "judge", "summarizer"):
        recorded = RecordedModel(model, shared, tool, {"provider": "chat", "model": "m"})
        assert await recorded.complete(conversation, [PICTURE]) == reply
    assert len(model.asked) == 2
    await RecordedModel(model, shared, "judge", {"provider": "chat", "model": "m"}).complete(conversation, [THUMBNAIL])
    assert len(model.asked) == 3
    shared.close()


async def test_the_key_is_the_tool_its_configuration_and_its_arguments(tmp_path: Path) -> None:
    source, shared = Source(TEXT_HITS), recorder(tmp_path)
    for identity in ({"provider": "a"}, {"provider": "b"}, {"provider": "a", "country": "us"}):
        for query, k in (("x", 5), ("x", 4), ("y", 5)):
            await RecordedTextSearch(source, shared, identity).search(query, k)
            await RecordedTextSearch(source, shared, dict(reversed(identity.items()))).search(query, k)
    assert len(source.asked) == 9
    # the short way to the key gives the same key
    assert {row[0] for row in shared.cassette.rows("SELECT asked FROM entries")} >= {
        canonical({"tool": "text_search", "identity": {"provider": "a"}, "arguments": {"query": "x", "k": 5}})
    }
    shared.close()


async def test_equal_calls_at_once_reach_the_tool_once(tmp_path: Path) -> None:
    source, shared = Source(TEXT_HITS, seconds=0.05), recorder(tmp_path)
    given = await asyncio.gather(*(texts(source, shared).search("x", 5) for _ in range(200)))
    assert len(source.asked) == 1 and all(hits == TEXT_HITS for hits in given)
    shared.close()


async def test_an_error_is_shared_and_then_tried_again(tmp_path: Path) -> None:
    source = Source(lambda n: ToolError("It is down.") if n == 1 else TEXT_HITS, seconds=0.02)
    shared = recorder(tmp_path)
    given = await asyncio.gather(*(texts(source, shared).search("x", 5) for _ in range(9)), return_exceptions=True)
    assert {str(e) for e in given} == {"It is down."} and len(source.asked) == 1
    assert await texts(source, shared).search("x", 5) == TEXT_HITS
    shared.close()


async def test_when_the_one_who_asks_is_cancelled_another_asks(tmp_path: Path) -> None:
    source, shared = Source(TEXT_HITS, gate=asyncio.Event()), recorder(tmp_path)
    tasks = [asyncio.create_task(texts(source, shared).search("x", 5)) for _ in range(5)]
    while not source.asked:
        await asyncio.sleep(0.001)
    tasks[0].cancel()
    tasks[3].cancel()
    source.gate.set()  # type: ignore[union-attr]
    given = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(g, asyncio.CancelledError) for g in given] == [True, False, False, True, False]
    assert len(source.asked) == 2
    shared.close()


async def test_an_answer_that_is_none_is_an_error_like_any_other(tmp_path: Path) -> None:
    source, shared = Source([Hit("t", "u", score=object())]), recorder(tmp_path)  # type: ignore[arg-type]
    given = await asyncio.gather(*(texts(source, shared).search("x", 5) for _ in range(5)), return_exceptions=True)
    assert {str(e) for e in given} == {"The tool failed (TypeError). Try another query or answer."}
    assert len(source.asked) == 1
    shared.close()


async def test_those_who_wait_get_the_answer_even_when_nothing_is_remembered(tmp_path: Path) -> None:
    first = recorder(tmp_path)
    await texts(Source(TEXT_HITS), first).search("x", 5)
    first.close()
    shared, source = recorder(tmp_path, memory=0, ttl={"text_search": 1000.0}), Source(TEXT_HITS)
    given = await asyncio.gather(*(texts(source, shared).search(q, 5) for q in ("x", "y") * 20))
    assert all(hits == TEXT_HITS for hits in given) and len(source.asked) == 1
    shared.close()


def make_older(path: Path, seconds: float) -> None:
    with sqlite3.connect(path / "c.sqlite") as file:
        file.execute("UPDATE entries SET created = created - ?", (seconds,))
    file.close()


async def test_an_answer_holds_for_its_time(tmp_path: Path) -> None:
    source, shared = Source(lambda n: [Hit(str(n), "")]), recorder(tmp_path, ttl={"text_search": 1000.0})
    titles = [(await texts(source, shared).search("x", 5))[0].title for _ in range(2)]
    shared.close()
    make_older(tmp_path, 2000)
    shared = recorder(tmp_path, ttl={"text_search": 1000.0})
    titles += [(await texts(source, shared).search("x", 5))[0].title for _ in range(2)]
    assert titles == ["1", "1", "2", "2"]
    shared.close()
    make_older(tmp_path, 2000)
    replayed = recorder(tmp_path, "replay", ttl={"text_search": 1000.0})
    assert (await texts(None, replayed).search("x", 5))[0].title == "2"
    replayed.close()


async def test_a_replay_miss_names_what_was_asked(tmp_path: Path) -> None:
    first = recorder(tmp_path)
    await texts(Source(TEXT_HITS), first).search("x", 5)
    first.close()
    replayed = recorder(tmp_path, "replay")
    with pytest.raises(
        ReplayMiss, match=r'holds no answer to text_search \{"k": 5, "query": "capital of Öre"\} by fake'
    ):
        await texts(None, replayed).search("capital of Öre", 5)
    toolbox = Toolbox(text_search=texts(None, replayed))
    policy = ScriptedPolicy("<reason>r</reason><text_search>Öre</text_search>", "<reason>r</reason><answer>?</answer>")
    played = await play(start("q1"), policy, toolbox)
    seen = played.turns[0].observation
    assert seen is not None and seen.error is not None and '"query": "Öre"' in seen.error
    assert [call.error for call in seen.calls] == [seen.error]
    replayed.close()


async def test_live_asks_every_time_and_needs_no_file(tmp_path: Path) -> None:
    source, live = Source(TEXT_HITS), Recorder(None, "live")
    for _ in range(3):
        await texts(source, live).search("x", 5)
    assert len(source.asked) == 3


async def test_replay_and_cache_ask_for_what_they_need(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Mode cache needs a cassette"):
        Recorder(None, "cache")
    with pytest.raises(UnknownName, match="Did you mean 'replay'"):
        Recorder(None, "repley")  # type: ignore[arg-type]
    shared = recorder(tmp_path)
    with pytest.raises(UserError, match="needs the tool itself"):
        texts(None, shared)
    shared.close()


async def test_no_secret_is_stored(tmp_path: Path) -> None:
    environ = {"SERPER_API_KEY": "s3cr3t-value/+=", "MY_TOKEN": 'quo"ted-token', "HOME": "/home/veld-user"}
    shared = recorder(tmp_path, environ=environ)
    hit = Hit("see s3cr3t-value/+=", "https://x.test/?k=s3cr3t-value/+=", 'quo"ted-token /home/veld-user')
    answers = [[hit], ToolError("refused: https://api.test/?q=1&api_key=abcdefgh s3cr3t-value/+="), [hit]]
    source = Source(lambda n: answers[n - 1])
    given = await texts(source, shared).search("x", 5)
    assert given[0] == Hit("see ***", "https://x.test/?k=***", "*** /home/veld-user")
    with pytest.raises(ToolError, match=r"api_key=\*\*\* \*\*\*$"):
        await texts(source, shared).search("y", 5)
    await texts(source, shared).search("s3cr3t-value/+=", 5)
    shared.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"/home/veld-user" in stored
    for secret in (b"s3cr3t", b"ted-token", b"abcdefgh"):
        assert secret not in stored


def start(id: str, picture: Image.Image = PICTURE, **metadata: Any) -> Trajectory:
    question = Question(id, "Whose flag?", (picture,), metadata=metadata)
    return Trajectory(question, Prompt("p", "deepmmsearch-r1", "s", "{question}"))


# A whole experiment: recorded, then replayed with the tools gone

SCRIPT = (
    "<reason>r</reason><img_search>the flag</img_search>",
    "<reason>r</reason><text_search>capital of Veld</text_search>",
    "<reason>r</reason><text_search>no such thing</text_search>",
    "<reason>r</reason><text_search>capital of Veld</text_search>",
    "<reason>r</reason><answer>Oru</answer>",
)


class Jittery:
    """A tool that takes its time, a different one each time."""

    def __init__(self, tool: Any, seconds: float = 0.01) -> None:
        self._tool, self._seconds, self.name = tool, seconds, "fake"
        self._chance, self._failures = random.Random(1), 2

    async def _wait(self) -> None:
        await asyncio.sleep(self._chance.random() * self._seconds)

    async def search(self, wanted: Any, k: int) -> list[Hit]:
        await self._wait()
        if wanted == "no such thing" and self._failures:
            self._failures -= 1
            raise ToolError(f"Down {self._chance.random():.6f}.")
        hits: list[Hit] = await self._tool.search(wanted, k)
        return hits

    async def locate(self, image: Image.Image, phrase: str) -> list[Box]:
        await self._wait()
        boxes: list[Box] = await self._tool.locate(image, phrase)
        return boxes

    async def read(self, url: str) -> Page:
        await self._wait()
        page: Page = await self._tool.read(url)
        return page

    async def summarize(self, question: str, query: str, passages: Sequence[str]) -> list[str]:
        await self._wait()
        lines: list[str] = await self._tool.summarize(question, query, passages)
        return lines


def recorded_toolbox(recorder: Recorder, tools: Toolbox | None, ledger: Ledger | None = None) -> Toolbox:
    def of(kind: type, name: str) -> Any:
        tool = None if tools is None else Jittery(getattr(tools, name))
        return kind(tool, recorder, {"provider": f"fake-{name}"})

    return Toolbox(
        of(RecordedTextSearch, "text_search"),
        of(RecordedImageSearch, "image_search"),
        of(RecordedGrounder, "grounder"),
        of(RecordedReader, "reader"),
        of(RecordedSummarizer, "summarizer"),
        thumbnails=True,
        ledger=ledger or Ledger(),
    )


def fake_tools() -> FakeTools:
    hits = [Hit(f"Page {i}", f"https://veld.test/{i % 3}", "short", 1.0 / (i + 1)) for i in range(5)]
    pages = {f"https://veld.test/{i}": f"Page {i} says Oru. And more." for i in range(2)}
    return FakeTools({"capital of Veld": hits}, IMAGE_HITS, {"the flag": [Box(5, 5, 25, 20, 0.8)]}, pages)


async def run(toolbox: Toolbox, folder: Path, rounds: int = 2) -> bytes:
    """The stored bytes of some episodes that were played at once, each question in several rollouts."""
    starts = [start(f"q{number}", rollout=rollout) for number in range(4) for rollout in range(rounds)]
    played = await asyncio.gather(*(play(s, ScriptedPolicy(*SCRIPT), toolbox) for s in starts))
    store = TrajectoryStore(folder)
    for trajectory in played:
        store.append(trajectory)
    pictures = sorted((folder / "images").iterdir())
    return store.path.read_bytes() + b"".join(p.name.encode() + p.read_bytes() for p in pictures)


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    tried: list[Any] = []

    def refuse(self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("no connections here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    return tried


async def test_a_recorded_experiment_replays_byte_for_byte(tmp_path: Path, no_connections: list[Any]) -> None:
    first = recorder(tmp_path)
    stored = await run(recorded_toolbox(first, fake_tools().toolbox()), tmp_path / "first")
    first.close()
    assert b'"cached": true' in stored and b'"cached": false' in stored and b"Down 0." in stored
    for name in ("second", "third"):
        replayed = recorder(tmp_path, "replay")
        assert await run(recorded_toolbox(replayed, None), tmp_path / name) == stored
        replayed.close()
    assert no_connections == []


async def test_a_budgeted_experiment_replays_byte_for_byte(tmp_path: Path) -> None:
    def ledger() -> Ledger:
        return Ledger({"fake-text_search": 0.01}, Budget(calls=9, money=0.015))

    first = recorder(tmp_path)
    stored = await run(recorded_toolbox(first, fake_tools().toolbox(), ledger()), tmp_path / "first")
    first.close()
    replayed = recorder(tmp_path, "replay")
    assert await run(recorded_toolbox(replayed, None, ledger()), tmp_path / "second") == stored
    replayed.close()


async def test_a_second_run_costs_nothing_and_is_what_replays_from_then_on(tmp_path: Path) -> None:
    tools = fake_tools()
    for name in ("first", "second"):
        run_of = recorder(tmp_path)
        stored = await run(recorded_toolbox(run_of, tools.toolbox()), tmp_path / name)
        run_of.close()
    again = [c for t in TrajectoryStore(tmp_path / "second") for c in t.calls if c.tool in ("image_search", "reader")]
    assert all(call.cached for call in again if call.error is None)
    replayed = recorder(tmp_path, "replay")
    assert await run(recorded_toolbox(replayed, None), tmp_path / "third") == stored
    replayed.close()


def old_cassette(path: Path) -> list[float]:
    """A cassette as version 1 wrote it, of the first episode and its second rollout; the seconds of the calls that
    reached a tool."""
    script = (Path(__file__).parent / "data" / "cassette_of_version_1.sql").read_text()
    with sqlite3.connect(path / "c.sqlite") as old:
        old.executescript(script)
        old.execute(f"PRAGMA application_id = {APPLICATION}")
        old.execute("PRAGMA user_version = 1")
        rows = [*old.execute("SELECT calls FROM entries"), *old.execute("SELECT calls FROM failures")]
    old.close()
    return sorted(call["seconds"] for (calls,) in rows for call in json.loads(calls) if not call["cached"])


async def test_a_cassette_of_version_1_is_replayed_with_its_seconds(tmp_path: Path) -> None:
    recorded = old_cassette(tmp_path)
    for mode in ("replay", "cache"):
        opened = recorder(tmp_path, mode)  # type: ignore[arg-type]
        toolbox = recorded_toolbox(opened, fake_tools().toolbox() if mode == "cache" else None)
        starts = [start("q0", picture=Image.new("RGB", (40, 30), (200, 40, 40)), rollout=n) for n in range(2)]
        both = [await play(s, ScriptedPolicy(*SCRIPT), toolbox) for s in starts]
        assert [t.answer for t in both] == ["Oru", "Oru"]
        if mode == "replay":
            calls = [call for t in both for call in t.calls if not call.cached]
            assert sorted(call.seconds for call in calls) == recorded
            assert all(turn.seconds > 0 for turn in both[0].turns[:3])
        opened.close()
    # written to, it is of this version
    with Cassette(tmp_path / "c.sqlite") as cassette:
        assert cassette.rows("PRAGMA user_version") == [(2,)]


async def test_a_replayed_turn_tells_the_seconds_of_the_recorded_calls(tmp_path: Path) -> None:
    first = recorder(tmp_path)
    script = ("<reason>r</reason><text_search>x</text_search>", "<reason>r</reason><answer>Oru</answer>")
    recorded = await play(start("q"), ScriptedPolicy(*script), Toolbox(text_search=texts(Source(TEXT_HITS), first)))
    (call,) = recorded.calls
    took = f'"seconds":{call.seconds!r}'
    first.cassette.transact([("UPDATE entries SET calls = replace(calls, ?, ?)", (took, '"seconds":1000.0'))])
    first.close()
    again = recorder(tmp_path, "replay")
    replayed = await play(start("q"), ScriptedPolicy(*script), Toolbox(text_search=texts(None, again)))
    assert replayed.calls == (replace(call, seconds=1000.0),)
    assert replayed.turns[0].seconds == call.began + 1000.0
    again.close()


# Many processes, and the end of some

PROCESS = """
import asyncio, os, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_recorder import *
path, name = Path({path!r}), {name!r}

class Counting(Source):
    async def search(self, query, k):
        with (path / "asked").open("a") as file:
            file.write(f"{{query}}\\n")
        await asyncio.sleep(self.seconds)
        return TEXT_HITS

async def main():
    shared = recorder(path)
    tool = texts(Counting(None, {seconds}), shared)
    {body}
    shared.close()

asyncio.run(main())
"""


def process(path: Path, body: str, name: str = "", seconds: float = 0.3) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parent)
    script = PROCESS.format(tests=tests, path=str(path), name=name, seconds=seconds, body=body)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def test_equal_calls_in_several_processes_reach_the_tool_once(tmp_path: Path) -> None:
    begin = time.time() + 1.5
    body = (
        f"await asyncio.sleep(max(0, {begin} - time.time()));"
        "given = await asyncio.gather(*(tool.search(q, 5) for q in ['x', 'y'] * 10));"
        "assert all(hits == TEXT_HITS for hits in given)"
    )
    processes = [process(tmp_path, body) for _ in range(3)]
    assert [p.wait(60) for p in processes] == [0, 0, 0]
    assert sorted((tmp_path / "asked").read_text().split()) == ["x", "y"]


async def test_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    killed = process(tmp_path, "await tool.search('x', 5)", seconds=60.0)
    while not (tmp_path / "asked").exists():
        assert killed.poll() is None
        await asyncio.sleep(0.02)
    shared, source = recorder(tmp_path), Source(TEXT_HITS)
    waiting = asyncio.create_task(texts(source, shared).search("x", 5))
    await asyncio.sleep(0.2)
    assert not waiting.done() and not source.asked
    killed.kill()
    killed.wait(60)
    assert await asyncio.wait_for(waiting, 60) == TEXT_HITS
    assert len(source.asked) == 1
    shared.close()


def test_killed_while_it_writes_the_file_holds_all_that_was_said_to_be_written(tmp_path: Path) -> None:
    body = (
        "await asyncio.gather(*(write(tool, n) for n in range(8)));"
        "\n\nasync def write(tool, n):\n"
        "    for i in range(10**6):\n"
        "        await tool.search(f'{name}/{n}/{i}', 5)\n"
        "        print(f'{name}/{n}/{i}', flush=True)\n"
    )
    head, _, function = body.partition("\n\n")
    chance = random.Random(7)
    for round in range(3):
        tests = str(Path(__file__).parent)
        script = PROCESS.format(tests=tests, path=str(tmp_path), name=f"r{round}", seconds=0.0, body=head)
        script = script.replace("async def main", f"{function}\nasync def main", 1)
        writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        said = [writer.stdout.readline().strip() for _ in range(4)]
        time.sleep(0.4 * chance.random())
        os.kill(writer.pid, signal.SIGKILL)
        # the last line may be half a line
        said += writer.stdout.read().splitlines()[:-1]
        writer.wait(60)
        with Cassette(tmp_path / "c.sqlite") as cassette:
            assert cassette.rows("PRAGMA integrity_check") == [("ok",)]
            kept = {asked for (asked,) in cassette.rows("SELECT asked FROM entries")}
        missing = [q for q in said if not any(f'"query":"{q}"' in asked for asked in kept)]
        assert not missing


async def test_a_writer_elsewhere_blocks_no_episode(tmp_path: Path) -> None:
    shared, source = recorder(tmp_path), Source(TEXT_HITS)
    await texts(source, shared).search("x", 5)
    other = sqlite3.connect(tmp_path / "c.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    miss = asyncio.create_task(texts(source, shared).search("y", 5))
    for _ in range(20):
        assert await texts(source, shared).search("x", 5) == TEXT_HITS
        await asyncio.sleep(0.005)
    assert not miss.done()
    other.execute("COMMIT")
    other.close()
    assert await asyncio.wait_for(miss, 60) == TEXT_HITS
    shared.close()


# Files that are no cassettes


def test_files_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with pytest.raises(UserError, match="There is no cassette"):
        Cassette(path, read_only=True)
    path.write_text("This is a text and no database, as anyone can see who reads a bit of it." * 20)
    with pytest.raises(UserError, match="is no cassette"):
        Cassette(path)
    path.unlink()
    path.touch()
    with pytest.raises(UserError, match="is empty"):
        Cassette(path, read_only=True)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(UserError, match="a database, but no cassette"):
        Cassette(path)
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA application_id = {APPLICATION}")
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="of version 99, this is 2"):
        Cassette(path)
    with pytest.raises(UserError, match="is a folder"):
        Cassette(tmp_path)


async def test_a_locked_file_says_so(tmp_path: Path) -> None:
    Cassette(tmp_path / "c.sqlite").close()
    other = sqlite3.connect(tmp_path / "c.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    cassette = Cassette(tmp_path / "c.sqlite", wait=0.2)
    with pytest.raises(ToolError, match=r"not recorded: .* is locked by another program"):
        await texts(Source(TEXT_HITS), Recorder(cassette)).search("x", 5)
    cassette.close()
    other.close()


def test_a_cassette_can_be_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    with Cassette(folder / "c.sqlite") as cassette:
        cassette.write([("INSERT INTO images VALUES ('q', x'00')", ())]).result()
    with Cassette(folder / "c.sqlite", read_only=True) as cassette:
        assert cassette.rows("SELECT sha FROM images") == [("q",)]
        with pytest.raises(UserError, match="opened for reading alone"):
            cassette.transact([])


def test_a_meter_numbers_what_one_turn_asks_twice() -> None:
    meter = Meter("q1/0/2")
    assert [meter.asker_of(b"a"), meter.part(True).asker_of(b"a"), meter.asker_of(b"b")] == [
        "q1/0/2",
        "q1/0/2#2",
        "q1/0/2",
    ]
