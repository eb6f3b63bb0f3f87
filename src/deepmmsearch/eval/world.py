"""An atlas as a benchmark: the world of a seed, its questions and its index, made once and kept in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deepmmsearch.agent import Toolbox
from deepmmsearch.types import Question

MARK = "benchmark.json"


@dataclass(frozen=True)
class WorldQuestions:
    """The first `count` questions of an atlas, read one by one: thousands of scenes would not fit into memory."""

    folder: Path
    count: int

    def __iter__(self) -> Iterator[Question]:
        from itertools import islice

        from deepmmsearch.atlas.files import read_questions

        return islice(read_questions(self.folder), self.count)

    def __len__(self) -> int:
        return self.count


def make_benchmark(folder: Path, seed: int, questions: int, split: str = "eval") -> tuple[WorldQuestions, Path]:
    """The questions, and the index of the world's pages. One that was made before is used again if it was made with the
    same numbers: another count of questions makes other questions."""
    wanted: dict[str, object] = {"seed": seed, "split": split, "questions": questions}
    if _marked(folder) != {**wanted, "finished": True}:
        _make(folder, wanted, seed, questions, split)
    return WorldQuestions(folder / "world", questions), folder / "index"


def _make(folder: Path, facts: dict[str, object], seed: int, questions: int, split: str) -> None:
    from deepmmsearch.atlas.files import write_atlas
    from deepmmsearch.atlas.questions import each_question
    from deepmmsearch.atlas.world import make_world
    from deepmmsearch.engine import Index

    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text(json.dumps({**facts, "finished": False}) + "\n")
    for name in ("world", "index"):
        shutil.rmtree(folder / name, ignore_errors=True)
    world = make_world(seed, "train" if split == "train" else "eval")
    write_atlas(world, folder / "world", each_question(world, questions))
    Index.build(folder / "world" / "sites", folder / "index")
    (folder / MARK).write_text(json.dumps({**facts, "finished": True}) + "\n")


def open_tools(index: Path) -> Toolbox:
    """The engine's two searches and the extractive summariser, without a grounder."""
    from deepmmsearch.engine import Index
    from deepmmsearch.tools.local import local_tools

    opened = Index.open(index)
    return local_tools(opened)


def _marked(folder: Path) -> dict[str, object]:
    try:
        found = json.loads((folder / MARK).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
