from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest

from deepmmsearch.testing import FakeTools
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.recorded import RecordedTextSearch
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.types import Hit

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from reliability import Load, Server, load, slow


async def played(episodes: int, turns: int, distinct: int, hurry: float, folder: Path) -> Load:
    server = Server(latency=slow(hurry))
    async with server.running() as address:
        return await load(address, lambda: Counter(server.asked), episodes, turns, distinct, hurry, folder)


async def test_many_episodes_at_once_end_and_ask_each_query_once(tmp_path: Path) -> None:
    async with asyncio.timeout(120):
        outcome = await played(episodes=64, turns=4, distinct=100, hurry=100.0, folder=tmp_path)
    assert outcome.answered == 64 and outcome.searches == 256
    assert outcome.failed == outcome.twice == 0 and outcome.upstream == 100
    assert outcome.grown < 200


@pytest.mark.slow
async def test_512_episodes_of_8_searches(tmp_path: Path) -> None:
    async with asyncio.timeout(500):
        outcome = await played(episodes=512, turns=8, distinct=2048, hurry=20.0, folder=tmp_path)
    assert outcome.answered == 512 and outcome.searches == 4096
    assert outcome.twice == 0 and outcome.upstream <= 2048
    assert outcome.grown < 400


async def test_what_is_remembered_of_answers_is_bounded(tmp_path: Path) -> None:
    texts = {f"q{n}": [Hit("t", "u", "x" * 10_000)] for n in range(60)}
    recorder = Recorder(Cassette(tmp_path / "c.sqlite"), memory=100_000)
    search = FakeTools(texts).toolbox().text_search
    assert search is not None
    tool = RecordedTextSearch(search, recorder)
    for _ in range(2):
        for query in texts:
            assert await tool.search(query, 1) == texts[query]
    assert len(recorder._memory._kept) < 12 and recorder._memory._size <= 100_000
    recorder.close()


async def test_nothing_is_left_behind_by_calls_that_were_shared(tmp_path: Path) -> None:
    recorder = Recorder(Cassette(tmp_path / "c.sqlite"))
    search = FakeTools({"a": [Hit("t", "u")]}, failing=frozenset()).toolbox().text_search
    down = FakeTools(failing=frozenset({"text"})).toolbox().text_search
    assert search is not None and down is not None
    good, bad = RecordedTextSearch(search, recorder), RecordedTextSearch(down, recorder, {"provider": "down"})
    calls = [tool.search(f"q{n % 5}", 5) for n in range(100) for tool in (good, bad)]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    for task in tasks[::7]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert recorder._in_flight() == {} and recorder.cassette._held == set()
    recorder.close()
