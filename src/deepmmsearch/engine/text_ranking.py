"""Text search over one commit: BM25, dense vectors where the index has them, fused by their scaled scores.

Ranking, fusing and the limit per page work on columns of numbers; only the passages that are returned are read.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from deepmmsearch.engine.backend import BackendSnapshot, DenseRanking
from deepmmsearch.engine.encoders import TextEncoder
from deepmmsearch.engine.fusion import fuse
from deepmmsearch.engine.query import Query, holds, is_akin, understood
from deepmmsearch.engine.storage import FoundPassage, Ranked
from deepmmsearch.notation import without_halves

PER_PAGE = 3
DEPTH = 50
# so many times more pages are ranked: those of the passages are among them, but for a few
PAGES = 2
DEEPEST = 5_000
MAX_QUERY = 10_000


def search(
    snapshot: BackendSnapshot, query: str, k: int, encoder: TextEncoder | None = None, per_page: int = PER_PAGE
) -> list[FoundPassage]:
    """At most k passages, best first, at most `per_page` of one page; `score` is BM25's, or the fused one."""
    query = without_halves(query[:MAX_QUERY])
    vectors = snapshot.vectors() if encoder is not None and query.strip() else None
    asked = understood(snapshot, query)
    if encoder is None or vectors is None:
        return _lexical(snapshot, asked, k, per_page)
    return _fused(snapshot, asked, k, vectors, encoder, per_page)


def rank(snapshot: BackendSnapshot, query: Query, depth: int) -> tuple[Ranked, list[int], bool]:
    """The best passages, the numbers of their pages, and whether these are all there are. To a passage's BM25 its
    page's is added: that of its whole text, in which the words of a question meet that one passage has not."""
    ranked = snapshot.rank(query.terms, query.small, depth, query.conditions, query.parts)
    complete = len(ranked) < depth
    if query.akin:
        alone = _by_parts(snapshot, query, depth)
        complete = complete and len(alone) < depth
        least = ranked[-1][0] if len(ranked) == depth else 0.0
        alone = [found for found in alone if found[0] > least and _is_akin(snapshot, query, found)]
        ranked = sorted(ranked + alone, key=lambda found: -found[0])[:depth]
    if query.phrases or query.without:
        ranked = [found for found in ranked if _holds(snapshot, query, found)]
    pages = snapshot.columns("page", ranked)
    whole = snapshot.rank_pages(query.terms, PAGES * depth)
    # the others have at most this
    least = min(whole.values()) if len(whole) == PAGES * depth else 0.0
    scored = [(score + whole.get(page, least), address) for (score, address), page in zip(ranked, pages, strict=True)]
    # passages of few words are often equal: then as their files are called, whenever they were committed
    names = [snapshot.passage(*found).file if snapshot.store.titles_apart else "" for found in ranked]
    order = sorted(range(len(scored)), key=lambda position: (-scored[position][0], names[position]))
    return [scored[position] for position in order], [pages[position] for position in order], complete


def _by_parts(snapshot: BackendSnapshot, query: Query, depth: int) -> Ranked:
    """Passages that have no term of the query, but parts of a word."""
    groups = [group for kinship in query.akin for group in kinship.groups]
    return snapshot.rank(query.terms, query.small, depth, query.conditions, query.parts, groups)


def _is_akin(snapshot: BackendSnapshot, query: Query, found: tuple[float, Any]) -> bool:
    passage = snapshot.passage(*found)
    return is_akin(passage.title, passage.text, query)


def _holds(snapshot: BackendSnapshot, query: Query, found: tuple[float, Any]) -> bool:
    passage = snapshot.passage(*found)
    return holds(passage.title, passage.text, query)


def _lexical(snapshot: BackendSnapshot, query: Query, k: int, per_page: int) -> list[FoundPassage]:
    depth = max(DEPTH, 4 * k)
    while True:
        ranked, of_pages, complete = rank(snapshot, query, depth)
        kept = limited(of_pages, k, per_page)
        # a few long pages may fill the list
        if len(kept) == k or complete or depth >= DEEPEST:
            return [snapshot.passage(*ranked[position]) for position in kept]
        depth *= 4


def _fused(
    snapshot: BackendSnapshot, query: Query, k: int, vectors: DenseRanking, encoder: TextEncoder, per_page: int
) -> list[FoundPassage]:
    depth = max(DEPTH, 4 * k)
    ranked, of_pages, _ = rank(snapshot, query, depth)
    lexical = dict(zip(snapshot.columns("row", ranked), ranked, strict=True))
    dense, share = vectors.search(encoder, query.words, depth)
    if query.conditions is not None:  # vectors know nothing of them
        dense = [near for near in dense if near.row in lexical]
    scores = fuse({row: score for row, (score, _) in lexical.items()}, {n.row: n.cosine for n in dense}, depth, share)
    pages = {near.row: near.page for near in dense}
    pages.update(zip(lexical, of_pages, strict=True))
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
