"""What is measured of many episodes: the columns of the tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepmmsearch.codec import PLAIN, no_picture
from deepmmsearch.eval.played import Keep, Played, Value, everything, measure
from deepmmsearch.eval.run import BenchmarkInfo, Described, EvalRun, Judged
from deepmmsearch.eval.statistics import (
    Difference,
    Interval,
    bootstrap,
    bootstrap_runs,
    compare,
    compare_runs,
    quantile,
)
from deepmmsearch.judge import is_correct
from deepmmsearch.sealing import is_sealed
from deepmmsearch.types import Trajectory

EXACT = "exact"
PAPER_SEARCHES = ("text", "image", "crop")


def measure_exactly(trajectories: Iterable[Trajectory]) -> list[Played]:
    """Episodes that belong to no run, judged by exact match."""
    return [
        measure(t, {EXACT: Judged("", EXACT, float(is_correct(t.answer, t.question.answers)))}) for t in trajectories
    ]


@dataclass(frozen=True)
class GalleryEpisode:
    """An episode to read, with its verdict."""

    played: Played
    trajectory: Trajectory
    verdict: Judged | None


@dataclass(frozen=True)
class Results:
    """Everything of one or more evaluations. `judge` is the one whose scores the tables show. `planned`: pairs of
    workflows that it was made to compare, beside ablations and what they are of."""

    title: str
    judge: str
    judges: tuple[str, ...]
    workflows: Mapping[str, Described]
    benchmarks: Mapping[str, BenchmarkInfo]
    rows: Sequence[Played]
    gallery: Sequence[GalleryEpisode]
    facts: Mapping[str, Any]
    planned: Sequence[tuple[str, str]] = ()
    _compared: dict[tuple[str, str], Difference] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def tools(self) -> list[str]:
        """What was searched with: the papers' three ways, then other tools by name."""
        used = {tool for row in self.rows for tool in row.searches}
        return [*PAPER_SEARCHES, *sorted(used - set(PAPER_SEARCHES))]

    def select(self, workflow: str, benchmark: str | None = None) -> list[Played]:
        return [r for r in self.rows if r.workflow == workflow and benchmark in (None, r.benchmark)]

    def runs_of(self, workflow: str) -> list[str]:
        """The workflow, and those that were trained in the same way with other seeds."""
        return [workflow, *(name for name, w in self.workflows.items() if w.replicates == workflow)]

    def accuracy(self, workflow: str, benchmarks: Iterable[str] | None = None, keep: Keep = everything) -> Interval:
        """Every benchmark weighs the same, as in the paper's averages."""
        names = sorted(benchmarks if benchmarks is not None else self.benchmarks)
        return bootstrap([list(self._values(workflow, self.score, keep, name).values()) for name in names])

    def _by_policy(self, workflow: str) -> dict[str, str]:
        """Its runs by what played them; by their names where that does not tell them apart."""
        runs = self.runs_of(workflow)
        by_policy = {self.workflows[name].policy: name for name in runs}
        return by_policy if len(by_policy) == len(runs) else {name: name for name in runs}

    def accuracy_of_runs(self, workflow: str, benchmarks: Iterable[str]) -> Interval:
        """Over all its training runs, on the questions that all of them answered."""
        runs = self.runs_of(workflow)
        each = [[self._values(run, self.score, everything, name) for run in runs] for name in sorted(benchmarks)]
        return bootstrap_runs([_aligned(values) for values in each])

    def _values(
        self, workflow: str, of: Value, keep: Keep, benchmark: str | None = None
    ) -> dict[tuple[str, str], float]:
        """What each question is worth, in an order that does not depend on when it was finished: the least of its
        rotations, where it has any. Without those that the judge leaves out."""
        found: dict[tuple[str, str], float] = {}
        for row in self.select(workflow, benchmark):
            if keep(row) and self.judge not in row.left_out:
                key = row.benchmark, row.circular or row.question
                found[key] = min(of(row), found.get(key, math.inf))
        return dict(sorted(found.items()))

    def mean(self, rows: Sequence[Played]) -> float:
        return mean_score(rows, self.judge)

    def score(self, row: Played) -> float:
        return row.scores.get(self.judge, 0.0)

    def compare(self, first: str, second: str, keep: Keep = everything, value: Value | None = None) -> Difference:
        """First against second by their scores, or by another `value`, on the questions that both answered and that are
        to be kept; each is the mean of its training runs, where it has several. Runs of one policy are paired: what is
        taken away is taken away from the same model."""
        if keep is not everything or value is not None:
            return self._difference(first, second, keep, value or self.score)
        # asked for by several tables
        if (first, second) not in self._compared:
            self._compared[first, second] = self._difference(first, second, keep, self.score)
        return self._compared[first, second]

    def _difference(self, first: str, second: str, keep: Keep, of: Value) -> Difference:
        ones, others = self._by_policy(first), self._by_policy(second)
        if same := [policy for policy in ones if policy in others]:
            ones, others = ({policy: runs[policy] for policy in same} for runs in (ones, others))
        values = _aligned([self._values(name, of, keep) for name in (*ones.values(), *others.values())])
        one, other = values[: len(ones)], values[len(ones) :]
        if len(values) == 2:
            return compare(one[0], other[0])
        if same:
            apart = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(one, other, strict=True)]
            return compare_runs(apart, [[0.0] * len(apart[0])])
        return compare_runs(one, other)


def load_results(
    folders: Sequence[EvalRun],
    judge: str | None = None,
    title: str = "",
    examples: int = 24,
    *,
    encrypted: bool = False,
) -> Results:
    """All runs as one; where two hold the same benchmark and workflow, the last one counts. `examples`: episodes with
    pictures for the gallery, of each benchmark and workflow; those of a benchmark that is published encrypted only
    where `encrypted` allows it."""
    workflows: dict[str, Described] = {}
    benchmarks: dict[str, BenchmarkInfo] = {}
    judges: list[str] = []
    rows: dict[str, Played] = {}
    shown: dict[str, GalleryEpisode] = {}
    for run in folders:
        info = run.info
        workflows |= {n: PLAIN.decode(row, Described, no_picture) for n, row in info["workflows"].items()}
        benchmarks |= {n: PLAIN.decode(row, BenchmarkInfo, no_picture) for n, row in info["benchmarks"].items()}
        judges += [j for j in run.info["judges"] if j not in judges]
        verdicts: dict[str, dict[str, Judged]] = {}
        for (id, name), verdict in run.judged().items():
            verdicts.setdefault(id, {})[name] = verdict
        chosen = judge or (judges[0] if judges else "")
        for id, trajectory in run.store.items():
            benchmark, workflow, _ = id.split("/", 2)
            rows[id] = measure(trajectory, verdicts.get(id, {}), benchmark, workflow)
            if trajectory.question.image is not None and (encrypted or not is_sealed(trajectory.question)):
                shown[id] = GalleryEpisode(rows[id], trajectory, verdicts.get(id, {}).get(chosen))
    facts = {key: value for run in folders for key, value in run.info.items() if isinstance(value, str | int | float)}
    return Results(
        title or " + ".join(run.folder.name for run in folders),
        judge or (judges[0] if judges else ""),
        tuple(judges),
        workflows,
        benchmarks,
        # they finish in another order each time
        sorted(rows.values(), key=_place),
        _few(sorted(shown.values(), key=lambda episode: _place(episode.played)), examples),
        facts,
        tuple((str(first), str(second)) for run in folders for first, second in run.info["planned"]),
    )


def _place(row: Played) -> tuple[str, str, str]:
    return row.benchmark, row.workflow, row.question


def _aligned(runs: Sequence[Mapping[tuple[str, str], float]]) -> list[list[float]]:
    """Of the questions that all answered."""
    common = [key for key in runs[0] if all(key in run for run in runs)]
    return [[run[key] for key in common] for run in runs]


def _few(episodes: Iterable[GalleryEpisode], most: int) -> list[GalleryEpisode]:
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for episode in episodes:
        group = episode.played.benchmark, episode.played.workflow
        taken[group] += 1
        if taken[group] <= most:
            kept.append(episode)
    return kept


@dataclass(frozen=True)
class Effort:
    """What answering took. Both definitions of the search ratio: `asked`, the share of questions with any search
    (DeepMMSearch-R1); `allowance`, searches made of those allowed (MMSearch-R1). `tools`: searches with each; they and
    the rest are per question. `unavailable`: turns that asked for a tool that is not there."""

    count: int
    asked: float
    allowance: float
    tools: Mapping[str, float]
    tool_success: float
    p50: float
    p95: float
    sampled: float | None
    read: float | None
    cost: float
    gave_up: float
    followed: float
    malformed: float
    errors: int
    unjudged: int
    several_texts: float
    calls: float
    unavailable: float = 0.0


def effort(rows: Sequence[Played], allowed: int) -> Effort:
    count = max(1, len(rows))
    searches = sum(r.searched for r in rows)
    seconds = [r.seconds for r in rows]
    sampled = [r.sampled for r in rows if r.sampled is not None]
    read = [r.read for r in rows if r.read is not None]

    def each(value: Callable[[Played], float]) -> float:
        return sum(value(r) for r in rows) / count

    return Effort(
        len(rows),
        each(lambda r: r.searched > 0),
        searches / (count * allowed) if allowed else 0.0,
        {tool: made / count for tool, made in sum((Counter(r.searches) for r in rows), Counter()).items()},
        1 - sum(r.failed for r in rows) / searches if searches else float("nan"),
        quantile(seconds, 0.5),
        quantile(seconds, 0.95),
        sum(sampled) / len(sampled) if sampled else None,
        sum(read) / len(read) if read else None,
        each(lambda r: r.cost),
        each(lambda r: r.gave_up),
        each(lambda r: r.followed),
        each(lambda r: r.malformed > 0),
        sum(r.error is not None for r in rows),
        sum(r.unjudged is not None for r in rows),
        each(lambda r: r.several_texts),
        each(lambda r: r.searched),
        each(lambda r: r.unavailable),
    )


def share_of(rows: Sequence[Played], holds: Keep) -> float:
    """Of the rows, how many it holds for; 0 where there are none."""
    return sum(map(holds, rows)) / max(1, len(rows))


def mean_score(rows: Sequence[Played], judge: str) -> float:
    """Without those that the judge leaves out, rotations of one question as one; 0 where there are none."""
    worth: dict[Hashable, float] = {}
    for number, row in enumerate(rows):
        if judge not in row.left_out:
            key = (row.benchmark, row.workflow, row.circular) if row.circular else number
            worth[key] = min(row.scores.get(judge, 0.0), worth.get(key, math.inf))
    return sum(worth.values()) / max(1, len(worth))
