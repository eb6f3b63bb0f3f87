"""Many questions at once through the one loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile

from deepmmsearch.agent import PAPER_LIMITS, Toolbox, episode
from deepmmsearch.types import Completion, Limits, Observation, Policy, Prompt, Question, Trajectory

RAMP = 0.005
"""Seconds between the first starts."""

ToolsFor = Callable[[Question], Toolbox]
Player = Callable[[Question], AsyncIterator[Trajectory]]
"""The trajectory of a question after each turn, the last one finished."""


@dataclass(frozen=True)
class Timed:
    """A policy whose completions tell the seconds that they took, with all waiting."""

    policy: Policy

    async def act(self, trajectory: Trajectory) -> Completion:
        began = time.perf_counter()
        completion = await self.policy.act(trajectory)
        return replace(completion, seconds=time.perf_counter() - began)


async def play_all(
    questions: Iterable[Question],
    policy: Policy,
    tools_for: ToolsFor,
    prompt: Prompt,
    limits: Limits = PAPER_LIMITS,
    concurrency: int = 16,
    label: str = "",
) -> AsyncIterator[Trajectory]:
    """The finished trajectories as they come, at most `concurrency` in play; questions are taken as they are needed.

    An error of the policy becomes the trajectory's error, after the turns that were played; the other episodes go on.
    Once the run's budget is used up, no further question is taken; those in play read so, and answer.
    """
    questions = takewhile(lambda question: not tools_for(question).ledger.run.spent, questions)

    def player(question: Question) -> AsyncIterator[Trajectory]:
        start = Trajectory(question, prompt, policy=label)
        return episode(start, Timed(policy), tools_for(question), limits)

    async for trajectory in run_all(questions, player, Trajectory(Question("", ""), prompt, policy=label), concurrency):
        yield trajectory


async def run_all(
    questions: Iterable[Question],
    player: Player,
    blank: Trajectory,
    concurrency: int = 16,
    timeout: float | None = None,
) -> AsyncIterator[Trajectory]:
    """As `play_all`, for any player. `blank`: what a trajectory is that failed before its first turn, its question
    aside. `timeout`: seconds for one question, then it has failed.

    The first ones start RAMP apart. Started together they would march in step: all prepare their requests, then all
    wait; apart, what one costs this process falls into the waits of the others, and no endpoint meets all at once.
    """
    source = iter(questions)
    running: set[asyncio.Task[Trajectory]] = set()
    started = 0
    try:
        while True:
            while len(running) < concurrency and (question := next(source, None)) is not None:
                start = replace(blank, question=question)
                running.add(asyncio.create_task(play_safely(player, start, timeout)))
                started += 1
                if started < concurrency:
                    await asyncio.sleep(RAMP)
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()


async def play_safely(player: Player, start: Trajectory, timeout: float | None = None) -> Trajectory:
    """The finished trajectory; where something fails, the one as far as it came, with the error."""
    last = start
    try:
        async with asyncio.timeout(timeout):
            async for trajectory in player(start.question):
                last = trajectory
        return last
    except TimeoutError as error:
        return last.failed(f"No answer within {timeout:g} s." if timeout else f"TimeoutError: {error}")
    # The runner's border: one episode's failure is data, the others go on.
    except Exception as error:
        return last.failed(f"{type(error).__name__}: {error}")


def without_pictures(trajectory: Trajectory) -> Trajectory:
    """Everything but the pixels: what scores and reports of many episodes need."""
    turns = tuple(
        replace(turn, observation=turn.observation and _without_pictures(turn.observation)) for turn in trajectory.turns
    )
    context = tuple(_without_pictures(found) for found in trajectory.context)
    return replace(trajectory, question=replace(trajectory.question, images=()), context=context, turns=turns)


def _without_pictures(observation: Observation) -> Observation:
    hits = tuple(replace(hit, image=None) for hit in observation.hits)
    return replace(observation, images=(), hits=hits, crop=None)
