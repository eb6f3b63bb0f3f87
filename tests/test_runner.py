"""The border around the loop: what fails in an episode ends it and nothing else, and what it took is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.metering import calling
from deepmmsearch.agent.runner import AgentWorkflow, Streak, guarded, play_safely, run_all
from deepmmsearch.errors import Failed, UnknownName, UserError
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import FakeTools, ScriptedPolicy
from deepmmsearch.types import Completion, Hit, Observation, Policy, Question, TextSearch, Trajectory

PROMPT = load_prompt("deepmmsearch-r1")
READ = "<reason>I read.</reason><text_search>capital of Veld</text_search>"
SAY = "<reason>I know.</reason><answer>Oru</answer>"


def question(number: int = 0) -> Question:
    return Question(f"q{number}", "What is the capital?", answers=("Oru",))


def agent(policy: Policy, tools: Toolbox | None = None) -> AgentWorkflow:
    return AgentWorkflow(policy, PROMPT, lambda _: tools or FakeTools().toolbox(), label="me")


class Failing:
    """Reads once, then raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def act(self, trajectory: Trajectory) -> Completion:
        if trajectory.turns:
            raise self.error
        return Completion(READ)


async def seen(policy: Policy, **options: object) -> list[Trajectory]:
    played = agent(policy)
    return [t async for t in guarded(played, question(), **options)]  # type: ignore[arg-type]


async def test_what_was_played_is_kept_with_the_error_and_nothing_is_raised() -> None:
    for error, said in (
        (KeyError("x"), "KeyError: 'x'"),
        (UserError("The picture is too large."), "The picture is too large."),
        (Failed("It is down: http://a.test/?api_key=secret"), "It is down: http://a.test/?api_key=***"),
        (TimeoutError("the socket"), "TimeoutError: the socket"),
    ):
        first, last = await seen(Failing(error), timeout=60.0)
        assert (first.stop, last.stop, last.error) == (None, "error", said)
        assert first.turns == last.turns and [t.action for t in last.turns] == [TextSearch("capital of Veld")]


async def test_what_ends_more_than_the_episode_is_raised_unless_something_is_merely_down() -> None:
    with pytest.raises(UnknownName):
        await seen(Failing(UnknownName("model", "x", ["y"])), fatal=(UnknownName,))
    assert (await seen(Failing(Failed("The server is down.")), fatal=(UserError,)))[-1].error == "The server is down."


async def test_a_player_that_cannot_even_begin_is_a_failed_episode() -> None:
    def tools_for(asked: Question) -> Toolbox:
        raise KeyError(asked.metadata["world"])

    broken = AgentWorkflow(ScriptedPolicy(SAY), PROMPT, tools_for)
    failed = await play_safely(broken, question())
    assert failed.error == "KeyError: 'world'" and failed.question.id == "q0"


class Hanging:
    """Reads once, then never comes back; says when it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def act(self, trajectory: Trajectory) -> Completion:
        if not trajectory.turns:
            return Completion(READ)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError("it never comes back")


async def test_too_late_keeps_the_turns_and_cancels_what_hangs() -> None:
    policy = Hanging()
    _, last = await seen(policy, timeout=0.05)
    assert (last.error, len(last.turns), policy.cancelled) == ("No answer within 0.05 s.", 1, 1)


async def test_who_stops_listening_leaves_nothing_running() -> None:
    policy, instant = Hanging(), ScriptedPolicy(SAY)

    class Both:
        async def act(self, trajectory: Trajectory) -> Completion:
            return await (instant if trajectory.question.id == "q0" else policy).act(trajectory)

    played = agent(Both())
    rows = run_all([question(n) for n in range(4)], played, concurrency=4)
    assert (await anext(rows)).answer == "Oru"
    await rows.aclose()  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_completion_tells_its_seconds_and_an_episode_adds_up() -> None:
    played = agent(ScriptedPolicy(READ, SAY))
    last = await play_safely(played, question())
    assert all(completion.seconds > 0 for completion in last.completions)
    assert last.seconds == sum(turn.seconds for turn in last.turns) > sum(c.seconds for c in last.completions)


async def test_a_question_that_is_long_in_the_making_stops_no_episode() -> None:
    """Its picture may be one that takes seconds to decode."""
    playing = threading.Event()

    class Telling:
        async def act(self, trajectory: Trajectory) -> Completion:
            playing.set()
            return Completion(SAY)

    def questions() -> Iterator[Question]:
        yield question(0)
        assert playing.wait(60), "nothing is played while the second question is made"
        yield question(1)

    rows = [t async for t in run_all(questions(), agent(Telling()), concurrency=2)]
    assert [t.answer for t in rows] == ["Oru", "Oru"]


# -- too many failures in a row


class Script:
    """Fails for the questions that it is told to, by number."""

    def __init__(self, *failing: int) -> None:
        self.failing = {f"q{n}" for n in failing}

    async def act(self, trajectory: Trajectory) -> Completion:
        if trajectory.question.id in self.failing:
            raise Failed("Nothing answers.")
        return Completion(SAY)


async def collected(rows: AsyncIterator[Trajectory]) -> tuple[list[str | None], str]:
    errors: list[str | None] = []
    try:
        async for trajectory in rows:
            errors.append(trajectory.error)
    except Failed as failure:
        return errors, str(failure)
    return errors, ""


async def test_so_many_failures_in_a_row_end_the_run_and_all_of_them_are_given() -> None:
    def rows(policy: Policy, most: int | None, concurrency: int = 1) -> AsyncIterator[Trajectory]:
        played = agent(policy)
        streak = Streak(most, "questions", "Run again.")
        return run_all([question(n) for n in range(20)], played, concurrency, streak=streak)

    errors, said = await collected(rows(Script(*range(20)), 8))
    assert len(errors) == 8
    assert said == "8 questions in a row ended in an error, the last with: Nothing answers. Run again."
    # what is in play is waited for, and given too
    errors, said = await collected(rows(Script(*range(20)), 8, concurrency=4))
    assert 8 <= len(errors) <= 11 and said
    # one that works between them begins a new row
    errors, said = await collected(rows(Script(*(n for n in range(20) if n % 8 != 7)), 8))
    assert (len(errors), said) == (20, "")
    errors, said = await collected(rows(Script(*range(20)), None))
    assert (len(errors), said) == (20, "")


# -- tools that hang


class Bought:
    """A search that is paid for; its reader hangs."""

    name = "serper"

    async def search(self, query: str, k: int) -> list[Hit]:
        with calling("text_search", self.name, 0.25):
            return [Hit("Veld", "https://veld.test/", "short")]

    async def read(self, url: str) -> object:
        with calling("reader", "web"):
            await asyncio.Event().wait()
        raise AssertionError("it never comes back")


async def test_a_tool_that_hangs_is_an_observation_and_what_was_paid_before_is_counted() -> None:
    tools = Toolbox(text_search=Bought(), reader=Bought(), timeout=0.05)  # type: ignore[arg-type]
    played = agent(ScriptedPolicy(READ, SAY), tools)
    last = await play_safely(played, question())
    observation = last.turns[0].observation
    assert isinstance(observation, Observation) and "did not answer within 0.05 s" in (observation.error or "")
    assert [(c.tool, c.cost, c.error) for c in observation.calls] == [
        ("text_search", 0.25, None),
        ("reader", 0.0, "It was not waited for any longer."),
    ]
    assert (last.answer, last.cost) == ("Oru", 0.25)
