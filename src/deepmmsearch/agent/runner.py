"""The border around the loop: what an episode takes is measured here, and what fails in it ends it and nothing else.

Whoever plays goes through `guarded`, for one episode turn by turn, or through `run_all`, for many at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from deepmmsearch.agent.loop import episode
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.errors import Failed, ToolError, UserError
from deepmmsearch.redaction import without_secrets
from deepmmsearch.types import PAPER_LIMITS, Completion, Limits, Observation, Policy, Prompt, Question, Trajectory

RAMP, LONGEST_RAMP = 0.005, 5.0
"""Seconds between the first starts, and for all of them together at most."""
BUDGET_SPENT = (
    "The budget of this run is used up, and there are questions left. What was played is kept: raise budget.run_calls "
    "or budget.run_money of the tools, and run again."
)

ToolsFor = Callable[[Question], Toolbox]


class Workflow(Protocol):
    """A way to answer. `blank` is the trajectory that it begins with, without a question."""

    @property
    def blank(self) -> Trajectory: ...

    def play(self, question: Question) -> AsyncIterator[Trajectory]:
        """The trajectory as it grows, the last one finished."""
        ...

    def spent(self, question: Question) -> bool:
        """Is the budget of the run used up, so that the question is not to be begun?"""
        ...


@dataclass(frozen=True)
class Timed:
    """A policy whose completions tell the seconds that they took, with all waiting."""

    policy: Policy

    async def act(self, trajectory: Trajectory) -> Completion:
        began = time.perf_counter()
        completion = await self.policy.act(trajectory)
        return replace(completion, seconds=time.perf_counter() - began)


@dataclass(frozen=True)
class AgentWorkflow:
    """The model decides: a prompt agent or a trained one, in the dialect of its prompt. Without tools, and with a
    prompt that names none, it answers directly. `label` names the policy in its trajectories; `lenient` as in
    `episode`; `translate` gives the prompt in the question's language."""

    policy: Policy
    prompt: Prompt
    tools_for: ToolsFor
    limits: Limits = PAPER_LIMITS
    label: str = ""
    lenient: bool = False
    translate: Callable[[Prompt, Question], Prompt] | None = None

    @property
    def blank(self) -> Trajectory:
        return Trajectory(Question("", ""), self.prompt, policy=self.label)

    def play(self, question: Question) -> AsyncIterator[Trajectory]:
        start = replace(self.blank, question=question)
        if self.translate is not None:
            start = replace(start, prompt=self.translate(start.prompt, question))
        return episode(start, Timed(self.policy), self.tools_for(question), self.limits, self.lenient)

    def spent(self, question: Question) -> bool:
        return self.tools_for(question).ledger.run.spent


LATE = "No answer within {seconds:g} s."


async def guarded(
    workflow: Workflow, question: Question, timeout: float | None = None, fatal: tuple[type[Exception], ...] = ()
) -> AsyncIterator[Trajectory]:
    """What `workflow` makes of the question. Where it fails, or takes longer than `timeout` seconds, the trajectory as
    far as it came is given last, with the error.

    Raises `fatal`, what ends more than this episode, unless something is merely down (Failed).
    """
    clock = asyncio.get_running_loop().time
    last, deadline = replace(workflow.blank, question=question), None if timeout is None else clock() + timeout
    stream: AsyncIterator[Trajectory] | None = None
    try:
        stream = workflow.play(question)
        while True:
            # not around the whole: what the caller does between two turns must not be cancelled
            async with asyncio.timeout_at(deadline):
                last = await anext(stream)
            yield last
    except StopAsyncIteration:
        return
    # one episode's failure is data, the others go on
    except Exception as error:
        if isinstance(error, fatal) and not isinstance(error, Failed):
            raise
        late = isinstance(error, TimeoutError) and deadline is not None and clock() >= deadline
        yield last.failed(LATE.format(seconds=timeout) if late else reason(error))
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


async def play_safely(
    workflow: Workflow, question: Question, timeout: float | None = None, fatal: tuple[type[Exception], ...] = ()
) -> Trajectory:
    """The last of `guarded`."""
    last = replace(workflow.blank, question=question)
    async for trajectory in guarded(workflow, question, timeout, fatal):
        last = trajectory
    return last


def reason(error: Exception) -> str:
    """The error as a trajectory keeps it: what is written for people as it stands, anything else with its kind."""
    written = isinstance(error, UserError | ToolError) and str(error)
    return without_secrets(str(error) if written else f"{type(error).__name__}: {error}")


class Streak:
    """Failures in a row of `what` (a plural). From `most` on (None: never) it is not the single ones that fail."""

    def __init__(self, most: int | None, what: str, advice: str) -> None:
        self.most, self.what, self.advice = most, what, advice
        self.length = 0

    def add(self, error: str | None) -> Failed | None:
        """What is to be raised, once there are too many."""
        self.length = 0 if error is None else self.length + 1
        if error is None or self.most is None or self.length < self.most:
            return None
        return Failed(
            f"{self.length} {self.what} in a row ended in an error, the last with: {error.rstrip('.')}. {self.advice}"
        )


async def run_all(
    questions: Iterable[Question],
    workflow: Workflow,
    concurrency: int = 16,
    timeout: float | None = None,
    streak: Streak | None = None,
) -> AsyncIterator[Trajectory]:
    """The finished trajectories as they come, at most `concurrency` in play; questions are taken as they are needed.

    `timeout`: seconds for one question, then it has failed. Raises Failed when `streak` is too long, or when the run's
    budget is used up and there are questions left; what is in play then is played to its end and given before.

    The first ones start RAMP apart. Started together they would march in step: all prepare their requests, then all
    wait; apart, what one costs this process falls into the waits of the others, and no endpoint meets all at once.
    """
    source, at_hand = iter(questions), isinstance(questions, Sequence)
    running: set[asyncio.Task[Trajectory]] = set()
    # `asyncio.wait` goes through all that are running each time one ends
    finished: asyncio.Queue[asyncio.Task[Trajectory]] = asyncio.Queue()
    started = 0
    failure: Failed | None = None
    try:
        while True:
            while failure is None and len(running) < concurrency:
                # what makes questions may decode their pictures meanwhile, and takes as long as it takes
                question = next(source, None) if at_hand else await asyncio.to_thread(next, source, None)
                if question is None:
                    break
                if _spent(workflow, question):
                    failure = Failed(BUDGET_SPENT)
                    break
                task = asyncio.create_task(play_safely(workflow, question, timeout))
                task.add_done_callback(finished.put_nowait)
                running.add(task)
                started += 1
                if started < concurrency:
                    await asyncio.sleep(min(RAMP, LONGEST_RAMP / concurrency))
            if not running:
                break
            done = [await finished.get()]
            while not finished.empty():
                done.append(finished.get_nowait())
            running.difference_update(done)
            for task in done:
                trajectory = task.result()
                yield trajectory
                if streak is not None and failure is None:
                    failure = streak.add(trajectory.error)
        if failure is not None:
            raise failure
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _spent(workflow: Workflow, question: Question) -> bool:
    try:
        return workflow.spent(question)
    # what fails here fails again when the question is played, where it is kept
    except Exception:
        return False


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
