"""What tests of runs in parts share: recipes over an endpoint, and workers that may be lost."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import yaml

from deepmmsearch.outputs import RunPart
from deepmmsearch.scale.part_workers import PartJob, PartPlayed


def write_eval_recipe(folder: Path, url: str, questions: int, **settings: Any) -> Path:
    """An evaluation of so many questions, to every third of which Balor is the wrong answer."""
    rows = [
        {"id": f"q{n}", "question": f"Which river is {n}?", "answers": ["Balor" if n % 3 else "Nim"]}
        for n in range(questions)
    ]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made: dict[str, Any] = {
        "output": str(folder / "run"),
        "policies": {"m": {"kind": "chat", "base_url": url, "model": "vlm"}},
        "benchmarks": [{"name": str(folder / "mine.jsonl"), "label": "mine"}],
        "workflows": {"direct": {"kind": "direct"}},
        "judges": {"reward": {"rule": "reward"}},
        **settings,
    }
    path = folder / "eval.yaml"
    path.write_text(yaml.safe_dump(made))
    return path


class GoneError(Exception):
    """The worker, or its machine."""


def three_losses(output: Path) -> Callable[[RunPart, int], None]:
    """The machine of part 2 is lost with its disk, twice, and the process of part 5 alone."""

    def fate(part: RunPart, before: int) -> None:
        if part.number == 2 and before < 2:
            shutil.rmtree(part.folder(output))
            raise GoneError("node 10.0.0.7 is gone\nand a trace")
        if part.number == 5 and before == 0:
            raise GoneError

    return fate


class Threads:
    """Plays jobs in threads. `fate`: called with a part that was played and how often before, raises GoneError for what
    does not come home."""

    lost: tuple[type[BaseException], ...] = (GoneError,)

    def __init__(self, fate: Callable[[RunPart, int], None] = lambda part, before: None) -> None:
        self.fate = fate
        self.played: list[int] = []
        self.busy = self.most = 0

    def submit(self, job: PartJob) -> Future[PartPlayed]:
        future: Future[PartPlayed] = Future()
        self.busy += 1
        self.most = max(self.most, self.busy)

        def work() -> None:
            try:
                played = self.play(job)
                before = self.played.count(job.part.number)
                self.played.append(job.part.number)
                self.fate(job.part, before)
                self.busy -= 1
                future.set_result(played)
            except BaseException as error:
                self.busy -= 1
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def play(self, job: PartJob) -> PartPlayed:
        return job.play()
