"""Rollouts: the ordinary episode, many at once, a reward at its end, and an eye on where the time goes.

There is no barrier between turns: an episode that waits for a tool is out of the policy's batch and joins a later one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from deepmmsearch.agent import PAPER_LIMITS, Tools, play
from deepmmsearch.agent.runner import Timed
from deepmmsearch.agent.table import Tool
from deepmmsearch.errors import UserError
from deepmmsearch.rewards import Reward, Score
from deepmmsearch.types import (
    Action,
    Answer,
    Call,
    Limits,
    Malformed,
    Observation,
    Policy,
    Prompt,
    Question,
    Trajectory,
)

ToolsFor = Callable[[Question], Tools]


@dataclass(frozen=True)
class Rollout:
    """One episode and what it was worth. `score` is None where no verdict could be had."""

    trajectory: Trajectory
    score: Score | None

    @property
    def thinking(self) -> float:
        """Seconds that the episode waited for the policy."""
        return sum(turn.completion.seconds for turn in self.trajectory.turns)

    @property
    def tools(self) -> float:
        """Seconds that the episode waited for tools."""
        return sum(turn.observation.seconds for turn in self.trajectory.turns if turn.observation is not None)

    @property
    def failed(self) -> bool:
        """Something outside the policy's reach went wrong: the policy's server, the judge, or a tool."""
        broken = self.trajectory.stop == "error" or self.score is None
        return broken or any(tool_failed(turn.action, turn.observation) for turn in self.trajectory.turns)

    @property
    def truncated(self) -> bool:
        """Cut off by a token budget before it could answer."""
        return self.trajectory.stop in ("length", "context")


def tool_failed(action: Action, observation: Observation | None) -> bool:
    """Did a search bring nothing because a call failed? What the limits refuse is the policy's own doing."""
    if observation is None or isinstance(action, Answer | Malformed):
        return False
    return observation.error is not None and any(call.error is not None for call in observation.calls)


@dataclass
class _BoundedTools:
    """The tools with a bound on their time, so that no rollout hangs."""

    tools: Tools
    timeout: float

    @property
    def offered(self) -> Sequence[Tool]:
        return self.tools.offered

    async def execute(self, action: Action, trajectory: Trajectory, limits: Limits = PAPER_LIMITS) -> Observation:
        try:
            async with asyncio.timeout(self.timeout):
                return await self.tools.execute(action, trajectory, limits)
        except TimeoutError:
            said = f"The tool did not answer within {self.timeout:.0f} s. Try another query or answer."
            return Observation(f"Error: {said}", error=said, calls=(Call("tools", "", self.timeout, error=said),))


@dataclass(frozen=True)
class Player:
    """Plays questions to rollouts. `concurrency` bounds the episodes in play, `timeout` the seconds of one tool use."""

    tools_for: ToolsFor
    prompt: Prompt
    reward: Reward
    limits: Limits = PAPER_LIMITS
    concurrency: int = 64
    timeout: float = 120.0
    label: str = ""

    async def play(self, questions: Sequence[Question], policy: Policy) -> list[Rollout]:
        """One rollout for each question, in order. Raises what makes training pointless (out of memory, a model that
        cannot be rendered); any other failure of one episode is data."""
        gate = asyncio.Semaphore(self.concurrency)

        async def one(question: Question) -> Rollout:
            async with gate:
                return await self._episode(question, policy)

        return list(await asyncio.gather(*(one(question) for question in questions)))

    async def _episode(self, question: Question, policy: Policy) -> Rollout:
        start = Trajectory(question, self.prompt, policy=self.label)
        tools = _BoundedTools(self.tools_for(question), self.timeout)
        score: Score | None = None
        try:
            played = await play(start, Timed(policy), tools, self.limits)
            score = await self.reward(played)
        except (UserError, torch.OutOfMemoryError):
            raise
        # The runner's border: one episode's failure is data, the others go on.
        except Exception as error:
            played = start.failed(f"{type(error).__name__}: {error}")
        return Rollout(played, score)


def numbered(question: Question, round_: int, member: int) -> Question:
    """The question as the `member`-th of its group in a round: the sampler's seed depends on it."""
    return replace(question, metadata={**question.metadata, "rollout": f"{round_}.{member}"})
