"""How long work shows on the console: bars in a terminal, a line now and then in a log. All of it goes to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from deepmmsearch.console import Console
from deepmmsearch.progress import Step
from deepmmsearch.streams import echo, guarded_streams

EVERY = 30.0
"""Seconds between two lines in a log."""


class Bars:
    """A bar for each stage that is reported, with its rate and the time that remains; a stage that is complete goes.

    Where stderr is not a terminal: a line when a stage begins, every half minute, and when it is complete. Sentences go
    to stdout, above the bars.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._shown = self._console.is_terminal and not self._console.is_dumb_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Words(),
            console=self._console,
            transient=True,
            get_time=clock,
            # one slow step must not be the whole estimate
            speed_estimate_period=3600,
            redirect_stdout=sys.stdout.isatty(),
            disable=not self._shown,
        )
        self._open = ExitStack()
        self._clock = clock
        self._running: dict[str, TaskID] = {}
        self._complete: set[str] = set()
        self._printed: dict[str, float] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        self._open.callback(self._progress.stop)
        if self._shown:
            # below the bars stand streams of Rich's, which read escape codes
            self._open.enter_context(guarded_streams())
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Shows that something is under way whose length is not known."""
        self(Step(stage, 0))
        yield
        self(Step(stage, 1, 1))

    def __call__(self, said: str | Step) -> None:
        if isinstance(said, Step):
            self._step(said)
        else:
            echo(said)

    def _step(self, step: Step) -> None:
        complete = step.total is not None and step.done >= step.total
        new = step.stage not in self._running
        if new and complete and step.stage in self._complete:
            return
        now: dict[str, Any] = {"total": step.total, "completed": step.done, "note": step.note}
        if new:
            self._running[step.stage] = self._progress.add_task(step.stage, **now)
        else:
            self._progress.update(self._running[step.stage], **now)
        if not self._shown and (new or complete or self._clock() - self._printed[step.stage] >= EVERY):
            task = next(task for task in self._progress.tasks if task.id == self._running[step.stage])
            self._console.print(f"{step.stage}: {words(task)}", soft_wrap=True)
            self._printed[step.stage] = self._clock()
        if complete:
            self._complete.add(step.stage)
            self._progress.remove_task(self._running.pop(step.stage))


class _Words(ProgressColumn):
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        return Text(words(task))


def words(task: Task) -> str:
    """How far, how fast, how much longer: "120 of 400, 3.1/s, 1:30 left, 93 % right"."""
    done, seconds = int(task.completed), task.elapsed or 0.0
    counted = f"{done:,} of {int(task.total):,}" if task.total is not None else f"{done:,}" if done else ""
    rate = task.speed or 0.0
    if task.total is not None and done >= task.total:
        passed = f"{span(seconds)} in all"
    elif task.total is not None and rate:
        passed = f"{span((task.total - done) / rate)} left"
    else:
        passed = span(seconds) if seconds >= 1 else ""
    said = (counted if task.total != 1 else "", _rate(rate), passed, task.fields.get("note", ""))
    return ", ".join(filter(None, said)) or "..."


def _rate(per_second: float) -> str:
    for count, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_second * count >= 1:
            return f"{per_second * count:.{0 if per_second * count >= 10 else 1}f}/{unit}"
    return ""


def span(seconds: float) -> str:
    minutes = int(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes}:{int(seconds % 60):02}"
