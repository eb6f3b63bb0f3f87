"""What is measured of each episode, and what of many: the columns of the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepmmsearch.codec import PLAIN, no_picture
from deepmmsearch.eval.faults import followed
from deepmmsearch.eval.run import BenchmarkInfo, Described, EvalRun, Judged
from deepmmsearch.eval.statistics import Difference, Interval, bootstrap, compare, quantile
from deepmmsearch.eval.workflows import retrievals
from deepmmsearch.judge import gave_up, is_correct
from deepmmsearch.rewards import crop_quality
from deepmmsearch.types import Malformed, Trajectory

EXACT = "exact"
PAPER_SEARCHES = ("text", "image", "crop")


@dataclass(frozen=True)
class Played:
    """One question as one workflow answered it. `scores` by judge; `unjudged`: why a judge gave no verdict.
    `malformed`: turns that held no action. `searches` by text, image, crop and other tools; `failed`: those that came
    back with an error. `seconds` with everything that was waited for; `sampled` and `read` are tokens, None where the
    endpoint hides them; `cost` in US dollars. `crop_quality`: mean IoU with the gold box where one is known, else the
    grounder's score; None without a crop."""

    benchmark: str
    workflow: str
    question: str
    scores: Mapping[str, float]
    unjudged: str | None
    error: str | None
    gave_up: bool
    followed: bool
    malformed: int
    searches: Mapping[str, int]
    failed: int
    seconds: float
    sampled: int | None
    read: int | None
    cost: float
    crop_quality: float | None
    gold_box: bool
    search_required: bool | None
    kind: str
    category: str

    @property
    def searched(self) -> int:
        return sum(self.searches.values())

    @property
    def several_texts(self) -> bool:
        return self.used("text", 2)

    def used(self, tool: str, times: int = 1) -> bool:
        """At least so many times?"""
        return self.searches.get(tool, 0) >= times


Keep = Callable[[Played], bool]
Value = Callable[[Played], float]


def everything(row: Played) -> bool:
    return True


def measure(trajectory: Trajectory, verdicts: Mapping[str, Judged], benchmark: str = "", workflow: str = "") -> Played:
    metadata = trajectory.question.metadata
    found = retrievals(trajectory)
    sampled = [completion.sampled for completion in trajectory.completions]
    required = metadata.get("search_required")
    return Played(
        benchmark,
        workflow,
        trajectory.question.id,
        {judge: verdict.score for judge, verdict in verdicts.items()},
        next((v.error for v in verdicts.values() if v.error), None),
        trajectory.error,
        trajectory.error is None and gave_up(trajectory.answer),
        followed(trajectory.answer),
        sum(isinstance(t.action, Malformed) for t in trajectory.turns),
        Counter(tool for tool, _ in found),
        sum(observation is None or observation.error is not None for _, observation in found),
        trajectory.seconds,
        trajectory.sampled_tokens if any(n is not None for n in sampled) else None,
        trajectory.prompt_tokens,
        trajectory.cost,
        crop_quality(trajectory),
        bool(metadata.get("gold_box")),
        required if isinstance(required, bool) else None,
        str(metadata.get("kind", "")),
        str(metadata.get("category", "")),
    )


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
    """Everything of one or more evaluations. `judge` is the one whose scores the tables show."""

    title: str
    judge: str
    judges: tuple[str, ...]
    workflows: Mapping[str, Described]
    benchmarks: Mapping[str, BenchmarkInfo]
    rows: Sequence[Played]
    gallery: Sequence[GalleryEpisode]
    facts: Mapping[str, Any]

    @property
    def tools(self) -> list[str]:
        """What was searched with: the papers' three ways, then other tools by name."""
        used = {tool for row in self.rows for tool in row.searches}
        return [*PAPER_SEARCHES, *sorted(used - set(PAPER_SEARCHES))]

    def select(self, workflow: str, benchmark: str | None = None) -> list[Played]:
        return [r for r in self.rows if r.workflow == workflow and benchmark in (None, r.benchmark)]

    def accuracy(self, workflow: str, benchmarks: Iterable[str] | None = None, keep: Keep = everything) -> Interval:
        """Every benchmark weighs the same, as in the paper's averages."""
        names = list(benchmarks) if benchmarks is not None else list(self.benchmarks)
        return bootstrap([[self.score(r) for r in self.select(workflow, name) if keep(r)] for name in names])

    def mean(self, rows: Sequence[Played]) -> float:
        return mean_score(rows, self.judge)

    def score(self, row: Played) -> float:
        return row.scores.get(self.judge, 0.0)

    def compare(self, first: str, second: str, keep: Keep = everything, value: Value | None = None) -> Difference:
        """First against second by their scores, or by another `value`, on the questions that both answered and that are
        to be kept."""
        of = value or self.score
        others = {(r.benchmark, r.question): of(r) for r in self.select(second) if keep(r)}
        pairs = [
            (of(r), others[r.benchmark, r.question])
            for r in self.select(first)
            if keep(r) and (r.benchmark, r.question) in others
        ]
        return compare([a for a, _ in pairs], [b for _, b in pairs])


def load_results(folders: Sequence[EvalRun], judge: str | None = None, title: str = "", examples: int = 24) -> Results:
    """All runs as one; where two hold the same benchmark and workflow, the last one counts. `examples`: episodes with
    pictures for the gallery, of each benchmark and workflow."""
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
            if trajectory.question.image is not None:
                shown[id] = GalleryEpisode(rows[id], trajectory, verdicts.get(id, {}).get(chosen))
    facts = {key: value for run in folders for key, value in run.info.items() if isinstance(value, str | int | float)}
    return Results(
        title or " + ".join(run.folder.name for run in folders),
        judge or (judges[0] if judges else ""),
        tuple(judges),
        workflows,
        benchmarks,
        # they finish in another order each time, and resampling depends on the order
        sorted(rows.values(), key=lambda row: row.question),
        _few(shown.values(), examples),
        facts,
    )


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
    the rest are per question."""

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
    )


def share_of(rows: Sequence[Played], holds: Keep) -> float:
    """Of the rows, how many it holds for; 0 where there are none."""
    return sum(map(holds, rows)) / max(1, len(rows))


def mean_score(rows: Sequence[Played], judge: str) -> float:
    """0 where there are none."""
    return sum(row.scores.get(judge, 0.0) for row in rows) / max(1, len(rows))
