"""The loop: `episode` plays one question turn by turn.

There is no second loop: inference, teacher data, evaluation and rollouts all run this one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from deepmmsearch.agent.dialect import Forgiving, find_dialect, parse_action
from deepmmsearch.agent.table import Tool
from deepmmsearch.thoughts import without_thoughts
from deepmmsearch.types import (
    PAPER_LIMITS,
    Action,
    Answer,
    Completion,
    Limits,
    Malformed,
    Observation,
    Policy,
    Trajectory,
    Turn,
)


class Tools(Protocol):
    """What the loop asks of tools; `Toolbox` is the one that there is, others may stand around it."""

    @property
    def offered(self) -> Sequence[Tool]:
        """What the policy may use."""
        ...

    async def execute(self, action: Action, trajectory: Trajectory, limits: Limits = PAPER_LIMITS) -> Observation: ...


async def episode(
    start: Trajectory, policy: Policy, tools: Tools, limits: Limits = PAPER_LIMITS, lenient: bool = False
) -> AsyncIterator[Trajectory]:
    """The trajectory after each turn, until it stops. Errors of the policy pass through; those of tools do not.

    `lenient`: turns need not keep the form, for people who wait for an answer. Never where the form is a part of the
    score.
    """
    trajectory = start
    while trajectory.stop is None:
        completion = await policy.act(trajectory)
        ended = completion.finish == "stop"
        action = _read(completion, trajectory, tools.offered)
        if lenient and ended and isinstance(action, Malformed):
            action = _forgiven(completion, trajectory, tools.offered) or action
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


def _read(completion: Completion, trajectory: Trajectory, offered: Sequence[Tool]) -> Action:
    text, ended = completion.text, completion.finish == "stop"
    if completion.thoughts and not text.strip():
        text = f"<think>{completion.thoughts}</think>"  # so that the dialect can say what the turn consists of
    action = parse_action(text, trajectory.prompt.dialect, ended=ended, tools=offered)
    if isinstance(action, Malformed) and completion.remark:
        return Malformed(f"{action.problem} {completion.remark}")
    return action


def _forgiven(completion: Completion, trajectory: Trajectory, offered: Sequence[Tool]) -> Action | None:
    """What a malformed turn means. Words alone are an answer the second time: by then the policy was told the form."""
    dialect = find_dialect(trajectory.prompt.dialect)
    if not isinstance(dialect, Forgiving):
        return None
    action = dialect.forgive(completion.text, offered)
    last = trajectory.turns[-1] if trajectory.turns else None
    if action is not None or last is None or not isinstance(last.action, Malformed):
        return action
    said = without_thoughts(completion.text)
    plain = all(dialect.is_plain(text, offered) for text in (completion.text, last.completion.text))
    return Answer(said, formed=False) if said and plain else None
