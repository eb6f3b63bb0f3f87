"""Text search over one commit: BM25, dense vectors where the index has them, fused by their scaled scores.

Ranking, fusing and the limit per page work on columns of numbers; only the passages that are returned are read.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deepmmsearch.engine import segments as seg
from deepmmsearch.engine.encoders import TextEncoder
from deepmmsearch.engine.storage import FoundPassage, Snapshot
from deepmmsearch.notation import without_halves

# measured: the same from 2.5 to 8; 1 loses a third of the questions that name a page and one of its facts
TITLE_BOOST = 3.0
PER_PAGE = 3
DEPTH = 50
DEEPEST = 5_000
MAX_QUERY = 2_000


def search(
    snapshot: Snapshot, query: str, k: int, encoder: TextEncoder | None = None, per_page: int = PER_PAGE
) -> list[FoundPassage]:
    """At most k passages, best first, at most `per_page` of one page; `score` is BM25's, or the fused one."""
    query = without_halves(query[:MAX_QUERY])
    vectors = _vectors(snapshot) if encoder is not None and query.strip() else None
    if encoder is None or vectors is None:
        return _lexical(snapshot, query, k, per_page)
    return _fused(snapshot, query, k, vectors, encoder.encode([query])[0], per_page)


def _lexical(snapshot: Snapshot, query: str, k: int, per_page: int) -> list[FoundPassage]:
    depth = max(DEPTH, 4 * k)
    while True:
        ranked = snapshot.rank(query, depth, TITLE_BOOST)
        kept = limited(snapshot.columns("page", ranked), k, per_page)
        # a few long pages may fill the list
        if len(kept) == k or len(ranked) < depth or depth >= DEEPEST:
            return [snapshot.passage(*ranked[position]) for position in kept]
        depth *= 4


def _fused(
    snapshot: Snapshot, query: str, k: int, vectors: Vectors, embedded: np.ndarray, per_page: int
) -> list[FoundPassage]:
    depth = max(DEPTH, 4 * k)
    ranked = snapshot.rank(query, depth, TITLE_BOOST)
    lexical = dict(zip(snapshot.columns("row", ranked), ranked, strict=True))
    dense = vectors.nearest(embedded, depth)
    scores = fuse([{row: score for row, (score, _) in lexical.items()}, {n.row: n.cosine for n in dense}], depth)
    pages = {near.row: near.page for near in dense}
    pages.update(zip(lexical, snapshot.columns("page", ranked), strict=True))
    rows = sorted(scores, key=lambda row: -scores[row])
    kept = [rows[position] for position in limited([pages[row] for row in rows], k, per_page)]
    found = (lexical[row][1] if row in lexical else snapshot.address(row) for row in kept)
    return [snapshot.passage(scores[row], address) for row, address in zip(kept, found, strict=True)]


def fuse(rankings: Sequence[Mapping[int, float]], depth: int) -> dict[int, float]:
    """The mean over rankings of scores scaled to [0, 1] between the best and the `depth`-th (0 where that many were
    not found): a convex combination (Bruch, Gai and Ingber 2023). Unlike ranks, it keeps how clear a case is."""
    fused: dict[int, float] = {}
    for scores in rankings:
        best = max(scores.values(), default=0.0)
        least = min(scores.values()) if len(scores) >= depth else 0.0
        span = best - least
        for row, score in scores.items():
            scaled = (score - least) / span if span > 0 else float(score > 0)
            fused[row] = fused.get(row, 0.0) + max(0.0, scaled) / len(rankings)
    return fused


def limited(pages: Sequence[Hashable], k: int, per_page: int) -> list[int]:
    """The positions of the first k entries of which at most `per_page` are of one page."""
    seen: dict[Hashable, int] = {}
    kept = []
    for position, page in enumerate(pages):
        if (before := seen.get(page, 0)) < per_page:
            seen[page] = before + 1
            kept.append(position)
            if len(kept) == k:
                break
    return kept


@dataclass(frozen=True)
class Near:
    """A passage found by its vectors: its row in the store, the cosine of its best part, its page's number."""

    row: int
    cosine: float
    page: int


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of all passages: `parts` (n, dimensions), of which those of passage i begin at `starts[i]`; `rows`
    its row in the store, `pages` the number of its page."""

    parts: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    pages: np.ndarray

    def nearest(self, query: np.ndarray, count: int) -> list[Near]:
        """The passages whose best part is nearest to the query (a unit vector), best first; exact."""
        similarity = np.maximum.reduceat(self.parts @ query, self.starts)
        best = np.argpartition(-similarity, count)[:count] if len(similarity) > count else np.arange(len(similarity))
        best = best[np.argsort(-similarity[best], kind="stable")]
        return [Near(int(self.rows[i]), float(similarity[i]), int(self.pages[i])) for i in best]


def _vectors(snapshot: Snapshot) -> Vectors | None:
    with snapshot.lock:
        if "vectors" not in snapshot.derived:
            arrays = snapshot.arrays("vectors")
            snapshot.derived["vectors"] = arrays and Vectors(
                arrays["vector"].astype(np.float32),
                np.asarray(arrays["vector" + seg.OFFSETS][:-1]),
                arrays[seg.IDS],
                arrays["page"],
            )
        vectors: Vectors | None = snapshot.derived["vectors"]
        return vectors
