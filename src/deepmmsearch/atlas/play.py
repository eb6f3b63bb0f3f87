"""Many questions at once through the one loop, and how well they were answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from PIL.Image import Image

from deepmmsearch.agent import PAPER_LIMITS, Toolbox, play
from deepmmsearch.atlas.questions import KINDS
from deepmmsearch.judge import is_correct
from deepmmsearch.types import Box, Limits, Observation, Policy, Prompt, Question, Trajectory

ToolsFor = Callable[[Question], Toolbox]


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

    An error of the policy becomes the trajectory's error; the other episodes go on.
    """

    async def one(question: Question) -> Trajectory:
        start = Trajectory(question, prompt, policy=label)
        try:
            return await play(start, policy, tools_for(question), limits)
        # The runner's border: one episode's failure is data, the others go on.
        except Exception as error:
            return start.failed(f"{type(error).__name__}: {error}")

    source = iter(questions)
    running: set[asyncio.Task[Trajectory]] = set()
    try:
        while True:
            while len(running) < concurrency and (question := next(source, None)) is not None:
                running.add(asyncio.create_task(one(question)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()


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


def without_pictures(trajectory: Trajectory) -> Trajectory:
    """Everything but the pixels: what scores and reports of many episodes need."""
    turns = tuple(
        replace(turn, observation=turn.observation and _without_pictures(turn.observation)) for turn in trajectory.turns
    )
    return replace(trajectory, question=replace(trajectory.question, image=None), turns=turns)


def _without_pictures(observation: Observation) -> Observation:
    hits = tuple(replace(hit, image=None) for hit in observation.hits)
    return replace(observation, images=(), hits=hits, crop=None)
