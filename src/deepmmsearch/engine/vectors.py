"""The vectors of the passages of one commit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepmmsearch.engine import segments as seg
from deepmmsearch.engine.storage import Snapshot


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


def vectors_of(snapshot: Snapshot) -> Vectors | None:
    """Those of a commit, made once; None where its passages have none."""
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
