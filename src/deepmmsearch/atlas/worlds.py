"""Several worlds of one split, each written and indexed in a folder of its own, their questions as one list.

FOLDER/<split>-<seed>/atlas, FOLDER/<split>-<seed>/index; a world that is there already is used as it is. Where the
share of questions that need a search is given, the folder's name ends in -search-<percent>.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from deepmmsearch.agent import Toolbox
from deepmmsearch.atlas.files import MARK, QUESTIONS, read_question, write_atlas
from deepmmsearch.atlas.names import Split
from deepmmsearch.atlas.questions import each_question
from deepmmsearch.atlas.world import make_world
from deepmmsearch.engine.index import Index
from deepmmsearch.files import locked
from deepmmsearch.tools.local import local_tools
from deepmmsearch.types import Question


class Worlds:
    """The worlds of `seeds` with `count` questions each, `search_share` of them (0.78 without) such that need a search;
    pictures are read when a question is asked for."""

    def __init__(
        self,
        folder: Path,
        seeds: Iterable[int],
        count: int,
        split: Split = "train",
        report: Callable[[str], None] = print,
        search_share: float | None = None,
    ) -> None:
        self._lines: list[tuple[Path, str]] = []
        self._tools: dict[str, Toolbox] = {}
        for seed in seeds:
            mix = "" if search_share is None else f"-search-{round(100 * search_share)}"
            own = folder / f"{split}-{seed}{mix}"
            index = _make(own, seed, split, count, search_share, report)
            self._tools[f"{split}-{seed}"] = local_tools(index)
            lines = (own / "atlas" / QUESTIONS).read_text(encoding="utf-8").splitlines()
            self._lines += [(own / "atlas", line) for line in lines]
        self.names = [str(json.loads(line)["id"]) for _, line in self._lines]

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, number: int) -> Question:
        folder, line = self._lines[number]
        return read_question(folder, line)

    def __iter__(self) -> Iterator[Question]:
        return (self[number] for number in range(len(self)))

    @property
    def worlds(self) -> tuple[str, ...]:
        """Their names, as questions have them in `metadata["world"]`."""
        return tuple(self._tools)

    def toolbox(self, world: str) -> Toolbox:
        """The tools of one world, without a grounder."""
        return self._tools[world]


def _make(
    folder: Path, seed: int, split: Split, count: int, search_share: float | None, report: Callable[[str], None]
) -> Index:
    mark = folder / "atlas" / MARK
    with locked(folder / ".lock"):
        if not mark.is_file() or json.loads(mark.read_text(encoding="utf-8"))["questions"] != count:
            world = make_world(seed, split)
            write_atlas(world, folder / "atlas", each_question(world, count, search_share=search_share))
            report(f"World {split}-{seed}: {count} questions")
        return Index.build(folder / "atlas" / "sites", folder / "index")
