"""Fail-over, rest, pace and money, in a time of its own: no test waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from deepmmsearch.agent.metering import Budget, BudgetSpent, Meter, Purse
from deepmmsearch.errors import ToolError
from deepmmsearch.tools.failover import FailOver, Lane, Pace
from deepmmsearch.tools.http import BadStatus, Refused, TimedOut, Unreachable
from deepmmsearch.tools.providers.api import ProviderError
from deepmmsearch.types import Hit

LIMITED = ProviderError("Serper is rate-limited (429).", "rate")
DOWN = ProviderError("Serper is not working at the moment (500).", "down")


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Scripted:
    """Answers or fails as it is told to, then goes on as at the end."""

    def __init__(self, *script: Exception | str) -> None:
        self.script = list(script)
        self.asked: list[Any] = []
        self.running = self.most = 0
        self.gate: Callable[[], Awaitable[None]] | None = None

    async def search(self, wanted: Any, k: int) -> list[Hit]:
        self.asked.append(wanted)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await (self.gate() if self.gate else asyncio.sleep(0))
        finally:
            self.running -= 1
        line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(line, Exception):
            raise line
        return [Hit(line, f"https://a.example/{line}")][:k]


def lanes(time: Time, pace: Pace | None = None, **providers: Scripted) -> list[Lane]:
    return [Lane(n, p, "text_search", pace, clock=time.clock, sleep=time.sleep) for n, p in providers.items()]


def failover(time: Time, pace: Pace | None = None, **providers: Scripted) -> FailOver:
    return FailOver(lanes(time, pace, **providers), sleep=time.sleep)


async def titles(tool: FailOver, query: str = "veld") -> list[str]:
    return [hit.title for hit in await tool.search(query, 5)]


async def test_the_first_that_answers_is_used() -> None:
    first, second = Scripted("one"), Scripted("two")
    assert await titles(failover(Time(), serper=first, brave=second)) == ["one"] and not second.asked
    first, time = Scripted(DOWN), Time()
    assert await titles(failover(time, serper=first, brave=second)) == ["two"]
    assert time.slept == [], "the next provider is asked at once"


async def test_nothing_found_is_an_answer() -> None:
    class Empty:
        async def search(self, wanted: Any, k: int) -> list[Hit]:
            return []

    second = Scripted("two")
    tool = FailOver([Lane("serper", Empty(), "text_search"), Lane("brave", second, "text_search")])
    assert await tool.search("x", 5) == [] and not second.asked


async def test_the_error_names_every_provider_with_its_reason() -> None:
    key = ProviderError("Brave does not accept the key in BRAVE_API_KEY (401). Check it.", "key")
    tool = failover(Time(), serper=Scripted(DOWN), brave=Scripted(key), exa=Scripted(Unreachable("a.example is away.")))
    with pytest.raises(ToolError) as caught:
        await tool.search("x", 5)
    message = str(caught.value)
    assert message.startswith("No provider answered: serper: Serper is not working at the moment (500); brave: Brave")
    assert "BRAVE_API_KEY" in message and "exa: a.example is away" in message and message.endswith(".")


async def test_one_provider_that_fails_says_it_in_its_own_words() -> None:
    with pytest.raises(ToolError, match=r"^Serper is not working at the moment \(500\)\.$"):
        await failover(Time(), serper=Scripted(DOWN)).search("x", 5)


async def test_a_passing_failure_is_tried_again_after_a_pause() -> None:
    for failure in (DOWN, TimedOut("x did not finish."), Unreachable("x"), BadStatus("x", 500)):
        time, provider = Time(), Scripted(failure, "one")
        assert await titles(failover(time, serper=provider)) == ["one"]
        assert time.slept == [0.5] and len(provider.asked) == 2


async def test_what_another_try_cannot_mend_is_not_tried_again() -> None:
    for failure in (
        ProviderError("No.", "refused"),
        ProviderError("No.", "answer"),
        ProviderError("No.", "key"),
        ProviderError("No.", "quota"),
        BadStatus("x", 401),
        Refused("No."),
    ):
        time, provider = Time(), Scripted(failure)
        with pytest.raises(ToolError):
            await failover(time, serper=provider).search("x", 5)
        assert len(provider.asked) == 1 and time.slept == []


async def test_a_rate_limited_provider_is_left_alone_for_as_long_as_it_asks() -> None:
    time = Time()
    first = Scripted(ProviderError("Serper is rate-limited (429).", "rate", 30.0), "one")
    second = Scripted("two")
    tool = failover(time, serper=first, brave=second)
    assert await titles(tool) == ["two"]
    time.now += 29
    assert await titles(tool) == ["two"] and len(first.asked) == 1
    time.now += 2
    assert await titles(tool) == ["one"]


async def test_without_retry_after_the_rest_doubles_and_ends_with_a_success() -> None:
    time, provider = Time(), Scripted(LIMITED, LIMITED, LIMITED, "one", LIMITED)
    (lane,) = lanes(time, Pace(first_rest=2.0), serper=provider)
    for rest in (2.0, 4.0, 8.0):
        with pytest.raises(ToolError):
            await lane.search("x", 5)
        assert lane.rest == rest
        time.now += rest
    assert await lane.search("x", 5) and lane.rest == 0.0
    with pytest.raises(ToolError):
        await lane.search("x", 5)
    assert lane.rest == 2.0, "a success makes the next rest short again"


async def test_no_rest_is_longer_than_allowed() -> None:
    for failure in (ProviderError("x", "rate", 1e9), ProviderError("x", "rate", float("inf")), LIMITED):
        time, provider = Time(), Scripted(failure)
        (lane,) = lanes(time, Pace(longest_rest=60.0), serper=provider)
        for _ in range(50):
            with pytest.raises(ToolError):
                await lane.search("x", 5)
            assert lane.rest <= 60.0
            time.now += lane.rest


async def test_a_short_rest_is_waited_for_where_nobody_else_answers() -> None:
    time = Time()
    provider = Scripted(ProviderError("Brave is rate-limited (429).", "rate", 1.0), "one")
    assert await titles(failover(time, brave=provider)) == ["one"] and time.slept == [1.0]


async def test_a_long_rest_is_told_at_once() -> None:
    time, provider = Time(), Scripted(ProviderError("Brave is rate-limited (429).", "rate", 200.0))
    tool = failover(time, brave=provider)
    for expected in ("", r" \(left alone for 3 min\)"):
        with pytest.raises(ToolError, match=rf"^Brave is rate-limited \(429\){expected}\.$"):
            await tool.search("x", 5)
    assert time.slept == [] and len(provider.asked) == 1


async def test_a_provider_without_key_or_credit_is_left_alone() -> None:
    for reason in ("key", "quota"):
        time, first, second = Time(), Scripted(ProviderError("No.", reason)), Scripted("two")  # type: ignore[arg-type]
        tool = failover(time, Pace(setback=300.0), serper=first, brave=second)
        assert [await titles(tool) for _ in range(3)] == [["two"]] * 3 and len(first.asked) == 1
        time.now += 301
        await titles(tool)
        assert len(first.asked) == 2


async def test_a_provider_that_keeps_failing_is_left_alone_and_tried_again() -> None:
    time, first, second = Time(), Scripted(DOWN), Scripted("two")
    tool = failover(time, Pace(patience=3), serper=first, brave=second)
    for _ in range(10):
        assert await titles(tool) == ["two"]
    assert len(first.asked) == 3
    time.now += 5
    await titles(tool)
    assert len(first.asked) == 4


async def test_a_bad_request_is_no_fault_of_the_provider() -> None:
    provider = Scripted(ProviderError("This picture has no address.", "refused"))
    (lane,) = lanes(Time(), serper=provider)
    for _ in range(10):
        with pytest.raises(ToolError):
            await lane.search("x", 5)
        assert lane.rest == 0.0
    assert len(provider.asked) == 10


async def test_what_a_provider_trips_over_does_not_keep_the_next_from_being_asked() -> None:
    meter = Meter(prices={"serper": 0.001})
    tool = failover(Time(), serper=Scripted(KeyError("organic")), brave=Scripted("two"))
    with meter.open():
        assert await titles(tool) == ["two"]
    assert meter.calls[0].error == "serper failed (KeyError)." and meter.calls[0].cost == 0.001
    with pytest.raises(ToolError, match=r"^serper failed \(KeyError\)\.$"):
        await failover(Time(), serper=Scripted(KeyError("organic"))).search("x", 5)


async def test_many_episodes_at_once_get_their_turn() -> None:
    provider = Scripted("one")
    tool = failover(Time(), Pace(concurrency=16), serper=provider)

    async def episode() -> int:
        return len([await titles(tool) for _ in range(8)])

    assert sum(await asyncio.gather(*(episode() for _ in range(512)))) == 512 * 8 == len(provider.asked)
    assert provider.most == 16


async def test_requests_are_spaced_evenly() -> None:
    time, provider = Time(), Scripted("one")
    tool = failover(time, Pace(per_second=2.0), serper=provider)
    for _ in range(5):
        await titles(tool)
    assert time.now == pytest.approx(1002.0)
    time.now += 100
    await titles(tool)
    assert time.now == pytest.approx(1102.0), "time that was not used is not saved up, and not waited for either"


async def test_no_more_requests_at_once_than_allowed() -> None:
    provider = Scripted("one")
    tool = failover(Time(), Pace(concurrency=3), serper=provider)
    assert await asyncio.gather(*(titles(tool) for _ in range(20))) == [["one"]] * 20
    assert provider.most == 3


async def test_who_waits_while_the_provider_refuses_another_does_not_ask_it_too() -> None:
    first, second = Scripted(ProviderError("Full.", "rate", 60.0)), Scripted("two")
    tool = failover(Time(), Pace(concurrency=1), serper=first, brave=second)
    assert await asyncio.gather(*(titles(tool) for _ in range(20))) == [["two"]] * 20
    assert len(first.asked) == 1


async def test_giving_up_frees_the_place() -> None:
    provider, gate = Scripted("one"), asyncio.Event()
    provider.gate = gate.wait  # type: ignore[assignment]
    tool = failover(Time(), Pace(concurrency=1), serper=provider)
    waiting = asyncio.create_task(titles(tool))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert await titles(tool) == ["one"]


def test_one_list_serves_several_event_loops() -> None:
    tool = failover(Time(), Pace(concurrency=1), serper=Scripted("one"))
    for _ in range(3):
        assert asyncio.run(_many(tool)) == [["one"]] * 5


async def _many(tool: FailOver) -> list[list[str]]:
    return await asyncio.gather(*(titles(tool) for _ in range(5)))


async def test_every_request_is_a_call_with_its_price() -> None:
    meter = Meter(prices={"serper": 0.001, "brave": 0.005})
    tool = failover(Time(), serper=Scripted(DOWN), brave=Scripted("two"))
    with meter.open():
        await titles(tool)
    assert [(c.tool, c.provider, c.cost) for c in meter.calls] == [
        ("text_search", "serper", 0.0),
        ("text_search", "brave", 0.005),
    ]
    assert meter.calls[0].error == "Serper is not working at the moment (500)." and meter.calls[1].error is None


async def test_a_request_without_an_answer_may_have_been_billed() -> None:
    meter = Meter(prices={"serper": 0.001})
    with meter.open(), pytest.raises(ToolError):
        await failover(Time(), serper=Scripted(TimedOut("late"))).search("x", 5)
    assert [c.cost for c in meter.calls] == [0.001, 0.001]


async def test_a_spent_budget_ends_the_search() -> None:
    first, second = Scripted("one"), Scripted("two")
    tool = failover(Time(), serper=first, brave=second)
    meter = Meter(prices={"serper": 0.001, "brave": 0.005}, purses=(Purse(Budget(calls=1), "question"),))
    with meter.open():
        assert await titles(tool) == ["one"]
        with pytest.raises(BudgetSpent):
            await titles(tool)
    assert len(first.asked) == 1 and not second.asked and tool.lanes[0].rest == 0.0


async def test_any_mixture_of_faults_ends() -> None:
    """Whatever providers do, a search ends, and within the pauses that were promised."""
    import random

    chance = random.Random(5)
    faults: list[Exception] = [
        LIMITED,
        DOWN,
        ProviderError("x", "rate", 3.0),
        ProviderError("x", "key"),
        ProviderError("x", "answer"),
        TimedOut("x"),
        Unreachable("x"),
    ]
    for _ in range(100):
        time = Time()
        scripts = [Scripted(*(chance.choice([*faults, "found"]) for _ in range(30))) for _ in range(3)]
        tool = failover(time, **dict(zip(("a", "b", "c"), scripts, strict=True)))
        for _ in range(15):
            began = time.now
            try:
                assert await titles(tool) == ["found"]
            except ToolError as error:
                assert str(error)
            assert time.now - began <= tool.patience
            time.now += chance.random()
