"""Rollouts: the ordinary episode, many at once, a reward at its end, and an eye on where the time goes.

There is no barrier between turns: an episode that waits for a tool is out of the policy's batch and joins a later one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from deepmmsearch.agent import PAPER_LIMITS, Toolbox
from deepmmsearch.agent.runner import AgentWorkflow, ToolsFor, play_safely, reason
from deepmmsearch.errors import UserError
from deepmmsearch.rewards import Reward, Score
from deepmmsearch.types import (
    Action,
    Answer,
    Limits,
    Malformed,
    Observation,
    Policy,
    Prompt,
    Question,
    Trajectory,
)

POINTLESS = (UserError, torch.OutOfMemoryError)
"""What training does not get over."""


@dataclass(frozen=True)
class Rollout:
    """One episode and what it was worth. `score` is None where the episode failed, or no verdict could be had:
    `unjudged` says why. Such a rollout is kept and counted, but nothing is learned from it."""

    trajectory: Trajectory
    score: Score | None
    unjudged: str | None = None

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
        agent = AgentWorkflow(policy, self.prompt, self._bounded, self.limits, self.label)
        played = await play_safely(agent, question, fatal=POINTLESS)
        if played.error is not None:
            return Rollout(played, None)
        try:
            return Rollout(played, await self.reward(played))
        except POINTLESS:
            raise
        # a judge that is down takes no episode with it
        except Exception as error:
            return Rollout(played, None, reason(error))

    def _bounded(self, question: Question) -> Toolbox:
        return replace(self.tools_for(question), timeout=self.timeout)


def numbered(question: Question, round_: int, member: int) -> Question:
    """The question as the `member`-th of its group in a round: the sampler's seed depends on it."""
    return replace(question, metadata={**question.metadata, "rollout": f"{round_}.{member}"})
