"""Stages 3 to 5: one value for each row, found by a judge, a labeller or rollouts, which keeps or drops it.

A value is in the shard's journal before it counts: what was paid for is not asked for again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from deepmmsearch.agent.runner import AgentWorkflow, Streak, reason
from deepmmsearch.data.episodes import count_tries, last_errors, played, slim
from deepmmsearch.data.journal import Journal
from deepmmsearch.data.recipe import Episodes, Pictures, Search, SearchByRollouts, SearchByTrajectory, Taxonomy, Tries
from deepmmsearch.data.records import row_question, row_trajectory
from deepmmsearch.data.stages import Counts, Stage
from deepmmsearch.data.tables import Row
from deepmmsearch.data.tasks import FAILURES, KEPT, JudgeFactory, Labeler, LabelerFactory, PlayerFactory
from deepmmsearch.data.workers import Progress, Tell
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.files import locked
from deepmmsearch.judge import Judge, Verdict
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Question

Find = Callable[[Row], Awaitable[Any]]
Keep = Callable[[Row, Any], Row | str]
"""The row as it goes on with its value, or why it is dropped."""
_ONCE = Tries(attempts=1)


@dataclass(frozen=True)
class KeepCorrect:
    """Stage 3: the rows whose answer the judge finds right."""

    before: Stage
    stage: Stage
    judges: JudgeFactory
    tries: Tries
    concurrency: int = 16

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        work = _Work(self._verdict, self._keep, self.tries, self.concurrency)
        await _journaled(self.before, self.stage, shard, work, tell)

    @cached_property
    def _judge(self) -> Judge:
        return self.judges()

    def __reduce__(self) -> tuple[type[KeepCorrect], tuple[Any, ...]]:
        return KeepCorrect, (self.before, self.stage, self.judges, self.tries, self.concurrency)

    async def _verdict(self, row: Row) -> dict[str, Any]:
        trajectory = row_trajectory(row, picture=False)
        verdict: Verdict = await self._judge.judge(trajectory.question, trajectory.answer)
        return {"score": verdict.score, "reason": verdict.reason}

    @staticmethod
    def _keep(row: Row, value: Any) -> Row | str:
        if value["score"] < 0.5:
            return "the judge finds it wrong"
        metadata = {**json.loads(row["metadata"]), "verdict": value}
        return {**row, "metadata": json.dumps(metadata, ensure_ascii=False)}


@dataclass(frozen=True)
class LabelTaxonomy:
    """Stage 4: every row with its category."""

    before: Stage
    stage: Stage
    settings: Taxonomy
    labelers: LabelerFactory
    tries: Tries

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        work = _Work(self._label, self._keep, self.tries, self.settings.concurrency)
        await _journaled(self.before, self.stage, shard, work, tell)

    @cached_property
    def _labeler(self) -> Labeler:
        return self.labelers()

    def __reduce__(self) -> tuple[type[LabelTaxonomy], tuple[Any, ...]]:
        return LabelTaxonomy, (self.before, self.stage, self.settings, self.labelers, self.tries)

    async def _label(self, row: Row) -> str | None:
        return await self._labeler.label(row_question(row, picture=self.settings.by == "model"))

    def _keep(self, row: Row, value: Any) -> Row | str:
        category = value if value in self.settings.categories else self.settings.other
        return {**row, "category": category} if category else "no category"


@dataclass(frozen=True)
class TellSearch:
    """Stage 5: does the question need a search? By the teacher's trajectory, or by rollouts of another policy."""

    before: Stage
    stage: Stage
    settings: Search
    episodes: Episodes
    pictures: Pictures
    tries: Tries
    players: PlayerFactory | None = None
    judges: JudgeFactory | None = None

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        if self.stage.has(shard):
            return
        if isinstance(self.settings, SearchByTrajectory):
            await _journaled(self.before, self.stage, shard, _Work(_by_trajectory, _with_search, _ONCE), tell)
            return
        if self.players is None or self.judges is None:
            raise UserError("Rollouts need a policy: set rollout_policy in the recipe, or search.by=trajectory.")
        with locked(self.stage.folder / "journal" / f".{shard}.lock", private=True):
            began, counts = time.perf_counter(), Counts()
            store = TrajectoryStore(self.stage.journal_store(shard))
            await self._play(self.players(shard), self.settings, shard, store, tell)
            count_tries(store, counts)
            found, unjudged = await self._kinds(store, counts)
            rows = self._rows(shard, found, unjudged, counts, began)
            self.stage.finish(shard, rows, counts)

    async def _play(
        self, player: AgentWorkflow, asked: SearchByRollouts, shard: str, store: TrajectoryStore, tell: Tell
    ) -> None:
        # one that ended in an error says nothing of its question
        known = {id for id, error in last_errors(store).items() if error is None}

        def rollouts() -> Iterator[Question]:
            for row in self.before.read(shard):
                missing = [n for n in range(asked.rollouts) if f"{row['id']}#{n}" not in known]
                if missing:
                    question = row_question(row)
                    for number in missing:
                        metadata = {**question.metadata, "rollout": number}
                        yield replace(question, id=f"{question.id}#{number}", metadata=metadata)

        settings = self.episodes.model_copy(update={"concurrency": asked.concurrency})
        async for trajectory, tried in played(player, rollouts(), settings, self.tries):
            await asyncio.to_thread(store.append, slim(trajectory, self.pictures), None, tried.about)
            tell(Progress(0, 0, trajectory.cost + tried.spoiled))

    async def _kinds(self, store: TrajectoryStore, counts: Counts) -> tuple[dict[str, str], dict[str, str]]:
        """What the rollouts of each question say: "free", "required" or "wrong"; and why some could not be judged.
        Raises Failed when FAILURES verdicts in a row fail."""
        assert self.judges is not None
        judge, found, unjudged = self.judges(), dict[str, str](), dict[str, str]()
        streak = Streak(FAILURES, f"verdicts of {self.stage.name}", KEPT)
        for name, trajectory in dict(store.items()).items():
            counts.cost += trajectory.cost
            question = name.rpartition("#")[0]
            if trajectory.error is not None:
                unjudged[question] = trajectory.error
                continue
            verdict, times, problem = await _patiently(
                partial(judge.judge, trajectory.question, trajectory.answer), self.tries
            )
            counts.tried(times, problem is not None)
            if (failure := streak.add(problem)) is not None:
                raise failure
            if problem is not None:
                unjudged[question] = problem
                continue
            if not verdict.correct:
                found.setdefault(question, "wrong")
            elif not trajectory.searches:
                found[question] = "free"
            elif found.get(question) != "free":
                found[question] = "required"
        return found, unjudged

    def _rows(
        self, shard: str, found: Mapping[str, str], unjudged: Mapping[str, str], counts: Counts, began: float
    ) -> Iterator[Row]:
        for row in self.before.read(shard):
            counts.rows += 1
            kind = found.get(row["id"], "wrong")
            if row["id"] in unjudged and kind != "free":
                counts.postpone(unjudged[row["id"]], row["id"])
            elif kind == "wrong":
                counts.drop("wrong in all rollouts", row["id"])
            else:
                yield {**row, "search": kind}
        counts.seconds = time.perf_counter() - began


async def _by_trajectory(row: Row) -> str:
    return "required" if row_trajectory(row, picture=False).searches else "free"


def _with_search(row: Row, value: Any) -> Row | str:
    return {**row, "search": str(value)}


async def _patiently(find: Callable[[], Awaitable[Any]], tries: Tries) -> tuple[Any, int, str | None]:
    """What is found, how often it was tried, and why there is nothing."""
    for attempt in range(1, tries.attempts + 1):
        try:
            return await find(), attempt, None
        # the border: a judge or a model that is down takes no row with it
        except Exception as error:
            problem = reason(error)
            if attempt == tries.attempts or (isinstance(error, UserError) and not isinstance(error, Failed)):
                break  # what somebody has to correct does not come right by itself
        await asyncio.sleep(tries.seconds(attempt))
    return None, attempt, problem


@dataclass(frozen=True)
class _Work:
    """How a value is found for a row and what becomes of the row, `concurrency` rows at a time."""

    find: Find
    keep: Keep
    tries: Tries
    concurrency: int = 1


async def _journaled(before: Stage, stage: Stage, shard: str, work: _Work, tell: Tell) -> None:
    """Finds a value for each row of the shard that has none in the journal, and finishes the part."""
    if stage.has(shard):
        return
    began, counts = time.perf_counter(), Counts()
    with locked(stage.folder / "journal" / f".{shard}.lock", private=True):
        journal = Journal(stage.journal_file(shard))
        finder = _Finder(journal, work, tell, stage.name)
        try:
            await finder.run(before.read(shard))
        finally:
            journal.close()

        def rows() -> Iterator[Row]:
            for row in before.read(shard):
                counts.rows += 1
                kept = finder.outcome(row)
                counts.tried(finder.tries.get(row["id"], 1), row["id"] in finder.failed)
                if row["id"] in finder.failed:
                    counts.postpone(finder.failed[row["id"]], row["id"])
                elif isinstance(kept, str):
                    counts.drop(kept, row["id"])
                else:
                    yield kept
            counts.seconds = time.perf_counter() - began

        stage.finish(shard, rows(), counts)


@dataclass
class _Finder:
    """Values for rows, several at a time. A row whose value cannot be had now waits for the next start; FAILURES in a
    row end the run."""

    journal: Journal
    work: _Work
    tell: Tell
    name: str
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tries = dict(self.journal.tries)
        self.streak = Streak(FAILURES, f"rows of {self.name}", KEPT)

    async def run(self, rows: Iterator[Row]) -> None:
        running: set[asyncio.Task[None]] = set()
        try:
            for row in rows:
                if row["id"] in self.journal.entries:
                    self._told(row)
                    continue
                running.add(asyncio.create_task(self._one(row)))
                if len(running) >= self.work.concurrency:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()

    def outcome(self, row: Row) -> Row | str:
        if row["id"] in self.failed:
            return self.failed[row["id"]]
        return self.work.keep(row, self.journal.entries[row["id"]])

    async def _one(self, row: Row) -> None:
        name = row["id"]
        value, self.tries[name], problem = await _patiently(partial(self.work.find, row), self.work.tries)
        if problem is None:
            self.journal.append(name, value, self.tries[name])
        else:
            self.failed[name] = problem
        # one row's failure is data, many in a row are the model's
        if (failure := self.streak.add(problem)) is not None:
            raise failure
        self._told(row)

    def _told(self, row: Row) -> None:
        self.tell(Progress(1, int(not isinstance(self.outcome(row), str))))
