"""`benchmarks/scale.py`: the clock, what is shared in it, and that the real limits are what holds a run up."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deepmmsearch.agent.metering import Budget
from deepmmsearch.errors import UserError
from deepmmsearch.prompts import load_prompt
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Answer, Call, Completion, Observation, Question, TextSearch, Trajectory, Turn

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def scale() -> Any:
    folder = str(Path(__file__).parent.parent / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import scale as module  # type: ignore[import-not-found]

        yield module
    finally:
        sys.path.remove(folder)


def rested(scale: ModuleType, work: Any) -> Any:
    with asyncio.Runner(loop_factory=scale.SimulatedClock) as runner:
        return runner.run(work)


def test_machines_are_shared_alike_and_the_clock_says_how_long_that_takes(scale: ModuleType) -> None:
    ends: dict[str, float] = {}

    async def job(shared: Any, name: str, begins: float, seconds: float, demand: float = 1.0) -> None:
        await asyncio.sleep(begins)
        await shared.serve(seconds, demand)
        ends[name] = asyncio.get_running_loop().time()

    async def all_of_them() -> float:
        shared = scale.Shared(1.0)
        gone = asyncio.create_task(job(shared, "gone", 1001.0, 50.0))
        asyncio.get_running_loop().call_later(1002.0, gone.cancel)
        # two at once take twice as long; halves of a machine do not meet
        await asyncio.gather(job(shared, "a", 0, 10), job(shared, "b", 5, 10), job(shared, "c", 1000, 10))
        await asyncio.gather(job(shared, "d", 0, 10, 0.5), job(shared, "e", 0, 10, 0.5))
        return float(shared.used)

    used = rested(scale, all_of_them())
    assert ends == pytest.approx({"a": 15.0, "b": 20.0, "c": 1010.5, "d": 1020.5, "e": 1020.5})
    assert used == pytest.approx(20.0 + 10.5 + 10.0)


def test_what_never_comes_is_told_and_not_waited_for(scale: ModuleType) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="does not come"):
        rested(scale, forever())


def test_each_part_holds_up_where_it_is_short_of_what_is_asked_for(scale: ModuleType) -> None:
    load, plenty = scale.load_defaults(), scale.Site(1000, None, None, None, 10_000)
    free = scale.evaluation(load, plenty, 64, 256)
    again, other = scale.evaluation(load, plenty, 64, 256), scale.evaluation(load, plenty, 64, 256, seed=1)
    assert free.seconds == again.seconds != other.seconds and free.episodes == 256 and free.failed == 0
    assert free.bottleneck.startswith("waiting")
    short = {
        "tools: rate of text search": replace(plenty, text_rate=1.0),
        "tools: connections of image search": replace(plenty, connections=1),
        "summariser": replace(plenty, summariser_gpus=0.5),
        "sampler": replace(plenty, gpus=0.2),
    }
    for name, site in short.items():
        held = scale.evaluation(load, site, 64, 256)
        assert held.bottleneck == name and held.seconds > 1.2 * free.seconds and held.episodes == 256, name
    # a rate is kept to: so many searches cannot be made faster
    held = scale.evaluation(load, short["tools: rate of text search"], 64, 256)
    assert held.used["tools: rate of text search"] <= 1.01


def test_money_ends_a_run_as_it_ends_a_real_one(scale: ModuleType) -> None:
    load = scale.load_defaults()
    held = scale.evaluation(load, scale.Site(), 16, 1000, Budget(money=0.2))
    assert held.bottleneck == "money" and held.episodes < 1000 and 0.19 < held.money <= 0.2 + 1e-9


def test_training_waits_for_each_round_and_a_group_shares_its_searches(scale: ModuleType) -> None:
    load = scale.load_defaults()
    found = scale.training(load, scale.Site(8, 8), 8, 8, 2)
    assert found.episodes == 128 and 0 < found.used["update"] < 1
    # eight rollouts of a question search its picture once
    assert found.saved > 0.5 * 128 * sum("image" in shape for shape in load.shapes) / len(load.shapes)


def test_what_a_run_measured_takes_the_place_of_what_is_assumed(scale: ModuleType, tmp_path: Path) -> None:
    assumed = scale.load_defaults()
    calls = tuple(Call("text_search", "mine", seconds, cost=0.02, error=e) for seconds, e in ((3.0, None), (5.0, "no")))
    search = Turn(Completion("a", tokens=7, prompt_tokens=70), TextSearch("a"), Observation("b", calls=calls))
    answer = Turn(Completion("c", tokens=9, prompt_tokens=90), Answer("c"))
    played = Trajectory(Question("1", "?"), load_prompt("deepmmsearch-r1"), turns=(search, answer), stop="answer")
    TrajectoryStore(tmp_path).append(played)
    found = scale.measured(tmp_path, assumed)
    assert found.shapes == (("text", "answer"),)
    assert found.tools["text_search"] == scale.Tool(scale.Draws((3.0, 5.0)), 0.02, 0.5)
    assert found.tools["image_search"] == assumed.tools["image_search"]
    assert found.tokens["written_tokens"].values == (7.0, 9.0) and found.tokens["prompt_tokens"].values == (70.0,)
    assert "measured: 2 calls" in found.sources["text_search"] and found.sources["judge"] == assumed.sources["judge"]
    with pytest.raises(UserError, match="Give the folder of a run"):
        scale.measured(tmp_path / "elsewhere", assumed)
    (tmp_path / "wrong.json").write_text("{}")
    with pytest.raises(UserError, match="scale_defaults"):
        scale.load_defaults(tmp_path / "wrong.json")


def test_a_run_of_thousands_starts_within_seconds(scale: ModuleType) -> None:
    """Each 5 ms after the other, 4,000 would take 20 s."""
    load = replace(scale.load_defaults(), shapes=(("answer",),))
    found = scale.evaluation(load, scale.Site(1000, None), 4000, 4000)
    assert found.episodes == 4000 and found.seconds < 5.0 + 2 * max(found.p95, 1.0)
