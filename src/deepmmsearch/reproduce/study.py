"""The training study on invented worlds: base, fine-tuning, reinforcement learning, each measured on unseen questions.

Every stage is one of the ordinary commands with one of the ordinary recipes, run as a process of its own; a stage whose
result is there is skipped, one that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from deepmmsearch.atlas.play import correct, play_worlds
from deepmmsearch.atlas.worlds import Worlds
from deepmmsearch.compose.policies import choose_prompt, local_policy, policy_grounder
from deepmmsearch.errors import UserError
from deepmmsearch.eval.statistics import Difference, Interval, bootstrap, compare
from deepmmsearch.files import write_json
from deepmmsearch.types import ImageSearch, Limits, Malformed, Trajectory

# the seed of the first that teaches
FIRST_WORLD = 1000
# a stage's command follows
COMMAND = (sys.executable, "-c", "from deepmmsearch.cli import main; main()")
LIMITS = Limits(calls=6, image_searches=1, tokens=512)


@dataclass(frozen=True)
class Stage:
    """`command` is run as `deepmmsearch COMMAND`; `result` is there when it is done; `after`: what it starts from."""

    name: str
    command: tuple[str, ...]
    result: Path
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How large the study is. `worlds` teach `sft`, the first `start_worlds` of them `start`. The RL runs begin where
    fine-tuning left two bad habits: `start` was taught little and searches too seldom; `cautious` knows as much as
    `sft`, and was then taught `cautious_rows` of `careful_worlds` by an oracle that looks up most of what it knows by
    heart (`careful`), so it searches too often. The runs from `cautious` are asked as many questions that need a search
    as such that need none, as in both papers (`even`). `seeds` of the main comparison."""

    recipes: Path
    out: Path
    worlds: int = 14
    start_worlds: int = 8
    cautious_rows: int = 800
    careful_worlds: int = 7
    careful: float = 0.9
    even: float = 0.5
    seeds: tuple[int, ...] = (0, 1, 2)
    threads: int = 1
    overrides: tuple[str, ...] = ()

    def stages(self) -> list[Stage]:
        out, threads = self.out, f"threads={self.threads}"

        def model(name: str) -> Path:
            return out / name / ("checkpoint" if name == "base" else "merged")

        def tune(name: str, data: Sequence[str], *more: str, after: str = "base") -> Stage:
            folders = ",".join(str(out / each) for each in data)
            given = (f"model={model(after)}", f"data=[{folders}]", f"output={out / name}", threads, *more)
            return self._stage(name, ("sft", "sft.yaml", *given), model(name), (after, *data))

        def learn(name: str, after: str, *more: str) -> Stage:
            given = (f"model={model(after)}", f"output={out / name}", f"atlas.folder={out / 'worlds'}", threads)
            command = ("grpo", "grpo.yaml", *given, *self.overrides, *more)
            return self._stage(name, command, model(name), (after,))

        habit = (f"sample={self.cautious_rows}", "trl.num_train_epochs=1", "trl.learning_rate=1.0e-3")
        even = f"atlas.search_share={self.even}"
        return [
            self._stage("base", ("pretrain", "base.yaml", f"output={out / 'base'}"), model("base"), ()),
            self._teach("few", range(self.start_worlds)),
            self._teach("more", range(self.start_worlds, self.worlds)),
            self._teach("careful", range(self.careful_worlds), "--careful", str(self.careful)),
            tune("start", ["few"]),
            tune("sft", ["few", "more"]),
            tune("cautious", ["careful"], *habit, after="sft"),
            *(learn(f"rl-{seed}", "start", f"seed={seed}") for seed in self.seeds),
            learn("selective", "cautious", even),
            learn("penalty", "cautious", even, "reward.kind=mmsearch-r1"),
            # short: the base writes no turn in the protocol's form, so nothing is ever rewarded
            learn("scratch", "base", "trl.max_steps=12", "evaluate_every=0", "trl.save_steps=6"),
            learn("final", "sft"),
        ]

    def _stage(self, name: str, command: tuple[str, ...], result: Path, after: tuple[str, ...]) -> Stage:
        verb, recipe, *given = command
        return Stage(name, (verb, str(self.recipes / recipe), *given), result, after)

    def _teach(self, name: str, worlds: range, *more: str) -> Stage:
        folder, first = self.out / name, FIRST_WORLD + worlds.start
        command = ("atlas", "teach", "--seed", str(first), "--worlds", str(len(worlds)), "--out", str(folder), *more)
        return Stage(name, command, folder / f"world-{FIRST_WORLD + worlds.stop - 1}.json")

    def models(self) -> dict[str, Path]:
        """What is measured, by name."""
        return {stage.name: stage.result for stage in self.stages() if stage.command[0] != "atlas"}


def run_stages(plan: Plan, jobs: int, report: Callable[[str], None]) -> None:
    """Runs what is not done yet, `jobs` at once, each as soon as what it starts from is there. Whatever ends this, a
    stage that failed or a signal, ends the stages that still run; they go on the next time.

    Raises UserError with the last line and the log of a stage that failed.
    """
    left = [stage for stage in plan.stages() if not stage.result.exists()]
    plan.out.mkdir(parents=True, exist_ok=True)
    running: dict[Future[float], Stage] = {}
    started: list[subprocess.Popen[bytes]] = []
    with ThreadPoolExecutor(jobs) as pool, _terminating(lambda: started):
        while left or running:
            waiting = {stage.name for stage in (*left, *running.values())}
            for stage in [s for s in left if not waiting & set(s.after)][: jobs - len(running)]:
                left.remove(stage)
                report(f"{stage.name}: started, see {plan.out / stage.name}.log")
                running[pool.submit(_run, stage, plan.out, started)] = stage
            done, _ = wait(running, return_when="FIRST_COMPLETED")
            for future in done:
                stage = running.pop(future)
                report(f"{stage.name}: done in {future.result() / 60:.1f} min")


@contextmanager
def _terminating(processes: Callable[[], Iterable[subprocess.Popen[bytes] | BaseProcess]]) -> Iterator[None]:
    """Ends the processes when an exception passes through."""
    try:
        yield
    except BaseException:
        for process in processes():
            process.terminate()
        raise


def _run(stage: Stage, out: Path, started: list[subprocess.Popen[bytes]]) -> float:
    began = time.perf_counter()
    log = out / f"{stage.name}.log"
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen([*COMMAND, *stage.command], stdout=file, stderr=subprocess.STDOUT)
        started.append(process)
        code = process.wait()
    if code or not stage.result.exists():
        last = log.read_text(encoding="utf-8").strip().splitlines()
        raise UserError(f"The stage {stage.name} failed ({last[-1] if last else 'no output'}). See {log}.")
    return time.perf_counter() - began


@dataclass(frozen=True)
class Answered:
    """One question, as a model played it."""

    id: str
    kind: str
    search_required: bool
    right: bool
    searches: int
    texts: int
    crops: int
    malformed: int


Rows = Sequence[Answered]


def measure(folder: Path, worlds: Path, seeds: Sequence[int], questions: int) -> list[Answered]:
    """The greedy policy of a checkpoint on `questions` questions of each unseen world, with its own boxes."""
    asked = Worlds(worlds, seeds, questions, "eval", lambda line: None)
    policy = local_policy(folder)
    prompt = choose_prompt(policy, asked.toolbox(asked.worlds[0]))
    played = play_worlds(asked, policy, policy_grounder(policy), prompt, LIMITS)
    return [_answered(trajectory) for trajectory in played]


def _answered(trajectory: Trajectory) -> Answered:
    question, searches = trajectory.question, trajectory.searches
    pictures = [s for s in searches if isinstance(s, ImageSearch)]
    return Answered(
        question.id,
        str(question.metadata["kind"]),
        bool(question.metadata["search_required"]),
        correct(trajectory),
        len(searches),
        len(searches) - len(pictures),
        sum(s.region is not None for s in pictures),
        sum(isinstance(turn.action, Malformed) for turn in trajectory.turns),
    )


def measure_all(
    plan: Plan, seeds: Sequence[int], questions: int, jobs: int, report: Callable[[str], None]
) -> dict[str, list[Answered]]:
    """Every model of the plan; what was measured before is read from OUT/measured."""
    folder = plan.out / "measured"
    folder.mkdir(parents=True, exist_ok=True)
    worlds = plan.out / "worlds"
    # made before the processes start, so that they do not make it side by side
    Worlds(worlds, seeds, questions, "eval", report)
    paths = {name: folder / f"{name}-{'-'.join(map(str, seeds))}-{questions}.json" for name in plan.models()}
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool, _terminating(active_children):
        asked = {
            name: pool.submit(measure, model, worlds, seeds, questions)
            for name, model in plan.models().items()
            if not paths[name].exists()
        }
        for name, future in asked.items():
            rows = future.result()
            write_json(paths[name], [asdict(row) for row in rows])
            report(f"{name}: {sum(row.right for row in rows)} of {len(rows)} right")
    return {
        name: sorted((Answered(**row) for row in json.loads(path.read_text(encoding="utf-8"))), key=lambda r: r.id)
        for name, path in paths.items()
    }


@dataclass(frozen=True)
class Claim:
    """One sentence, and whether the figures show it."""

    text: str
    shown: bool
    figure: str


def claims(measured: Mapping[str, Rows], seeds: Sequence[int]) -> list[Claim]:
    """What the study set out to show; a claim that fails says so."""
    start = measured["start"]
    found = []
    gains = [_paired(measured[f"rl-{seed}"], start, _right) for seed in seeds]
    first = bootstrap([_right(start)])
    found.append(Claim("the start is between 60 and 75 %", 0.6 <= first.mean <= 0.75, _share(first)))
    gained = "; ".join(_points(gain) for gain in gains)
    found.append(
        Claim("GRPO gains at least 8 points over its start, each seed", all(g.mean >= 0.08 for g in gains), gained)
    )
    needed = [_paired(measured[f"rl-{s}"], start, _right, required=True) for s in seeds]
    found.append(
        Claim(
            "no fewer right on questions that need a search",
            all(d.mean >= 0 for d in needed),
            "; ".join(map(_points, needed)),
        )
    )
    if {"cautious", "selective", "penalty"} <= measured.keys():
        found += _selectivity(measured["cautious"], measured["selective"], measured["penalty"])
    if "final" in measured:
        final = bootstrap([_right(measured["final"])])
        found.append(Claim("the shipped model reaches 92 %", final.mean >= 0.92, _share(final)))
    return found


def _selectivity(cautious: Rows, selective: Rows, penalised: Rows) -> list[Claim]:
    fewer = _paired(selective, cautious, _searches, required=False)
    kept = _paired(selective, cautious, _right, required=True)
    apart = _paired(penalised, cautious, _right)
    before, plain, after = (search_ratio(rows) for rows in (cautious, selective, penalised))
    fall = 1 - after / before if before else 0.0
    return [
        Claim(
            "GRPO searches less on questions that need none, with no fewer right on those that need a search",
            fewer.high < 0 and kept.high >= 0,
            f"{fewer.mean:+.2f} a question [{fewer.low:+.2f}, {fewer.high:+.2f}]; {_points(kept)}",
        ),
        Claim(
            "with the search penalty the search ratio falls by 20 % or more at equal accuracy",
            fall >= 0.2 and apart.high >= 0,
            f"ratio {before:.3f} to {after:.3f} ({-fall:+.0%}), without the penalty {plain:.3f}; "
            f"accuracy {_points(apart)}",
        ),
    ]


def search_ratio(rows: Rows) -> float:
    """Share of questions with a search among equally many that need one and that need none, as both papers mix them."""
    halves = ([bool(r.searches) for r in rows if r.search_required == required] for required in (True, False))
    return sum(sum(half) / max(1, len(half)) for half in halves) / 2


def table(measured: Mapping[str, Rows]) -> list[list[str]]:
    """A row for each model: accuracy with its interval, over all questions and by need of a search, and searches."""
    rows = []
    for name, answered in measured.items():
        needed = [r for r in answered if r.search_required]
        free = [r for r in answered if not r.search_required]
        rows.append(
            [
                name,
                _share(bootstrap([_right(answered)])),
                _share(bootstrap([_right(needed)])),
                _share(bootstrap([_right(free)])),
                f"{search_ratio(answered):.3f}",
                f"{sum(_searches(needed)) / max(1, len(needed)):.2f}",
                f"{sum(_searches(free)) / max(1, len(free)):.2f}",
                f"{sum(r.malformed for r in answered) / max(1, len(answered)):.2f}",
            ]
        )
    return rows


COLUMNS = (
    "model", "right", "search needed", "none needed", "search ratio", "searches, needed", "searches, none", "malformed"
)  # fmt: skip


def _right(rows: Rows) -> list[float]:
    return [float(row.right) for row in rows]


def _searches(rows: Rows) -> list[float]:
    return [float(row.searches) for row in rows]


def _paired(
    first: Rows,
    second: Rows,
    values: Callable[[Rows], list[float]],
    required: bool | None = None,
) -> Difference:
    assert [r.id for r in first] == [r.id for r in second], "two models answered different questions"
    chosen = [(a, b) for a, b in zip(first, second, strict=True) if required is None or a.search_required == required]
    return compare(values([a for a, _ in chosen]), values([b for _, b in chosen]))


def _share(found: Interval) -> str:
    return f"{found.mean:.1%} [{found.low:.1%}, {found.high:.1%}]"


def _points(found: Difference) -> str:
    return f"{100 * found.mean:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
