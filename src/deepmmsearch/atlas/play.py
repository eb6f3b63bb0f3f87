"""Many questions at once through the one loop, and how well they were answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from PIL.Image import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.protocols import Grounder
from deepmmsearch.agent.runner import ToolsFor, play_all, without_pictures
from deepmmsearch.atlas.questions import KINDS
from deepmmsearch.atlas.worlds import Worlds
from deepmmsearch.judge import is_correct
from deepmmsearch.types import Box, Limits, Policy, Prompt, Question, Trajectory

__all__ = [
    "GoldGrounder",
    "Score",
    "ToolsFor",
    "by_kind",
    "correct",
    "play_all",
    "play_worlds",
    "score_rows",
    "with_gold_boxes",
    "without_pictures",
]


@dataclass(frozen=True)
class GoldGrounder:
    """Grounder that knows one question's gold box: for the oracle, which cannot see."""

    box: Box | None

    async def locate(self, image: Image, phrase: str) -> list[Box]:
        return [self.box] if self.box else []


def with_gold_boxes(tools: Toolbox) -> ToolsFor:
    """The same tools for every question, each with its own gold box as grounding."""

    def tools_for(question: Question) -> Toolbox:
        box = question.metadata.get("gold_box")
        return replace(tools, grounder=GoldGrounder(Box(*box) if box else None))

    return tools_for


def play_worlds(
    worlds: Worlds, policy: Policy, grounder: Grounder, prompt: Prompt, limits: Limits, concurrency: int = 32
) -> list[Trajectory]:
    """The questions of several worlds, each with the tools of its own."""
    tools = {name: replace(worlds.toolbox(name), grounder=grounder) for name in worlds.worlds}

    def tools_for(question: Question) -> Toolbox:
        return tools[str(question.metadata["world"])]

    async def play() -> list[Trajectory]:
        return [t async for t in play_all(worlds, policy, tools_for, prompt, limits, concurrency)]

    return asyncio.run(play())


@dataclass(frozen=True)
class Score:
    """Of `count` answers `right` were right, after `searches` searches in all."""

    count: int = 0
    right: int = 0
    searches: int = 0

    @property
    def accuracy(self) -> float:
        return self.right / self.count if self.count else 0.0

    @property
    def searches_each(self) -> float:
        return self.searches / self.count if self.count else 0.0

    def plus(self, trajectory: Trajectory) -> Score:
        right = self.right + correct(trajectory)
        return Score(self.count + 1, right, self.searches + len(trajectory.searches))


def correct(trajectory: Trajectory) -> bool:
    return is_correct(trajectory.answer, trajectory.question.answers)


def by_kind(trajectories: Iterable[Trajectory]) -> dict[str, Score]:
    """Scores by question kind, in the order of the atlas, unknown kinds last; "all" is the sum."""
    scores: dict[str, Score] = {}
    for trajectory in trajectories:
        for kind in (str(trajectory.question.metadata.get("kind", "other")), "all"):
            scores[kind] = scores.get(kind, Score()).plus(trajectory)
    order = [*(k for k in KINDS if k in scores), *sorted(k for k in scores if k not in (*KINDS, "all")), "all"]
    return {kind: scores[kind] for kind in order if kind in scores}


def score_rows(players: Mapping[str, Mapping[str, Score]]) -> list[list[str]]:
    """`by_kind` of several players as a table: a row for each kind of the first, for "all", and for searches."""
    rows = []
    for kind in next(iter(players.values())):
        scores = [own.get(kind) for own in players.values()]
        rows.append([kind.replace("_", " "), *(f"{s.right}/{s.count} {s.accuracy:4.0%}" if s else "-" for s in scores)])
    rows.append(["searches a question", *(f"{own['all'].searches_each:.2f}" for own in players.values())])
    return rows
