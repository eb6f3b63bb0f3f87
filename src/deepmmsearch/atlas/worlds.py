"""Worlds on disk: the world of a seed with its questions, and the index of its websites, made once and kept.

FOLDER/world     the atlas, as `atlas.files` writes it
FOLDER/index     the index of its sites
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.protocols import Page
from deepmmsearch.agent.table import make_tool
from deepmmsearch.atlas.names import Split
from deepmmsearch.atlas.questions import each_question
from deepmmsearch.atlas.world import USUAL, Kinds, Variant, make_world
from deepmmsearch.atlas.world_files import QUESTIONS, holds_atlas, read_question, write_atlas
from deepmmsearch.engine.index import Index, IndexSettings
from deepmmsearch.errors import ToolError, Unreadable
from deepmmsearch.files import lies_in, locked, remove_drafts, replacing
from deepmmsearch.progress import Step, Watch, silent, tracked
from deepmmsearch.reading.document import Origin
from deepmmsearch.reading.worker import Extractor
from deepmmsearch.tools.index_tools import local_tools
from deepmmsearch.types import Question


@dataclass(frozen=True)
class KeptWorld:
    folder: Path
    variant: Variant = USUAL

    @property
    def atlas(self) -> Path:
        return self.folder / "world"

    @property
    def index(self) -> Path:
        return self.folder / "index"

    def toolbox(self) -> Toolbox:
        return atlas_tools(self.atlas, Index.open(self.index), self.variant.kinds)


def atlas_tools(atlas: Path, index: Index, kinds: Kinds) -> Toolbox:
    """The engine's two searches and the extractive summariser, without a grounder; where it asks what needs more, the
    tools for that."""
    tools = local_tools(index)
    if kinds == "papers":
        return tools
    # a small model sees little at once
    extra = (make_tool("visit", {"part_length": 200, "links": 2}), make_tool("zoom", {}))
    return replace(tools, reader=SitesReader(atlas / "sites"), extra=extra)


class SitesReader:
    """PageReader: the pages of an atlas by their addresses, with their links, taken apart in another process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._extractor, self._lock = Extractor(), threading.Lock()

    async def read(self, url: str) -> Page:
        address = urlsplit(url)
        site, slug = (address.hostname or "").removesuffix(".example"), unquote(address.path).strip("/")
        path = self.folder / site / f"{slug.removesuffix('.html')}.html"
        if not path.is_file() or not lies_in(path, self.folder):
            raise ToolError(f"There is no page {url}.")
        return await asyncio.to_thread(self._read, url, path)

    def _read(self, url: str, path: Path) -> Page:
        try:
            with self._lock:
                found = self._extractor.read(Origin("html", path.stem, address=url), path.read_bytes())
        except (Unreadable, OSError) as error:
            raise ToolError(f"The page {url} cannot be read: {error}.") from None
        return Page(url, found.title, found.text, links=found.links)


def keep_world(
    folder: Path,
    seed: int,
    split: Split,
    questions: int,
    search_share: float | None = None,
    watch: Watch = silent,
    variant: Variant = USUAL,
) -> KeptWorld:
    """The world of a seed with so many questions, in `folder`: what is there is used, what is missing is made, by one
    process at a time. Atlas and index appear whole, so what is there is finished.

    Raises UserError where the folder holds another world, or something else.
    """
    kept = KeptWorld(folder, variant)
    with locked(folder / ".lock"):
        remove_drafts(folder)
        world = make_world(seed, split, variant=variant)
        if not holds_atlas(kept.atlas, world, questions, search_share):
            stage = f"World {split}-{seed}, questions"
            # the pages come before the first question
            watch(Step(stage, 0, questions))
            rows = tracked(each_question(world, questions, search_share=search_share), stage, questions, watch)
            write_atlas(world, kept.atlas, rows, search_share)
        if not kept.index.is_dir():
            with replacing(kept.index) as draft:
                # the order of hits that the bundled model learnt from
                Index.build(kept.atlas / "sites", draft, IndexSettings(titles="apart"), watch=watch)
    return kept


class Worlds:
    """The worlds of `seeds` with `count` questions each, `search_share` of them (0.78 without) such that need a search,
    each in a folder of its own in `folder`, and their questions as one list; pictures are read when a question is asked
    for."""

    def __init__(
        self,
        folder: Path,
        seeds: Iterable[int],
        count: int,
        split: Split = "train",
        watch: Watch = silent,
        search_share: float | None = None,
        variant: Variant = USUAL,
    ) -> None:
        self._lines: list[tuple[Path, str]] = []
        self._kept: dict[str, KeptWorld] = {}
        self._tools: dict[str, Toolbox] = {}
        mix = "" if search_share is None else f"-search-{round(100 * search_share)}"
        mix += "".join(f"-{name}-{value}" for name, value in variant.told.items())
        for seed in seeds:
            kept = keep_world(folder / f"{split}-{seed}-{count}{mix}", seed, split, count, search_share, watch, variant)
            name = f"{split}-{seed}"
            self._kept[name], self._tools[name] = kept, kept.toolbox()
            lines = (kept.atlas / QUESTIONS).read_text(encoding="utf-8").splitlines()
            self._lines += [(kept.atlas, line) for line in lines]
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
        return tuple(self._kept)

    def toolbox(self, world: str) -> Toolbox:
        """The tools of one world, without a grounder."""
        return self._tools[world]

    def index(self, world: str) -> Path:
        return self._kept[world].index
