"""The engine room: every question, from whichever door, is an ordinary episode on shared policies and tools.

Who watches a run is told its state whenever it has changed, and works out by itself what is new since it last looked:
a slow reader skips what it missed, holds nobody up and takes no memory, and one that comes back sees the whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from deepmmsearch.agent.runner import Workflow, guarded
from deepmmsearch.errors import UserError
from deepmmsearch.images import KeptPicture
from deepmmsearch.serve.history import History
from deepmmsearch.serve.refusals import INTERRUPTED, STOPPED, UNSAVED, NoPlace, UnknownRun
from deepmmsearch.types import Question, Trajectory

# runs that ended are kept for those who come back; later ones are in the history
KEPT = 256
KEPT_BYTES = 200_000_000
"""Of their pictures."""

_writing: ContextVar[Callable[[str], None] | None] = ContextVar("writing", default=None)


def on_text(piece: str) -> None:
    """What a policy that streams calls with each piece; the run is that of the task."""
    tell = _writing.get()
    if tell is not None:
        tell(piece)


@dataclass(frozen=True)
class State:
    """A run at one moment. `position`: how many wait before it, None once it is in play. `writing`: what is written of
    the present turn, where the policy streams. `ended`: the trajectory is what it stays. `unsaved`: why the answer
    could not be kept."""

    trajectory: Trajectory
    position: int | None
    writing: str
    ended: bool
    unsaved: str | None = None


@dataclass(eq=False)
class Run:
    """One question in the room. `about` is kept beside the trajectory (`conversation`, `model`, `date`, ...)."""

    id: str
    owner: str
    workflow: Workflow
    question: Question
    about: Mapping[str, Any]
    trajectory: Trajectory
    writing: str = ""
    ending: bool = False
    ended: bool = False
    unsaved: str | None = None
    task: asyncio.Task[None] | None = None
    accepting: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Wakes all who watch."""
        self.changed.set()
        self.changed = asyncio.Event()


class Room:
    """`histories` gives an owner's. `concurrency` episodes are in play, at most `waiting` wait; `per_owner` gives how
    many one owner may have in play and waiting together (None: any). `ended` is told of each run that has ended."""

    def __init__(
        self,
        histories: Callable[[str], History],
        *,
        concurrency: int = 8,
        waiting: int = 64,
        timeout: float | None = 300.0,
        per_owner: Callable[[str], int | None] = lambda _: None,
        ended: Callable[[Run, Trajectory], None] = lambda *_: None,
    ) -> None:
        self._histories = histories
        self._concurrency, self._most_waiting, self._timeout = concurrency, waiting, timeout
        self._per_owner, self._told = per_owner, ended
        self._runs: dict[str, Run] = {}
        self._waiting: list[Run] = []
        self._playing: set[Run] = set()
        self._closing = False
        # what asks and answers has the other cores
        half = max(1, (os.cpu_count() or 2) // 2)
        self._keepers, self._packers = ThreadPoolExecutor(half, "keeping"), ThreadPoolExecutor(half, "packing")

    @property
    def playing(self) -> int:
        return len(self._playing)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def start(self, workflow: Workflow, question: Question, owner: str, **about: Any) -> Run:
        """Takes the question and gives its run at once. It is written to the disk while it is played (`on_disk`): where
        that fails, the run says so. Raises NoPlace where there is no place."""
        if self._closing:
            raise NoPlace("The server is being stopped. Ask again in a moment.", "stopping")
        own = sum(run.owner == owner for run in (*self._waiting, *self._playing))
        most = self._per_owner(owner)
        if most is not None and own >= most:
            raise NoPlace(
                f"{own} questions of yours are in play, as many as you may have. Wait for one to end.",
                "own_places",
                count=own,
            )
        if self.playing >= self._concurrency and self.waiting >= self._most_waiting:
            raise NoPlace(
                f"{self.waiting} questions are waiting already. Ask again in a moment.", "no_place", count=self.waiting
            )
        id = uuid.uuid4().hex[:16]
        told = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "conversation": id} | about
        asked = replace(question, id=id, images=tuple(map(KeptPicture.of, question.images)))
        blank = replace(workflow.blank, question=asked)
        run = Run(id, owner, workflow, asked, told, blank)
        self._runs[id] = run
        self._waiting.append(run)
        run.accepting = asyncio.create_task(self._kept(run, lambda history: history.accept(blank, told)))
        self._begin()
        return run

    async def on_disk(self, run: Run, seconds: float | None = None) -> None:
        """Waits until the question is written, or could not be; at most so many seconds."""
        if run.accepting is not None:
            await asyncio.wait([run.accepting], timeout=seconds)

    def find(self, id: str, owner: str) -> Run:
        """A run of this owner that is in the room, also one that ended not long ago. Raises UnknownRun."""
        run = self._runs.get(id)
        if run is None or run.owner != owner:
            raise UnknownRun(
                f"There is no run {id[:40]!r}. It may have ended long ago: look into the history.", "no_run"
            )
        return run

    async def watch(self, run: Run) -> AsyncIterator[State]:
        """The state now, and again whenever it has changed, until the run has ended."""
        while True:
            changed = run.changed
            state = self.state(run)
            yield state
            if state.ended:
                return
            await changed.wait()

    def state(self, run: Run) -> State:
        position = self._waiting.index(run) if run in self._waiting else None
        return State(run.trajectory, position, run.writing, run.ended, run.unsaved)

    async def finish(self, run: Run) -> Trajectory:
        """The trajectory once the run has ended."""
        async for _ in self.watch(run):
            pass
        return run.trajectory

    async def stop(self, run: Run, reason: str = STOPPED) -> None:
        """Ends the run; what was played is kept."""
        if run.ended:
            return
        if run in self._waiting:
            self._waiting.remove(run)
            await self._end(run, run.trajectory.failed(reason))
            return
        if run.task is not None and not run.ending:
            run.task.cancel(reason)
        await self.finish(run)

    async def close(self) -> None:
        """Ends everything; what was played is kept."""
        self._closing = True
        await asyncio.gather(*(self.stop(run, INTERRUPTED) for run in tuple(self._runs.values())))
        for threads in (self._keepers, self._packers):
            threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        while self._waiting and self.playing < self._concurrency:
            run = self._next()
            self._waiting.remove(run)
            self._playing.add(run)
            run.task = asyncio.create_task(self._play(run))
            run.tell()
        for run in self._waiting:
            run.tell()

    def _next(self) -> Run:
        """The first one of whoever has the fewest in play, so that nobody's hundred questions keep others waiting."""
        counts: dict[str, int] = {}
        for run in self._playing:
            counts[run.owner] = counts.get(run.owner, 0) + 1
        return min(self._waiting, key=lambda run: counts.get(run.owner, 0))

    async def _play(self, run: Run) -> None:
        def written(piece: str) -> None:
            run.writing += piece
            run.tell()

        _writing.set(written)
        try:
            async with contextlib.aclosing(guarded(run.workflow, run.question, self._timeout)) as grown:  # type: ignore[type-var]
                async for trajectory in grown:
                    run.trajectory, run.writing = trajectory, ""
                    run.tell()
            last = run.trajectory
        except asyncio.CancelledError as error:
            last = run.trajectory.failed(str(error) or STOPPED)
        await self._end(run, last)

    async def _end(self, run: Run, trajectory: Trajectory) -> None:
        run.ending = True
        if run.accepting is not None:
            await run.accepting
        await self._kept(run, lambda history: history.keep(trajectory, run.about))
        run.trajectory, run.writing, run.ended = trajectory, "", True
        self._playing.discard(run)
        run.tell()
        self._told(run, trajectory)
        self._clear()
        self._begin()
        if run.unsaved is None and not self._closing:
            self._packers.submit(self._pack, run)

    def _clear(self) -> None:
        """Lets go of the oldest that ended; the last one stays."""
        ended = [run for run in self._runs.values() if run.ended]
        sizes = [_picture_bytes(run.trajectory) for run in ended]
        while len(ended) > 1 and (len(ended) > KEPT or sum(sizes) > KEPT_BYTES):
            del self._runs[ended.pop(0).id], sizes[0]

    async def _kept(self, run: Run, keep: Callable[[History], None]) -> None:
        try:
            await asyncio.wrap_future(self._keepers.submit(lambda: keep(self._histories(run.owner))))
            run.unsaved = None
        # the answer is there all the same, and whoever asked is told
        except (UserError, OSError) as error:
            run.unsaved = f"{UNSAVED}{error}"

    def _pack(self, run: Run) -> None:
        # they can be read as they are
        with contextlib.suppress(UserError, OSError):
            self._histories(run.owner).pack(run.trajectory)


def _picture_bytes(trajectory: Trajectory) -> int:
    seen = [turn.observation for turn in trajectory.turns if turn.observation]
    hits = [hit.image for each in seen for hit in each.hits if hit.image is not None]
    held = [i for i in (*trajectory.pictures, *hits) if not (isinstance(i, KeptPicture) and i.path)]
    return sum(4 * i.width * i.height for i in held)
