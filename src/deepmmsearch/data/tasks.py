"""The stages that work shard by shard: draw, play, judge, label, tell whether a search is needed.

A task is sent to worker processes. It holds the recipe's values and factories, and makes policies, tools and judges
where it runs; what was paid for stands in a journal before it counts.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

from deepmmsearch.agent import Toolbox
from deepmmsearch.atlas.play import play_all
from deepmmsearch.data.journal import Journal, locked
from deepmmsearch.data.near_duplicates import picture_hash
from deepmmsearch.data.recipe import Episodes, Pictures, Search, Taxonomy
from deepmmsearch.data.records import Encoding, question_row, row_question, row_trajectory, with_trajectory
from deepmmsearch.data.sources import Source
from deepmmsearch.data.stages import Counts, Stage
from deepmmsearch.data.tables import Row
from deepmmsearch.data.workers import Progress, Tell
from deepmmsearch.errors import UserError
from deepmmsearch.judge import Judge, Verdict
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Limits, Malformed, Observation, Policy, Prompt, Question, Trajectory

T = TypeVar("T")
FAILURES = 8
"""When so many episodes in a row end in an error, the teacher or its tools are down."""


@dataclass(frozen=True)
class Player:
    """Who plays a shard's questions, with what. `label` names the policy in its trajectories."""

    policy: Policy
    tools_for: Callable[[Question], Toolbox]
    prompt: Prompt
    label: str


class PlayerFactory(Protocol):
    """Makes the player of a shard in the process that needs it: sent there, so it holds plain values only."""

    def __call__(self, shard: str, /) -> Player: ...


class JudgeFactory(Protocol):
    def __call__(self) -> Judge: ...


class Labeler(Protocol):
    async def label(self, question: Question) -> str | None:
        """The question's category, None where it gets none."""
        ...


class LabelerFactory(Protocol):
    def __call__(self) -> Labeler: ...


@dataclass(frozen=True)
class DrawSeeds:
    """Stage 1: the seed questions of a shard, with their pictures and the pictures' hashes."""

    source: Source
    stage: Stage
    pictures: Pictures

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        if self.stage.has(shard):
            return
        began = time.perf_counter()
        questions, report = self.source.draw(shard)
        encoding = encoding_of(self.pictures)
        counts = Counts()

        def rows() -> Iterator[Row]:
            seen: Counter[str] = Counter()
            for question in questions:
                tell(Progress(1, 1))
                # ids name trajectories: a source that repeats one must not lose a question
                seen[question.id] += 1
                if seen[question.id] > 1:
                    question = replace(question, id=f"{question.id}-{seen[question.id]}")
                hashed = picture_hash(question.image) if question.image is not None else None
                yield question_row(question, encoding, hashed)

        drawn = list(rows())
        counts.rows, counts.dropped, counts.examples = report.rows, report.dropped, report.examples
        counts.notes, counts.seconds = report.notes, time.perf_counter() - began
        self.stage.finish(shard, drawn, counts)


@dataclass(frozen=True)
class PlayEpisodes:
    """Stage 2: the teacher's episodes of a shard that pass the three checks (paper, section 3.2)."""

    before: Stage
    stage: Stage
    settings: Episodes
    pictures: Pictures
    players: PlayerFactory

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        if self.stage.has(shard):
            return
        with locked(self.stage.folder / "journal" / f".{shard}.lock"):
            began = time.perf_counter()
            store = TrajectoryStore(self.stage.folder / "journal" / shard)
            known = set(store.ids())
            questions = (row_question(row) for row in self.before.read(shard) if row["id"] not in known)
            counts = Counts(notes=Counter({"taken from an earlier run": len(known)} if known else {}))
            await self._play(shard, questions, store, tell)
            played = dict(store.items())
            self.stage.finish(shard, self._rows(shard, played, counts, began), counts)

    async def _play(self, shard: str, questions: Iterable[Question], store: TrajectoryStore, tell: Tell) -> None:
        async for trajectory in _played(self.players(shard), questions, self.settings):
            await asyncio.to_thread(store.append, slim(trajectory, self.pictures))
            tell(Progress(1, int(check(trajectory, self.settings) is None), cost_of(trajectory)))

    def _rows(self, shard: str, played: Mapping[str, Trajectory], counts: Counts, began: float) -> Iterator[Row]:
        encoding = encoding_of(self.pictures)
        for row in self.before.read(shard):
            counts.rows += 1
            trajectory = played[row["id"]]
            counts.cost += cost_of(trajectory)
            problem = check(trajectory, self.settings)
            if problem is not None:
                counts.drop(problem, row["id"])
                continue
            yield with_trajectory(row, trajectory, encoding)
        counts.seconds = time.perf_counter() - began


async def _played(player: Player, questions: Iterable[Question], settings: Episodes) -> AsyncIterator[Trajectory]:
    """Finished episodes. Those that end in an error are played again, up to `attempts` times, and come last.

    Raises UserError when FAILURES in a row end in an error: then it is the teacher, not the questions.
    """
    limits = Limits(settings.calls, settings.image_searches, settings.tokens)
    pending: Iterable[Question] = questions
    failed: list[Trajectory] = []
    for _ in range(settings.attempts):
        failed, in_a_row = [], 0
        async for trajectory in play_all(
            pending, player.policy, player.tools_for, player.prompt, limits, settings.concurrency, player.label
        ):
            if trajectory.error is None:
                in_a_row = 0
                yield trajectory
                continue
            failed.append(trajectory)
            in_a_row += 1
            if in_a_row >= FAILURES:
                raise UserError(
                    f"{in_a_row} episodes in a row ended in an error, the last with: {trajectory.error}. "
                    "Mend it and run again; nothing that was played is lost."
                )
        pending = [trajectory.question for trajectory in failed]
        if not failed:
            return
    for trajectory in failed:
        yield trajectory


def check(trajectory: Trajectory, settings: Episodes) -> str | None:
    """Why an episode is no teaching material, None when it is: checks A, B, C of the paper (section 3.2)."""
    if trajectory.error is not None or trajectory.stop == "error":
        return f"error: {(trajectory.error or 'unknown').split(':')[0][:60]}"
    if any(isinstance(turn.action, Malformed) for turn in trajectory.turns):
        return "A: a turn without a valid action"
    if len(trajectory.turns) >= settings.turns:
        return f"B: {settings.turns} turns or more"
    if trajectory.answer is None:
        return "C: no answer"
    return None


@dataclass(frozen=True)
class KeepCorrect:
    """Stage 3: the rows whose answer the judge finds right."""

    before: Stage
    stage: Stage
    judges: JudgeFactory
    concurrency: int = 16

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        await _journaled(self.before, self.stage, shard, self._verdict, self._keep, tell, self.concurrency)

    @cached_property
    def _judge(self) -> Judge:
        return self.judges()

    def __reduce__(self) -> tuple[type[KeepCorrect], tuple[Any, ...]]:
        return KeepCorrect, (self.before, self.stage, self.judges, self.concurrency)

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

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        await _journaled(self.before, self.stage, shard, self._label, self._keep, tell, self.settings.concurrency)

    @cached_property
    def _labeler(self) -> Labeler:
        return self.labelers()

    def __reduce__(self) -> tuple[type[LabelTaxonomy], tuple[Any, ...]]:
        return LabelTaxonomy, (self.before, self.stage, self.settings, self.labelers)

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
    players: PlayerFactory | None = None
    judges: JudgeFactory | None = None

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        if self.stage.has(shard):
            return
        if self.settings.by == "trajectory":
            await _journaled(self.before, self.stage, shard, _by_trajectory, _with_search, tell, 1)
            return
        if self.players is None or self.judges is None:
            raise UserError("Rollouts need a policy: set rollout_policy in the recipe, or search.by=trajectory.")
        with locked(self.stage.folder / "journal" / f".{shard}.lock"):
            began, counts = time.perf_counter(), Counts()
            store = TrajectoryStore(self.stage.folder / "journal" / shard)
            await self._play(self.players(shard), shard, store, tell)
            found = await self._kinds(store, counts)
            rows = self._rows(shard, found, counts, began)
            self.stage.finish(shard, rows, counts)

    async def _play(self, player: Player, shard: str, store: TrajectoryStore, tell: Tell) -> None:
        known = set(store.ids())

        def rollouts() -> Iterator[Question]:
            for row in self.before.read(shard):
                missing = [n for n in range(self.settings.rollouts) if f"{row['id']}#{n}" not in known]
                if missing:
                    question = row_question(row)
                    for number in missing:
                        metadata = {**question.metadata, "rollout": number}
                        yield replace(question, id=f"{question.id}#{number}", metadata=metadata)

        settings = self.episodes.model_copy(update={"concurrency": self.settings.concurrency})
        async for trajectory in _played(player, rollouts(), settings):
            await asyncio.to_thread(store.append, slim(trajectory, self.pictures))
            tell(Progress(0, 0, cost_of(trajectory)))

    async def _kinds(self, store: TrajectoryStore, counts: Counts) -> dict[str, str]:
        """What the rollouts of each question say: "free", "required" or "wrong"."""
        assert self.judges is not None
        judge, found = self.judges(), dict[str, str]()
        for name, trajectory in store.items():
            counts.cost += cost_of(trajectory)
            question = name.rpartition("#")[0]
            verdict = await judge.judge(trajectory.question, trajectory.answer)
            if not verdict.correct:
                found.setdefault(question, "wrong")
            elif not trajectory.searches:
                found[question] = "free"
            elif found.get(question) != "free":
                found[question] = "required"
        return found

    def _rows(self, shard: str, found: Mapping[str, str], counts: Counts, began: float) -> Iterator[Row]:
        for row in self.before.read(shard):
            counts.rows += 1
            kind = found.get(row["id"], "wrong")
            if kind == "wrong":
                counts.drop("wrong in all rollouts", row["id"])
            else:
                yield {**row, "search": kind}
        counts.seconds = time.perf_counter() - began


async def _by_trajectory(row: Row) -> str:
    return "required" if row_trajectory(row, picture=False).searches else "free"


def _with_search(row: Row, value: Any) -> Row | str:
    return {**row, "search": str(value)}


async def _journaled(
    before: Stage,
    stage: Stage,
    shard: str,
    find: Callable[[Row], Awaitable[T]],
    keep: Callable[[Row, T], Row | str],
    tell: Tell,
    concurrency: int,
) -> None:
    """A stage that finds one value for each row and keeps the row with it, or drops it for the reason given."""
    if stage.has(shard):
        return
    began, counts = time.perf_counter(), Counts()
    with locked(stage.folder / "journal" / f".{shard}.lock"):
        journal = Journal(stage.journal_file(shard))
        gate = asyncio.Semaphore(concurrency)

        failed: dict[str, str] = {}
        in_a_row = 0

        async def one(row: Row) -> None:
            nonlocal in_a_row
            async with gate:
                try:
                    journal.append(row["id"], await find(row))
                    in_a_row = 0
                # one row's failure is data; many in a row are the endpoint's
                except Exception as error:
                    failed[row["id"]] = f"{type(error).__name__}: {error}"
                    in_a_row += 1
                    if in_a_row >= FAILURES:
                        raise UserError(
                            f"{stage.name} failed {in_a_row} times in a row, the last time with: {failed[row['id']]}. "
                            "Mend it and run again; nothing that was paid for is lost."
                        ) from None

        pending: set[asyncio.Task[None]] = set()
        try:
            for row in before.read(shard):
                if row["id"] not in journal.entries:
                    pending.add(asyncio.create_task(one(row)))
                if len(pending) >= 4 * concurrency:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            await asyncio.gather(*pending)
        finally:
            for task in pending:
                task.cancel()
            journal.close()

        def rows() -> Iterator[Row]:
            for row in before.read(shard):
                counts.rows += 1
                lost = failed.get(row["id"])
                kept = f"error: {lost.split(':')[0]}" if lost else keep(row, journal.entries[row["id"]])
                tell(Progress(1, int(not isinstance(kept, str))))
                if isinstance(kept, str):
                    counts.drop(kept, row["id"])
                else:
                    yield kept
            counts.seconds = time.perf_counter() - began

        stage.finish(shard, rows(), counts)


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
    return replace(trajectory, question=replace(trajectory.question, image=None), turns=turns, context=context)


def cost_of(trajectory: Trajectory) -> float:
    return sum(turn.cost for turn in trajectory.turns)


def encoding_of(pictures: Pictures) -> Encoding:
    return Encoding(pictures.format, pictures.quality, pictures.max_pixels)
