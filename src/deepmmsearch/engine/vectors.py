"""The vectors of the passages of one commit: candidates by eight bits, measured by the sixteen on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deepmmsearch.engine import segments as seg
from deepmmsearch.engine.cells import FEWEST, Cells
from deepmmsearch.engine.encoders import TextEncoder
from deepmmsearch.engine.fusion import dense_share
from deepmmsearch.engine.segments import Arrays, Segment
from deepmmsearch.engine.storage import Snapshot

KIND = "vectors"
# candidates per passage that is wanted: several parts may be of one, and eight bits order them nearly
CANDIDATES = 4
SAMPLE = 1_000  # passages of which is learnt how near anything is to a query


@dataclass(frozen=True)
class Near:
    """A passage found by its vectors: its row in the store, the cosine of its best part, its page's number."""

    row: int
    cosine: float
    page: int


@dataclass(frozen=True, eq=False)
class VectorSegment:
    """The vectors of one segment: `parts` (n, dimensions), of which those of passage i begin at `starts[i]`; `rows`
    its row in the store, `pages` the number of its page, `dead` whether nothing names it any more."""

    parts: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    pages: np.ndarray
    dead: np.ndarray
    cells: Cells

    @cached_property
    def owner(self) -> np.ndarray:
        """The passage of each part."""
        lengths = np.diff(np.append(self.starts, len(self.parts)))
        return np.repeat(np.arange(len(self.starts), dtype=np.int32), lengths)

    @cached_property
    def dead_parts(self) -> np.ndarray | None:
        return self.dead[self.owner] if self.dead.any() else None

    def nearest(self, query: np.ndarray, count: int) -> list[Near]:
        """At most `count` passages, best first."""
        wanted = min(CANDIDATES * count, len(self.parts))
        while True:
            found, _ = self.cells.nearest(query, wanted, self.dead_parts)
            cosines = self.parts[found].astype(np.float32) @ query
            best: dict[int, float] = {}
            for passage, cosine in zip(self.owner[found].tolist(), cosines.tolist(), strict=True):
                best[passage] = max(cosine, best.get(passage, -2.0))
            # a page of many parts may fill the list
            if len(best) >= count or len(found) < wanted or wanted >= len(self.parts):
                break
            wanted = min(4 * wanted, len(self.parts))
        ranked = sorted(best, key=lambda passage: -best[passage])[:count]
        return [Near(int(self.rows[p]), best[p], int(self.pages[p])) for p in ranked]


class Vectors:
    """The vectors of all passages of a commit."""

    def __init__(self, pieces: Sequence[VectorSegment]) -> None:
        self._pieces = pieces
        self._count = sum(int((~piece.dead).sum()) for piece in pieces)

    def nearest(self, query: np.ndarray, count: int) -> list[Near]:
        """The passages whose best part is nearest to the query (a unit vector), best first. Exact in segments of fewer
        than FEWEST parts, nearly so in larger ones."""
        found = [near for piece in self._pieces for near in piece.nearest(query, count)]
        return sorted(found, key=lambda near: -near.cosine)[:count]

    def search(self, encoder: TextEncoder, query: str, count: int) -> tuple[list[Near], float]:
        """As `nearest`, for words; and what these vectors weigh against BM25 (fusion.py)."""
        vector = encoder.encode_query([query])[0]
        found, known = self.nearest(vector, count), encoder.known(query)
        apart = self.apart(vector, found[0].cosine) if found and known < 1 else 0.0
        return found, dense_share(known, apart)

    def apart(self, query: np.ndarray, nearest: float) -> float:
        """How far the nearest passage's cosine stands above those of all, in their deviations, over how far the
        greatest of as many random ones would: about 1 where the query is near to nothing in particular."""
        parts, starts = self._sample
        return standing_apart(np.maximum.reduceat(parts @ query, starts), nearest, self._count)

    @cached_property
    def _sample(self) -> tuple[np.ndarray, np.ndarray]:
        """Parts of passages from all over, and where those of each begin."""
        taken: list[np.ndarray] = []
        for piece in self._pieces:
            ends = np.append(piece.starts, len(piece.parts))
            alive = np.flatnonzero(~piece.dead)
            share = math.ceil(SAMPLE * len(alive) / max(1, self._count))
            for passage in alive[:: max(1, len(alive) // max(1, share))]:
                taken.append(piece.parts[ends[passage] : ends[passage + 1]].astype(np.float32))
        return np.concatenate(taken), np.cumsum([0, *map(len, taken[:-1])])


def standing_apart(cosines: np.ndarray, nearest: float, count: int) -> float:
    """How far `nearest` stands above the cosines of a sample of `count` passages (see `Vectors.apart`)."""
    chance = math.sqrt(2 * math.log(max(3, count)))
    return float((nearest - cosines.mean()) / (cosines.std() + 1e-9) / chance)


def cells_of(kind: str, arrays: Arrays) -> dict[str, np.ndarray]:
    """What is kept beside a segment so that it is searched by cells; nothing where it is small."""
    if kind != KIND or len(arrays["vector"]) < FEWEST:
        return {}
    return Cells.learnt(arrays["vector"]).arrays


def vectors_of(snapshot: Snapshot) -> Vectors | None:
    """Those of a commit, made once; None where its passages have none."""
    with snapshot.lock:
        if KIND not in snapshot.derived:
            pieces = [_piece(*piece) for piece in snapshot.pieces(KIND) if len(piece[1]["vector"])]
            snapshot.derived[KIND] = Vectors(pieces) if pieces else None
        vectors: Vectors | None = snapshot.derived[KIND]
        return vectors


def _piece(segment: Segment, arrays: Arrays, beside: Arrays) -> VectorSegment:
    # slices of a plain array cost a tenth of those of a mapped one, and read the same file
    parts = np.asarray(arrays["vector"])
    cells = Cells.read(beside, *parts.shape) if beside else Cells.whole(parts)
    return VectorSegment(
        parts, arrays["vector" + seg.OFFSETS][:-1], arrays[seg.IDS], arrays["page"], segment.dead, cells
    )
