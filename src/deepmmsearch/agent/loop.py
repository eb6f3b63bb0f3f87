"""The loop: `episode` plays one question turn by turn.

There is no second loop: inference, teacher data, evaluation and rollouts all run this one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from deepmmsearch.agent.dialect import parse_action
from deepmmsearch.agent.table import Tool
from deepmmsearch.types import PAPER_LIMITS, Action, Answer, Limits, Observation, Policy, Trajectory, Turn


class Tools(Protocol):
    """What the loop asks of tools; `Toolbox` is the one that there is, others may stand around it."""

    @property
    def offered(self) -> Sequence[Tool]:
        """What the policy may use."""
        ...

    async def execute(self, action: Action, trajectory: Trajectory, limits: Limits = PAPER_LIMITS) -> Observation: ...


async def episode(
    start: Trajectory, policy: Policy, tools: Tools, limits: Limits = PAPER_LIMITS
) -> AsyncIterator[Trajectory]:
    """The trajectory after each turn, until it stops. Errors of the policy pass through; those of tools do not."""
    trajectory = start
    while trajectory.stop is None:
        completion = await policy.act(trajectory)
        ended = completion.finish == "stop"
        action = parse_action(completion.text, trajectory.prompt.dialect, ended=ended, tools=tools.offered)
        done = isinstance(action, Answer) or not ended
        observation = None if done else await tools.execute(action, trajectory, limits)
        trajectory = trajectory.then(Turn(completion, action, observation), limits)
        yield trajectory


async def play(start: Trajectory, policy: Policy, tools: Tools, limits: Limits = PAPER_LIMITS) -> Trajectory:
    """The whole episode, for callers who do not watch the turns."""
    last = start
    async for trajectory in episode(start, policy, tools, limits):
        last = trajectory
    return last
