"""What keeps an index: the local one (storage.py, writer.py), and tables of an engine that exists (table_store.py).

Reading, chunking, picture descriptors, the query language, fusing and the check of pictures stand above this border, so
they are the same for all.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from deepmmsearch.engine.encoders import TextEncoder
    from deepmmsearch.engine.image import Match
    from deepmmsearch.engine.page_terms import NewPassage
    from deepmmsearch.engine.storage import Conditions, FoundPassage, KnownFile, Ranked, Record
    from deepmmsearch.engine.vectors import Near


class DenseRanking(Protocol):
    """Passages by their vectors; see vectors.Vectors."""

    def search(self, encoder: TextEncoder, query: str, count: int) -> tuple[list[Near], float]: ...


class PictureRanking(Protocol):
    """See image.Gallery."""

    def search(self, image: Image, k: int, embedding: np.ndarray | None = None) -> list[Match]: ...

    def similar(self, embedding: np.ndarray, k: int) -> dict[int, float]: ...

    def thumbnail(self, row: int) -> Future[Image] | None: ...


class BackendSnapshot(Protocol):
    """What a commit holds; see storage.Snapshot. Addresses (in Ranked and KnownFile) are the back end's own."""

    derived: dict[str, Any]
    lock: threading.RLock

    @property
    def store(self) -> BackendStore: ...

    @property
    def documents(self) -> int: ...

    def find(self, field: str, value: str, limit: int = ...) -> Iterator[Record]: ...

    def record(self, score: float, address: Any) -> Record: ...

    def known_file(self, file: str) -> KnownFile | None: ...

    def known_files(self) -> dict[int, KnownFile]: ...

    def files_below(self, folder: str) -> list[str]: ...

    def claimed(self, pages: Collection[tuple[str, str]]) -> set[tuple[str, str]]: ...

    def count(self, kind: str) -> int: ...

    def rank(
        self,
        terms: Mapping[str, float],
        small: Mapping[str, float],
        limit: int,
        conditions: Conditions | None = None,
        parts: Mapping[str, float] | None = None,
        akin: Sequence[tuple[Sequence[str], int]] | None = None,
    ) -> Ranked: ...

    def rank_pages(self, terms: Mapping[str, float], limit: int) -> dict[int, float]: ...

    def rank_captions(self, words: str, limit: int) -> Iterator[Record]: ...

    def frequency(self, term: str) -> int: ...

    def spelled(self, prefix: str, most: int) -> list[str]: ...

    def tags(self, prefix: str) -> dict[str, int]: ...

    def columns(self, name: str, ranked: Ranked) -> list[int]: ...

    def address(self, row: int) -> Any: ...

    def passage(self, score: float, address: Any) -> FoundPassage: ...

    def vectors(self) -> DenseRanking | None: ...

    def gallery(self) -> PictureRanking | None: ...


class BackendWriter(Protocol):
    """The only one; see writer.Writer."""

    @property
    def snapshot(self) -> BackendSnapshot: ...

    @property
    def due(self) -> bool: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def add(
        self,
        kind: str,
        file: str,
        content: Mapping[str, Any],
        *,
        url: str = "",
        ref: str = "",
        stamp: int | None = None,
        within: str = "",
        caption: str = "",
    ) -> None: ...

    def add_page(
        self,
        file: str,
        url: str,
        title: str,
        passages: Sequence[NewPassage],
        language: str | None = None,
        date: str | None = None,
        within: str = "",
        names: str = "",
    ) -> None: ...

    def add_file(self, file: str, kind: str, content: Mapping[str, Any], stamp: int) -> None: ...

    def add_row(self, kind: str, row: Mapping[str, Any]) -> int: ...

    def add_picture(
        self, file: str, sha: str, row: Mapping[str, Any] | None, within: str = "", caption: str = ""
    ) -> None: ...

    def knows_picture(self, sha: str) -> bool: ...

    def remove(self, file: str) -> bool: ...

    def commit(self) -> None: ...


class BackendStore(Protocol):
    """An open index. `meta`: its settings; `name`: as messages call it; `place`: its folder, if it lies in one."""

    meta: dict[str, Any]
    stemmed: bool
    titles_apart: bool
    in_parts: bool

    @property
    def name(self) -> str: ...

    @property
    def place(self) -> Path | None: ...

    @property
    def read_only(self) -> bool: ...

    def intact(self) -> AbstractContextManager[None]:
        """A border: what the back end raises is a UserError here, or an OSError."""

    def snapshot(self) -> BackendSnapshot: ...

    def refresh(self) -> None: ...

    def keep(self, values: Mapping[str, Any]) -> None: ...

    def writing(self) -> BackendWriter:
        """UserError where another one writes."""

    def figures(self) -> dict[str, Any]:
        """What its own back end tells of its size."""
