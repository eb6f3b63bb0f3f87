"""An evaluation on disk: what was played and how it was judged, so that an interrupted one continues by question.

FOLDER/output.json         what it was made with: nothing else joins it
FOLDER/run.json            benchmarks, workflows and judges, at which git revision
FOLDER/trajectories/       one store of all trajectories, under BENCHMARK/WORKFLOW/QUESTION
FOLDER/verdicts.jsonl      one line for each trajectory and judge
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deepmmsearch.agent.runner import Streak, Workflow, reason, run_all, without_pictures
from deepmmsearch.codec import PLAIN, no_picture
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.files import for_owner, locked, make_folder, write_json
from deepmmsearch.judge import Judge, JudgeError, Verdict
from deepmmsearch.judge.verdict import NOT_ASKED, Selective
from deepmmsearch.outputs import LOCK, WHOLE, Output, RunPart, Values
from deepmmsearch.revision import revision
from deepmmsearch.sealing import is_sealed
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Question, Trajectory

COMMAND = "eval"
FILE = "run.json"
KEPT = "What was played is kept."


@dataclass(frozen=True)
class Judged:
    """`error`: why there is no verdict; then the score is 0. `counts`: False where the judge leaves the question out,
    whatever is answered."""

    id: str
    judge: str
    score: float
    reason: str = ""
    error: str | None = None
    counts: bool = True


@dataclass(frozen=True)
class Described:
    """A workflow as the report shows it. `kind`: direct, rag, agent or oracle. `calls`: searches that it may make at
    most. `ablates`: the workflow that it is compared with; `change`: in what it differs from it; `fault`: how its tools
    are broken. `replicates`: the workflow whose policy was trained in the same way with another seed."""

    name: str
    kind: str
    policy: str = ""
    prompt: str = ""
    calls: int = 0
    ablates: str | None = None
    change: str | None = None
    fault: str | None = None
    replicates: str | None = None


@dataclass(frozen=True)
class BenchmarkInfo:
    """`general`: of the paper's Table 2 (retention). `out_of_domain`: unlike what the policy was trained on. `notes`:
    rows that could not be loaded, and why."""

    name: str
    title: str = ""
    questions: int = 0
    general: bool = False
    out_of_domain: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


class EvalRun:
    """The folder of one evaluation, to read or, once it is described, to add to. Raises UserError for a damaged one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = TrajectoryStore(folder / "trajectories")
        self.info: dict[str, Any] = {"workflows": {}, "benchmarks": {}, "judges": [], "planned": []}
        if (folder / FILE).is_file():
            self.info |= _read_json(folder / FILE)
        self._line_ended = False

    def describe(
        self,
        workflows: Sequence[Described],
        benchmarks: Iterable[BenchmarkInfo],
        judges: Sequence[str],
        *,
        settings: Values | None = None,
        parts: Mapping[str, Values] | None = None,
        spare: Collection[str] = (),
        **facts: Any,
    ) -> None:
        """Takes the folder and writes what is about to be run. Further workflows, benchmarks and judges may join.

        `settings`, `parts`, `spare`: what can change the figures, see `outputs.Output.claim`; without `parts` that is
        what the workflows say of themselves. `facts`: anything else that explains the figures. Raises UserError where
        the folder holds something else, or one of the same name was another one.
        """
        benchmarks = list(benchmarks)
        for name in (*(w.name for w in workflows), *(b.name for b in benchmarks)):
            if "/" in name:
                raise UserError(f"{name!r} has a / in it, which stands between parts of an id. Give another name.")
        alike = {f"workflows.{w.name}": {**asdict(w), "ablates": None, "change": None} for w in workflows}
        for said in alike.values():
            del said["replicates"]
        Output(self.folder, COMMAND, private=True).claim(settings or {}, alike if parts is None else parts, spare=spare)

        def add(info: dict[str, Any]) -> None:
            info["workflows"] |= {workflow.name: asdict(workflow) for workflow in workflows}
            for benchmark in benchmarks:
                former = info["benchmarks"].get(benchmark.name, {})
                info["benchmarks"][benchmark.name] = {**former, **asdict(benchmark)}
            info["judges"] = list(dict.fromkeys([*judges, *info["judges"]]))
            info |= {"revision": revision(), **facts}

        self.update(add)

    def plan(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Pairs of workflows that it is made to compare, beside ablations and what they are of."""
        self.update(lambda info: info.update(planned=[list(pair) for pair in pairs]))

    def note(self, benchmark: str, **facts: Any) -> None:
        self.update(lambda info: info["benchmarks"].setdefault(benchmark, {"name": benchmark}).update(facts))

    def update(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Upon what other processes wrote meanwhile."""
        with locked(self.folder / LOCK, private=True):
            if (self.folder / FILE).is_file():
                self.info |= _read_json(self.folder / FILE)
            change(self.info)
            write_json(self.folder / FILE, self.info, private=True)

    def judged(self) -> dict[tuple[str, str], Judged]:
        """The last verdict of each trajectory and judge; a half-written line at the end is ignored."""
        found = {}
        path = self.folder / "verdicts.jsonl"
        if path.is_file():
            for raw in path.read_bytes().splitlines(keepends=True):
                if raw.endswith(b"\n") and raw.strip():
                    try:
                        row: Judged = PLAIN.decode(json.loads(raw), Judged, no_picture)
                    except (ValueError, UserError):
                        continue  # two pieces of lines: a write that was interrupted, and what followed
                    found[row.id, row.judge] = row
        return found

    def judge_line(self, rows: Iterable[Judged]) -> None:
        make_folder(self.folder, private=True)
        text = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
        path = self.folder / "verdicts.jsonl"
        if not self._line_ended:
            _end_line(path)
            self._line_ended = True
        with open(path, "ab", opener=for_owner) as file:
            file.write(text.encode("utf-8", "replace"))


@dataclass(frozen=True)
class Finished:
    """What is reported after each question."""

    id: str
    trajectory: Trajectory
    score: float
    judged: bool = True


async def evaluate(
    run: EvalRun,
    benchmark: str,
    questions: Iterable[Question],
    name: str,
    workflow: Workflow,
    judges: Mapping[str, Judge],
    *,
    concurrency: int = 16,
    timeout: float | None = None,
    pictures: int = 24,
    retry_errors: bool = False,
    stop_after_errors: int | None = None,
    part: RunPart = WHOLE,
    elsewhere: Collection[str] = (),
    report: Callable[[Finished], None] = lambda _: None,
) -> int:
    """Plays and judges what is not there yet; returns how many questions were played.

    `part`: only these of the questions; `elsewhere`: ids of trajectories that another folder holds: not played.
    `pictures`: of so many questions the pictures are kept, for the gallery; scenes and crops are most of the disk.
    `retry_errors`: those that failed before are played again. What is reported is the first judge's.

    Raises Failed after `stop_after_errors` questions or verdicts in a row that failed: the model or the judge is down.
    What was played is kept.
    """
    prefix = f"{benchmark}/{name}/"
    known = run.judged()
    kept = _kept(run, prefix, retry_errors)
    judging = _Judging(run, judges, concurrency, stop_after_errors)
    await _judge_rest(prefix, kept, judging, known)
    shown: set[str] = set()

    def todo() -> Iterator[Question]:
        for number, question in enumerate(questions):
            if judging.failure is not None:
                return
            if number < pictures:
                shown.add(question.id)
            if part.holds(number) and (id := prefix + question.id) not in kept and id not in elsewhere:
                yield question

    writer = _Writer(run.store)

    async def finish(trajectory: Trajectory) -> None:
        id = prefix + trajectory.question.id
        await writer.write(id, trajectory if trajectory.question.id in shown else without_pictures(trajectory))
        rows = await judging.judge(id, trajectory, judges)
        judged = bool(rows) and rows[0].error is None
        report(Finished(id, trajectory, rows[0].score if rows else 0.0, judged or not judges))

    played = 0
    finishing: set[asyncio.Task[None]] = set()
    streak = Streak(stop_after_errors, "questions", f"{KEPT} Run again with --retry-errors.")
    try:
        async for trajectory in run_all(todo(), workflow, concurrency, timeout, streak):
            played += 1
            finishing.add(asyncio.create_task(finish(trajectory)))
            # Judged beside the play, but not without bound: a slow judge slows the play down.
            while len(finishing) >= 2 * concurrency:
                done, finishing = await asyncio.wait(finishing, return_when=asyncio.FIRST_COMPLETED)
                _raise_first(done)
    finally:
        if finishing:
            done, _ = await asyncio.wait(finishing)
            _raise_first(done)
    if judging.failure is not None:
        raise judging.failure
    return played


class _Writer:
    """Writes what has come while it waited for the disk in one go: slow disks cost latency, not throughput."""

    def __init__(self, store: TrajectoryStore) -> None:
        self.store = store
        self._waiting: list[tuple[str, Trajectory]] = []
        self._busy = asyncio.Lock()

    async def write(self, id: str, trajectory: Trajectory) -> None:
        """Returns once it is on the disk."""
        row = (id, trajectory)
        self._waiting.append(row)
        async with self._busy:
            if not any(waiting is row for waiting in self._waiting):
                return  # the one before took it along
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(self.store.extend, batch)


def _raise_first(done: Iterable[asyncio.Task[None]]) -> None:
    for task in done:
        task.result()


def _kept(run: EvalRun, prefix: str, retry_errors: bool) -> dict[str, str | None]:
    """Ids of this benchmark and workflow in the store, with their error."""
    kept = {id: error for id, error in stored_errors(run.store) if id.startswith(prefix)}
    return {id: error for id, error in kept.items() if error is None} if retry_errors else kept


def stored_errors(store: TrajectoryStore) -> Iterator[tuple[str, str | None]]:
    """Id and error of every trajectory, without loading pictures."""
    for line in store.lines():
        yield str(line["id"]), line["trajectory"].get("error")


def raise_if_all_failed(run: EvalRun, names: Iterable[tuple[str, str]], judges: Iterable[str]) -> None:
    """Raises Failed where every question of these benchmarks and workflows failed, now or earlier, or where a judge
    was asked and never gave a verdict: figures of that would look like those of a model that is always wrong."""
    prefixes = tuple(f"{benchmark}/{name}/" for benchmark, name in names)
    errors = {id: error for id, error in stored_errors(run.store) if id.startswith(prefixes)}
    if errors and all(errors.values()):
        last = list(errors.values())[-1]
        raise Failed(f"All {len(errors)} questions failed, the last with: {last} Run again with --retry-errors.")
    verdicts = run.judged()
    for judge in judges:
        rows = [verdicts[id, judge] for id, error in errors.items() if error is None and (id, judge) in verdicts]
        failed = [row.error for row in rows if row.error is not None]
        if failed and all(row.error or row.reason in NOT_ASKED for row in rows):
            raise Failed(
                f"All {len(failed)} verdicts of the judge {judge} failed, the last with: {failed[-1]} "
                f"{KEPT} It is judged when you run again."
            )


class _Judging:
    """Judges, and writes the verdicts to the run. `failure`: what to raise because a judge failed `most` times in a
    row; nothing more is judged then."""

    def __init__(self, run: EvalRun, judges: Mapping[str, Judge], concurrency: int, most: int | None) -> None:
        self.run, self.judges = run, judges
        self.failure: Failed | None = None
        self._gate = asyncio.Semaphore(concurrency)
        advice = f"{KEPT} It is judged when you run again."
        self._streaks = {name: Streak(most, f"verdicts of the judge {name}", advice) for name in judges}

    async def judge(self, id: str, trajectory: Trajectory, names: Iterable[str]) -> list[Judged]:
        async with self._gate:
            if self.failure is not None:
                return []
            rows = [await _judge(self.judges[name], name, id, trajectory) for name in names]
        self.run.judge_line(rows)
        for row in rows:
            if trajectory.error is None:
                self.failure = self.failure or self._streaks[row.judge].add(row.error)
        return rows


async def _judge_rest(
    prefix: str, kept: Mapping[str, str | None], judging: _Judging, known: Mapping[tuple[str, str], Judged]
) -> None:
    """Trajectories that were stored, but not judged by all judges: a new judge, an interrupted run, a judge that was
    down."""
    missing = {
        id: [which for which in judging.judges if (id, which) not in known or known[id, which].error is not None]
        for id in kept
        if kept[id] is None
    }
    missing = {id: which for id, which in missing.items() if which}
    if not missing:
        return
    found = {id: t for id, t in judging.run.store.items() if id in missing}
    await asyncio.gather(*(judging.judge(id, trajectory, missing[id]) for id, trajectory in found.items()))


async def _judge(judge: Judge, which: str, id: str, trajectory: Trajectory) -> Judged:
    """An episode that failed is wrong without asking."""
    counts = judge.counts(trajectory.question) if isinstance(judge, Selective) else True
    # what a judge says may quote the question, the answer and the references
    sealed = is_sealed(trajectory.question)
    if trajectory.error is not None:
        return Judged(id, which, 0.0, "the episode failed", counts=counts)
    try:
        verdict: Verdict = await judge.judge(trajectory.question, trajectory.answer)
    # a judge that is down takes no trajectory with it
    except Exception as error:
        told = str(error) if isinstance(error, JudgeError) else reason(error)
        if sealed:
            told = f"{type(error).__name__}, for a question that is published encrypted"
        return Judged(id, which, 0.0, error=told, counts=counts)
    said = "" if sealed and verdict.reason not in NOT_ASKED else verdict.reason
    return Judged(id, which, verdict.score, said, counts=counts)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}). Remove the folder, or choose another output.") from None
    if not isinstance(found, dict) or not isinstance(found.get("workflows"), dict):
        raise UserError(f"{path} does not describe an evaluation. Choose another output.")
    return found


def _end_line(path: Path) -> None:
    """A line that an interrupted run left half-written is ended, so that the next one stands alone."""
    if path.is_file() and (raw := path.read_bytes()) and not raw.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
