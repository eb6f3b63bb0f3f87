"""The training study on invented worlds: base, fine-tuning, reinforcement learning, each measured on unseen questions.

Every job is one of the ordinary commands with one of the ordinary recipes, run as a process of its own; a job whose
result is there is skipped, one that was interrupted continues where it stopped. Measuring is an ordinary evaluation.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from deepmmsearch.children import call_all, start
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.evaluate import play_recipe
from deepmmsearch.compose.evaluation import Evaluation
from deepmmsearch.errors import UserError
from deepmmsearch.eval.figures import EXACT, Results, load_results
from deepmmsearch.eval.run import EvalRun
from deepmmsearch.files import for_owner
from deepmmsearch.outputs import Output, content, digest_of
from deepmmsearch.progress import Step, Watch, silent, tracked

# the seed of the first that teaches
FIRST_WORLD = 1000
# what a job's command is given to
PROGRAM = "deepmmsearch"
LIMITS = {"calls": 6, "image_searches": 1, "tokens": 512}


@dataclass(frozen=True)
class Job:
    """`command` is run as `deepmmsearch COMMAND`; `result` is there when it is done; `after`: what it starts from."""

    name: str
    command: tuple[str, ...]
    result: Path
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """How large the study is. `worlds` teach `sft`, the first `start_worlds` of them `start`. The RL runs begin where
    fine-tuning left two bad habits: `start` was taught little and searches too seldom; `cautious` knows as much as
    `sft`, and was then taught `cautious_rows` of `careful_worlds` by an oracle that looks up most of what it knows by
    heart (`careful`), so it searches too often. The runs from `cautious` are asked as many questions that need a search
    as such that need none, as in both papers (`even`). `seeds` of the main comparison.
    `keys`: environment variables that the jobs are given, which otherwise hold no key."""

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
    keys: tuple[str, ...] = ()

    def jobs(self) -> list[Job]:
        out, threads = self.out, f"threads={self.threads}"

        def model(name: str) -> Path:
            return out / name / ("checkpoint" if name == "base" else "merged")

        def tune(name: str, data: Sequence[str], *more: str, after: str = "base") -> Job:
            folders = ",".join(str(out / each) for each in data)
            given = (f"model={model(after)}", f"data=[{folders}]", f"output={out / name}", threads, *more)
            return self._job(name, ("sft", "sft.yaml", *given), model(name), (after, *data))

        def learn(name: str, after: str, *more: str) -> Job:
            start = (f"model={model(after)}", "adapter=null", "lora={r: 32, alpha: 64}")
            given = (*start, f"output={out / name}", f"atlas.folder={out / 'worlds'}", threads)
            command = ("grpo", "grpo.yaml", *given, *self.overrides, *more)
            return self._job(name, command, model(name), (after,))

        habit = (f"sample={self.cautious_rows}", "trl.num_train_epochs=1", "trl.learning_rate=1.0e-3")
        even = f"atlas.search_share={self.even}"
        return [
            self._job("base", ("pretrain", "base.yaml", f"output={out / 'base'}"), model("base"), ()),
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

    def _job(self, name: str, command: tuple[str, ...], result: Path, after: tuple[str, ...]) -> Job:
        verb, recipe, *given = command
        return Job(name, (verb, str(self.recipes / recipe), *given), result, after)

    def _teach(self, name: str, worlds: range, *more: str) -> Job:
        folder, first = self.out / name, FIRST_WORLD + worlds.start
        command = ("atlas", "teach", "--seed", str(first), "--worlds", str(len(worlds)), "--out", str(folder), *more)
        return Job(name, command, folder / f"world-{FIRST_WORLD + worlds.stop - 1}.json")

    def models(self) -> dict[str, Path]:
        """What is measured, by name."""
        return {job.name: job.result for job in self.jobs() if job.command[0] != "atlas"}


class Jobs(Protocol):
    """What is done in `out`, in several processes. `keys`: environment variables that they are given."""

    @property
    def out(self) -> Path: ...
    @property
    def keys(self) -> tuple[str, ...]: ...
    def jobs(self) -> list[Job]: ...


def run_jobs(
    study: Jobs,
    at_once: int,
    watch: Watch = silent,
    command: str = "reproduce train",
    before: Callable[[], None] | None = None,
) -> None:
    """Runs what is not done yet, `at_once` jobs at a time, each as soon as what it starts from is there. Whatever ends
    this, a job that failed or a signal, ends the jobs that still run; they continue the next time. `before` is called
    once the folder is known to be that `command`'s.

    Raises UserError with the last line and the log of a job that failed, and where the folder holds a job of the same
    name with other settings.
    """
    jobs = study.jobs()
    Output(study.out, command).claim({}, {job.name: _made_with(job, study) for job in jobs})
    if before is not None:
        before()
    left = [job for job in jobs if not job.result.exists()]
    running: dict[Future[float], Job] = {}
    started: list[subprocess.Popen[bytes]] = []
    with ThreadPoolExecutor(at_once) as pool, _terminating(started):
        while left or running:
            waiting = {job.name for job in (*left, *running.values())}
            for job in [j for j in left if not waiting & set(j.after)][: at_once - len(running)]:
                left.remove(job)
                watch(f"{job.name}: started, see {study.out / job.name}.log")
                running[pool.submit(_run, job, study, started)] = job
            finished, names = len(jobs) - len(left) - len(running), ", ".join(job.name for job in running.values())
            watch(Step("Jobs", finished, len(jobs), f"running {names}"))
            done, _ = wait(running, return_when="FIRST_COMPLETED")
            for future in done:
                job = running.pop(future)
                watch(f"{job.name}: done in {future.result() / 60:.1f} min")
    watch(Step("Jobs", len(jobs), len(jobs)))


def _made_with(job: Job, study: Jobs) -> dict[str, Any]:
    """A job's command: its recipe by content, and what is set in it, wherever the study lies."""
    made: dict[str, Any] = {"command": job.command[0]}
    for word in job.command[1:]:
        name, equals, value = word.replace(f"{study.out}/", "").partition("=")
        if equals and name != "threads":
            made[name] = value
        elif not equals and word.endswith(".yaml") and Path(word).is_file():
            made["recipe"] = content(Path(word).name, digest_of(Path(word).read_bytes()))
        elif not equals:
            made["arguments"] = f"{made.get('arguments', '')} {name}".strip()
    return made


@contextmanager
def _terminating(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Ends the processes when an exception passes through."""
    try:
        yield
    except BaseException:
        for process in processes:
            process.terminate()
        raise


def _run(job: Job, study: Jobs, started: list[subprocess.Popen[bytes]]) -> float:
    began = time.perf_counter()
    log = study.out / f"{job.name}.log"
    with open(log, "a", encoding="utf-8", opener=for_owner) as file:
        process = start(PROGRAM, *job.command, keys=study.keys, stdout=file, stderr=subprocess.STDOUT)
        started.append(process)
        code = process.wait()
    if code or not job.result.exists():
        last = log.read_text(encoding="utf-8").strip().splitlines()
        raise UserError(f"The job {job.name} failed ({last[-1] if last else 'no output'}). See {log}.")
    return time.perf_counter() - began


def recipe_of(study: Study, name: str, seed: int, questions: int) -> EvalRecipe:
    """How a model of the study is measured: greedy, as an agent with its own boxes, judged by exact match."""
    return EvalRecipe.model_validate(
        {
            "output": study.out / "measured" / f"{seed}-{questions}" / name,
            "worlds": study.out / "worlds",
            "policies": {name: {"kind": "local", "model": str(study.models()[name])}},
            "benchmarks": [{"name": "atlas", "seed": seed, "sample": questions}],
            "workflows": {name: {"limits": LIMITS}},
            "judges": {EXACT: {"rule": EXACT}},
            "concurrency": 32,
            "pictures": 0,
        }
    )


def measure_all(study: Study, seed: int, questions: int, at_once: int, watch: Watch = silent) -> Results:
    """Every model of the study on `questions` questions about the unseen world of `seed`, `at_once` models at a time.
    What was measured before is not played again."""
    recipes = {name: recipe_of(study, name, seed, questions) for name in study.models()}
    # made before the processes start, so that they do not make it side by side
    first = next(iter(recipes.values()))
    Evaluation(first).task(first.benchmarks[0])
    calls = [(_measure, recipe.model_dump(mode="json")) for recipe in recipes.values()]
    for _ in tracked(call_all(calls, at_once), "Measuring", len(calls), watch):
        pass
    return load_results([EvalRun(recipe.output) for recipe in recipes.values()], EXACT, "the study", examples=0)


def _measure(recipe: dict[str, Any]) -> None:
    play_recipe(EvalRecipe.model_validate(recipe))
