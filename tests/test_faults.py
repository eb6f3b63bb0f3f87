from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from deepmmsearch.agent import Toolbox, play
from deepmmsearch.agent.metering import Budget, Ledger, tally_by_tool
from deepmmsearch.errors import ToolError
from deepmmsearch.testing import ScriptedPolicy
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.recorded import RecordedReader, RecordedTextSearch
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.types import Hit, Limits, Prompt, Question, Trajectory

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from reliability import FAULTS, faults

SEARCH = "<reason>r</reason><text_search>veld</text_search>"
DONE = "<reason>r</reason><answer>Oru</answer>"


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_of_a_server_reaches_the_policy_as_words(fault: str) -> None:
    """Whole episodes over real sockets: half of all requests go wrong."""
    async with asyncio.timeout(60):
        outcome = await faults(fault, 0.5, episodes=6, turns=3, timeout=0.5, hurry=50.0)
    assert outcome.answered == outcome.episodes == 6
    assert outcome.searches == 18 and outcome.lost == 0 and outcome.over_budget == 0
    assert outcome.said > 0 and outcome.succeeded < 1.0
    if fault == "reset":
        assert any("127.0.0.1 broke the connection" in text for text in outcome.examples), outcome.examples
    assert all(text.endswith((".", ")")) or "budget" in text for text in outcome.examples), outcome.examples


async def test_without_faults_nothing_fails() -> None:
    outcome = await faults("all", 0.0, episodes=6, turns=3, timeout=30.0, hurry=50.0)
    assert (outcome.answered, outcome.said, outcome.lost, outcome.succeeded) == (6, 0, 0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
async def test_more_faults_mean_fewer_successes_and_no_other_harm(rate: float) -> None:
    outcome = await faults("all", rate, timeout=5.0)
    assert outcome.answered == outcome.episodes and outcome.lost == outcome.over_budget == 0
    # fewer than 1 - rate: a search may take several requests, and a provider that refused one is left alone for a while
    assert 0 < outcome.succeeded < 1 - rate + 0.1


class Broken:
    """A tool that raises whatever it is told to."""

    name = "broken"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def search(self, query: str, k: int) -> list[Hit]:
        raise self.error

    async def read(self, url: str) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [ToolError("It is down."), ToolError(""), ValueError("secret"), RecursionError(), MemoryError(), TimeoutError()],
    ids=lambda e: f"{type(e).__name__}({e})",
)
@pytest.mark.parametrize("recorded", [False, True])
async def test_whatever_a_tool_raises_the_episode_goes_on(error: Exception, recorded: bool, tmp_path: Path) -> None:
    tool: object = Broken(error)
    if recorded:
        tool = RecordedTextSearch(tool, Recorder(Cassette(tmp_path / "c.sqlite")))  # type: ignore[arg-type]
    start = Trajectory(Question("q", "Whose?"), Prompt("p", "deepmmsearch-r1", "s", "{question}"))
    toolbox = Toolbox(text_search=tool)  # type: ignore[arg-type]
    played = await play(start, ScriptedPolicy(SEARCH, DONE), toolbox)
    seen = played.turns[0].observation
    assert played.answer == "Oru" and seen is not None
    assert seen.error is not None and seen.text.startswith("Error: ") and "secret" not in seen.text
    assert len(seen.calls) == 1 and seen.calls[0].error
    if error.args and error.args[0] == "It is down.":
        assert seen.text == "Error: It is down."


async def test_pages_that_fail_are_told_apart_in_the_success_rate(tmp_path: Path) -> None:
    class Search:
        name = "fine"

        async def search(self, query: str, k: int) -> list[Hit]:
            return [Hit(f"{n}", f"https://veld.test/{n}", "short") for n in range(3)]

    reader = RecordedReader(Broken(ToolError("403")), Recorder(Cassette(tmp_path / "c.sqlite")))  # type: ignore[arg-type]
    start = Trajectory(Question("q", "Whose?"), Prompt("p", "deepmmsearch-r1", "s", "{question}"))
    played = await play(start, ScriptedPolicy(SEARCH, DONE), Toolbox(text_search=Search(), reader=reader))
    tallies = tally_by_tool(played.calls)
    assert tallies["text_search"].succeeded == 1.0 and tallies["reader"].succeeded == 0.0
    assert tallies["reader"].calls == 3


async def test_a_policy_that_never_stops_searching_ends_within_limits_and_budget() -> None:
    start = Trajectory(Question("q", "Whose?"), Prompt("p", "deepmmsearch-r1", "s", "{question}"))
    toolbox = Toolbox(text_search=Broken(ToolError("Down.")), ledger=Ledger(question=Budget(calls=4)))
    played = await play(start, ScriptedPolicy(*[SEARCH] * 20), toolbox, Limits(calls=10))
    assert played.stop == "turns" and len(played.turns) == 11 and len(played.calls) == 4
