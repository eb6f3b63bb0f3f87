from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.agent import Toolbox, metering, play
from deepmmsearch.agent.metering import Budget, BudgetSpent, Ledger, Meter, Purse, Tally, calling, received, using
from deepmmsearch.agent.runner import AgentWorkflow, run_all
from deepmmsearch.console import Console
from deepmmsearch.errors import Failed, ToolError
from deepmmsearch.show import terminal
from deepmmsearch.testing import FakeTools, ScriptedPolicy
from deepmmsearch.types import Box, Call, Hit, Observation, Prompt, Question, Trajectory

PICTURE = Image.new("RGB", (40, 30), "red")
PROMPT = Prompt("p", "deepmmsearch-r1", "s", "{question}")
HITS = [Hit(f"Page {i}", f"https://veld.test/{i}", "short", 1.0) for i in range(3)]
SEARCH = "<reason>r</reason><text_search>veld</text_search>"
LOOK = "<reason>r</reason><img_search>the flag</img_search>"
DONE = "<reason>r</reason><answer>Oru</answer>"


def start(id: str = "q1") -> Trajectory:
    return Trajectory(Question(id, "Whose flag?", (PICTURE,)), PROMPT)


class Paid:
    """A provider that reports itself, and answers, or fails, after `seconds`."""

    name, price = "serper", 0.001

    def __init__(self, error: Exception | None = None, seconds: float = 0.0, size: int = 100) -> None:
        self.error, self.seconds, self.size, self.asked = error, seconds, size, 0

    async def search(self, query: str, k: int) -> list[Hit]:
        with calling("text_search", self.name, self.price):
            self.asked += 1
            await asyncio.sleep(self.seconds)
            received(self.size)
            if self.error is not None:
                raise self.error
            return HITS[:k]


def fake(**options: Any) -> Toolbox:
    pages = {hit.url: "Oru is the capital." for hit in HITS}
    return FakeTools({"veld": HITS}, HITS, {"the flag": [Box(1, 1, 20, 20, 0.9)]}, pages, **options).toolbox()


def kinds(calls: tuple[Call, ...]) -> list[str]:
    return [call.tool for call in calls]


async def test_every_tool_call_is_in_its_observation() -> None:
    played = await play(start(), ScriptedPolicy(LOOK, SEARCH, DONE), fake())
    looked, searched = (t.observation.calls for t in played.turns if t.observation)
    assert kinds(looked)[:2] == ["grounder", "image_search"]
    assert kinds(searched) == ["text_search", "reader", "reader", "reader", "summarizer"]
    assert all(c.seconds >= 0 and not c.cached and c.cost == 0 and c.error is None for c in played.calls)
    assert played.calls == looked + searched


async def test_a_paid_call_costs_what_its_provider_says_and_counts_its_bytes() -> None:
    toolbox = replace(fake(), text_search=Paid(size=1234))
    played = await play(start(), ScriptedPolicy(SEARCH, SEARCH, DONE), toolbox)
    call = played.calls[0]
    assert (call.provider, call.bytes, call.cost) == ("serper", 1234, Paid.price)
    assert [t.cost for t in played.turns] == [0.001, 0.001, 0.0] and played.cost == pytest.approx(0.002)
    dearer = replace(toolbox, ledger=Ledger({"serper": 0.5}))
    assert (await play(start(), ScriptedPolicy(SEARCH, DONE), dearer)).cost == 0.5


async def test_calls_of_one_observation_stand_in_the_order_in_which_they_began() -> None:
    meter = Meter()

    async def one(number: int) -> None:
        with calling("reader", f"p{number}"):
            await asyncio.sleep(0.02 * (5 - number))

    with meter.open():
        await asyncio.gather(*(one(n) for n in range(5)))
    assert [c.provider for c in meter.calls] == ["p0", "p1", "p2", "p3", "p4"]


async def test_calls_side_by_side_take_the_seconds_of_the_longest_and_calls_in_a_row_add_up() -> None:
    meter, all_read = Meter(), asyncio.Barrier(5)

    async def read() -> None:
        with calling("reader", "p"):
            await all_read.wait()

    with meter.open():
        with calling("text_search", "p"):
            await asyncio.sleep(0.001)
        await asyncio.gather(*(read() for _ in range(5)))
    search, *readers = meter.calls
    assert all(search.began + search.seconds <= call.began for call in readers)
    assert max(call.began for call in readers) <= min(call.began + call.seconds for call in readers)
    assert max(call.began + call.seconds for call in readers) == Observation("", calls=meter.calls).seconds


async def test_episodes_side_by_side_do_not_mix_their_calls() -> None:
    tool = Paid(seconds=0.01)
    toolbox = Toolbox(text_search=tool)
    starts = [start(f"q{n}") for n in range(20)]
    played = await asyncio.gather(*(play(s, ScriptedPolicy(SEARCH, SEARCH, DONE), toolbox) for s in starts))
    assert [len(t.calls) for t in played] == [2] * 20 and tool.asked == 40


async def test_a_failure_is_a_call_too() -> None:
    toolbox = replace(fake(), text_search=Paid(ToolError("It is down:\n?api_key=abc said no.")))
    played = await play(start(), ScriptedPolicy(SEARCH, DONE), toolbox)
    assert [c.error for c in played.calls] == ["It is down: ?api_key=*** said no."]
    crashed = replace(fake(), text_search=Paid(KeyError("secret")))
    assert (await play(start(), ScriptedPolicy(SEARCH, DONE), crashed)).calls[0].error == "KeyError"


async def test_the_price_may_be_known_only_after_the_call() -> None:
    purse = Purse(Budget(money=1.0), "run")
    meter = Meter(purses=(purse,))
    with meter.open(), calling("summarizer", "some model", price=0.2) as bill:
        assert purse.money == 0.2
        bill.cost = 0.05
    assert purse.money == pytest.approx(0.05) and meter.calls[0].cost == 0.05


async def test_without_a_meter_nothing_is_counted_and_everything_works() -> None:
    assert await Paid().search("veld", 2) == HITS[:2]
    with using("text_search", Paid()):
        assert metering.current() is None


async def test_a_questions_budget_of_calls_ends_in_words_that_the_policy_reads() -> None:
    ledger = Ledger(question=Budget(calls=3))
    tool = Paid()
    played = await play(start(), ScriptedPolicy(*[SEARCH] * 5, DONE), Toolbox(text_search=tool, ledger=ledger))
    assert tool.asked == 3 and played.answer == "Oru"
    said = [t.observation.error for t in played.turns if t.observation]
    assert said[:3] == [None] * 3
    assert said[3:] == ["The budget of this question is used up (3 of 3 calls). Answer."] * 2
    # refused calls were not made
    assert len([c for c in played.calls if c.error is None]) == 3
    # the next question has its own
    again = await play(start("q2"), ScriptedPolicy(SEARCH, DONE), Toolbox(text_search=tool, ledger=ledger))
    assert again.calls[0].error is None


async def test_money_is_never_overspent_and_the_last_call_that_fits_is_made() -> None:
    tool = Paid()
    ledger = Ledger({"serper": 0.1}, question=Budget(money=0.3))
    played = await play(start(), ScriptedPolicy(*[SEARCH] * 5, DONE), Toolbox(text_search=tool, ledger=ledger))
    assert tool.asked == 3 and played.cost == pytest.approx(0.3)
    seen = played.turns[3].observation
    assert seen is not None and seen.error == "The budget of this question is used up ($0.3 of $0.3). Answer."


async def test_what_costs_nothing_goes_on_when_the_money_is_gone() -> None:
    ledger = Ledger({"serper": 0.1}, question=Budget(money=0.1))
    toolbox = replace(fake(), text_search=Paid(), ledger=ledger)
    played = await play(start(), ScriptedPolicy(SEARCH, LOOK, SEARCH, DONE), toolbox)
    assert [t.observation.error is None for t in played.turns if t.observation] == [True, True, False]


async def test_pages_that_the_budget_does_not_reach_are_done_without() -> None:
    toolbox = replace(fake(), ledger=Ledger(question=Budget(calls=3)))
    played = await play(start(), ScriptedPolicy(SEARCH, DONE), toolbox)
    seen = played.turns[0].observation
    assert seen is not None
    assert kinds(tuple(c for c in seen.calls if c.error is None)) == ["text_search", "reader", "reader"]


async def test_the_runs_budget_holds_for_all_episodes_at_once_and_no_question_is_begun_after() -> None:
    tool = Paid(seconds=0.005)
    toolbox = Toolbox(text_search=tool, ledger=Ledger(run=Purse(Budget(calls=25), "run")))
    questions = [Question(f"q{n}", "Whose?", (PICTURE,)) for n in range(40)]
    policy = ScriptedPolicy(*[SEARCH] * 4, DONE)
    played = []
    with pytest.raises(Failed, match="budget of this run is used up"):
        async for trajectory in run_all(questions, AgentWorkflow(policy, PROMPT, lambda q: toolbox), 8):
            played.append(trajectory)
    assert tool.asked == 25
    assert 8 <= len(played) < 20 and all(t.answer == "Oru" and t.stop == "answer" for t in played)
    assert any("budget of this run" in str(t.turns[k].observation) for t in played for k in range(4))


def test_a_purse_takes_back_what_the_other_one_refused() -> None:
    rich, poor = Purse(Budget(calls=9), "run"), Purse(Budget(calls=0), "question")
    with pytest.raises(BudgetSpent):
        Meter(purses=(rich, poor)).take(0.5)
    assert (rich.calls, rich.money) == (0, 0.0)


def test_a_tally_tells_how_often_tools_succeeded() -> None:
    calls = [
        Call("reader", "web", 1.0, 10),
        Call("reader", "web", 2.0, 10, error="gone"),
        Call("text_search", "serper", 0.5, 5, cost=0.001),
        Call("reader", "web", 0.0, cached=True),
    ]
    tallies = metering.tally_by_tool(calls)
    assert list(tallies) == ["reader", "text_search"]
    assert tallies["reader"] == Tally(3, 1, 1, 3.0, 20, 0.0) and tallies["reader"].succeeded == pytest.approx(2 / 3)
    assert metering.tally(calls).cost == 0.001 and Tally().succeeded == 1.0


async def test_the_end_of_an_answer_says_what_it_took() -> None:
    played = await play(start(), ScriptedPolicy(SEARCH, DONE), replace(fake(), text_search=Paid()))
    turns = tuple(replace(t, completion=replace(t.completion, seconds=0.75)) for t in played.turns)
    played = replace(played, turns=turns)
    console = Console(file=io.StringIO(), width=100)
    terminal.show_end(console, played)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[-1] == "5 tool calls, 1.5 s, $0.001"
    spent = terminal.as_json(played)["spent"]
    assert (spent["calls"], spent["cached"], spent["failed"], spent["cost"]) == (5, 0, 0, 0.001)


@pytest.mark.parametrize(
    ("amount", "said"), [(0, "$0"), (0.00002, "<$0.0001"), (0.0015, "$0.0015"), (1.5, "$1.50"), (12, "$12.00")]
)
def test_money_is_readable(amount: float, said: str) -> None:
    assert terminal.dollars(amount) == said
