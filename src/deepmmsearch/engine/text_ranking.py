"""Text search over one commit: BM25, dense vectors where the index has them, fused by their scaled scores.

Ranking, fusing and the limit per page work on columns of numbers; only the passages that are returned are read.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from deepmmsearch.engine.encoders import TextEncoder
from deepmmsearch.engine.fusion import fuse
from deepmmsearch.engine.storage import FoundPassage, Snapshot
from deepmmsearch.engine.vectors import Vectors, vectors_of
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
    vectors = vectors_of(snapshot) if encoder is not None and query.strip() else None
    if encoder is None or vectors is None:
        return _lexical(snapshot, query, k, per_page)
    return _fused(snapshot, query, k, vectors, encoder, per_page)


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
    snapshot: Snapshot, query: str, k: int, vectors: Vectors, encoder: TextEncoder, per_page: int
) -> list[FoundPassage]:
    depth = max(DEPTH, 4 * k)
    ranked = snapshot.rank(query, depth, TITLE_BOOST)
    lexical = dict(zip(snapshot.columns("row", ranked), ranked, strict=True))
    dense, share = vectors.search(encoder, query, depth)
    scores = fuse({row: score for row, (score, _) in lexical.items()}, {n.row: n.cosine for n in dense}, depth, share)
    pages = {near.row: near.page for near in dense}
    pages.update(zip(lexical, snapshot.columns("page", ranked), strict=True))
    rows = sorted(scores, key=lambda row: -scores[row])
    kept = [rows[position] for position in limited([pages[row] for row in rows], k, per_page)]
    found = (lexical[row][1] if row in lexical else snapshot.address(row) for row in kept)
    return [snapshot.passage(scores[row], address) for row, address in zip(kept, found, strict=True)]


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
