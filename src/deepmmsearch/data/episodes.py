"""Stage 2: the teacher plays every seed, and what passes the paper's three checks stays (section 3.2).

An episode is in the journal, a trajectory store, before it counts.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from deepmmsearch.agent.runner import AgentWorkflow, Streak, run_all
from deepmmsearch.data.recipe import Episodes, Pictures, Tries
from deepmmsearch.data.records import row_question, with_trajectory
from deepmmsearch.data.stages import ERROR, Counts, Stage
from deepmmsearch.data.tables import Row
from deepmmsearch.data.tasks import FAILURES, KEPT, PlayerFactory, encoding_of
from deepmmsearch.data.workers import Progress, Tell
from deepmmsearch.files import locked
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Malformed, Observation, Question, Trajectory


@dataclass(frozen=True)
class PlayEpisodes:
    """The episodes of a shard."""

    before: Stage
    stage: Stage
    settings: Episodes
    pictures: Pictures
    players: PlayerFactory
    tries: Tries
    retry_errors: bool = False

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        if self.stage.has(shard):
            return
        with locked(self.stage.folder / "journal" / f".{shard}.lock", private=True):
            began = time.perf_counter()
            store = TrajectoryStore(self.stage.journal_store(shard))
            known = {id for id, error in last_errors(store).items() if error is None or not self.retry_errors}
            questions = (row_question(row) for row in self.before.read(shard) if row["id"] not in known)
            counts = Counts(notes=Counter({"taken from an earlier run": len(known)} if known else {}))
            await self._play(shard, questions, store, tell)
            finished = dict(store.items())
            count_tries(store, counts)
            self.stage.finish(shard, self._rows(shard, finished, counts, began), counts)

    async def _play(self, shard: str, questions: Iterable[Question], store: TrajectoryStore, tell: Tell) -> None:
        async for trajectory, tried in played(self.players(shard), questions, self.settings, self.tries):
            await asyncio.to_thread(store.append, slim(trajectory, self.pictures), None, tried.about)
            tell(Progress(1, int(check(trajectory, self.settings) is None), trajectory.cost + tried.spoiled))

    def _rows(self, shard: str, finished: Mapping[str, Trajectory], counts: Counts, began: float) -> Iterator[Row]:
        encoding = encoding_of(self.pictures)
        for row in self.before.read(shard):
            counts.rows += 1
            trajectory = finished[row["id"]]
            counts.cost += trajectory.cost
            problem = check(trajectory, self.settings)
            if problem is not None:
                counts.drop(problem, row["id"])
                continue
            yield with_trajectory(row, trajectory, encoding)
        counts.seconds = time.perf_counter() - began


@dataclass(frozen=True)
class Tried:
    """`times` an episode was played; those that were `spoiled` cost so much (dollars)."""

    times: int = 1
    spoiled: float = 0.0

    @property
    def about(self) -> dict[str, float]:
        """What a store keeps beside it."""
        return {"tries": self.times, "spoiled": self.spoiled} if self.times > 1 else {}


async def played(
    player: AgentWorkflow, questions: Iterable[Question], settings: Episodes, tries: Tries
) -> AsyncIterator[tuple[Trajectory, Tried]]:
    """Finished episodes. Those that end in an error are played again, as `tries` says, and come last.

    Raises Failed when FAILURES in a row end in an error at their first try: then it is the teacher, not the questions.
    """
    player = replace(player, limits=settings.limits.limits())
    attempts = settings.attempts or tries.attempts
    pending: Iterable[Question] = questions
    failed: dict[str, tuple[Trajectory, Tried]] = {}
    for attempt in range(1, attempts + 1):
        before, failed = failed, {}
        streak = Streak(FAILURES if attempt == 1 else None, "episodes", KEPT)
        async for trajectory in run_all(pending, player, settings.concurrency, streak=streak):
            name = trajectory.question.id
            former, tried = before.get(name, (None, Tried()))
            tried = Tried(attempt, tried.spoiled + (former.cost if former else 0.0))
            if trajectory.error is None:
                yield trajectory, tried
            else:
                failed[name] = trajectory, tried
        if not failed:
            return
        pending = [trajectory.question for trajectory, _ in failed.values()]
        if attempt < attempts:
            await asyncio.sleep(tries.seconds(attempt))
    for each in failed.values():
        yield each


def last_errors(store: TrajectoryStore) -> dict[str, str | None]:
    """By id, why the episode failed that was last stored."""
    return {str(line["id"]): line["trajectory"].get("error") for line in store.lines()}


def count_tries(store: TrajectoryStore, counts: Counts) -> None:
    """Of all runs: what they cost beside the last episode of each id, which is counted with its row."""
    times: Counter[str] = Counter()
    for line in store.lines():
        times[str(line["id"])] += int(line.get("tries", 1))
        counts.cost += float(line.get("spoiled", 0.0))
    for name, error in last_errors(store).items():
        counts.tried(times[name], error is not None)


def check(trajectory: Trajectory, settings: Episodes) -> str | None:
    """Why an episode is no teaching material, None when it is: checks A, B, C of the paper (section 3.2)."""
    if trajectory.error is not None or trajectory.stop == "error":
        return f"{ERROR}{(trajectory.error or 'unknown').partition(': ')[0][:60]}"
    if any(isinstance(turn.action, Malformed) for turn in trajectory.turns):
        return "A: a turn without a valid action"
    if len(trajectory.turns) >= settings.turns:
        return f"B: {settings.turns} turns or more"
    if trajectory.answer is None:
        return "C: no answer"
    return None


def slim(trajectory: Trajectory, pictures: Pictures) -> Trajectory:
    """The trajectory without the pixels that stand elsewhere (the question's) or that no model reads."""

    def seen(observation: Observation) -> Observation:
        hits = observation.hits if pictures.hits else tuple(replace(hit, image=None) for hit in observation.hits)
        return replace(observation, hits=hits, crop=observation.crop if pictures.crops else None)

    turns = tuple(
        replace(turn, observation=None if turn.observation is None else seen(turn.observation))
        for turn in trajectory.turns
    )
    context = tuple(map(seen, trajectory.context))
    return replace(trajectory, question=replace(trajectory.question, images=()), turns=turns, context=context)
