"""Picture search: global similarity, SIFT votes and colour windows propose pictures, alignment decides (align.py).

A hit counts as matched only when the picture agrees with a part of the query, and no other picture explains the query
as well or explains another part of it: a scene with several flags is a match of none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from deepmmsearch import images
from deepmmsearch.engine import align
from deepmmsearch.engine import descriptors as d
from deepmmsearch.engine.align import Placement, Scene, Template
from deepmmsearch.engine.decision import AGREES, SAME, Candidate, covers, identifies
from deepmmsearch.engine.votes import Votes

GALLERY_FEATURES = 300
QUERY_FEATURES = 500
PROPOSED = {"global": 8, "votes": 10, "windows": 12}

# the query as a whole, then with its sides trimmed: a jittered crop shows some of what surrounds the subject
WINDOWS: tuple[d.Window, ...] = (
    d.WHOLE,
    (0.08, 0.08, 0.92, 0.92),
    (0.14, 0.0, 1.0, 1.0),
    (0.0, 0.14, 1.0, 1.0),
    (0.0, 0.0, 0.86, 1.0),
    (0.0, 0.0, 1.0, 0.86),
)


@dataclass(frozen=True)
class Match:
    """`row` is the picture's id in the store; `placement` where in the query it shows best, None where unknown."""

    row: int
    score: float
    matched: bool
    similarity: float
    placement: Placement | None = None

    @property
    def agreement(self) -> float:
        return self.placement.agreement if self.placement else 0.0


def picture_row(pixels: np.ndarray, embedding: np.ndarray | None = None) -> dict[str, Any]:
    """What the store keeps of a picture; ragged values wrapped in a list (store.add_row)."""
    features = d.local_features(pixels, GALLERY_FEATURES)
    row: dict[str, Any] = {
        "vector": d.global_vector(pixels).astype(np.float16),
        "grid": align.grid(pixels).astype(np.float16),
        "size": np.array([features.width, features.height], np.float32),
        "points": [features.points],
        "descriptors": [features.descriptors],
        "thumbnail": [np.frombuffer(d.thumbnail(pixels), np.uint8)],
    }
    if embedding is not None:
        row["embedding"] = embedding.astype(np.float16)
    return row


def compare(query: Image.Image, picture: Image.Image) -> Match:
    """Does `picture` show as the query, or within it? `Match.row` is 0."""
    arrays: dict[str, np.ndarray] = {"ids": np.zeros(1, int)}
    for name, value in picture_row(d.pixels(picture)).items():
        if isinstance(value, list):
            arrays |= {name: value[0], f"{name}_offsets": np.array([0, len(value[0])])}
        else:
            arrays[name] = value[None]
    return Gallery(arrays).search(query, 1)[0]


class Gallery:
    """The pictures of one commit, ready to be searched. Not for two threads at once."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self._vectors = arrays["vector"].astype(np.float32)
        self._votes = Votes(arrays, PROPOSED["votes"])
        self._coarse = align.coarse(arrays["grid"].astype(np.float32))
        self._templates: dict[int, Template] = {}

    def thumbnail(self, row: int) -> Future[Image.Image] | None:
        """Under way; raises UserError for one of a damaged index, or of one that somebody made up."""
        positions = np.flatnonzero(self.arrays["ids"] == row)
        if not len(positions):
            return None
        start, end = self.arrays["thumbnail_offsets"][positions[0] : positions[0] + 2]
        content = self.arrays["thumbnail"][start:end].tobytes()
        return images.loading(content, max_pixels=1_000_000, formats=("JPEG",)) if content else None

    def search(self, image: Image.Image, k: int, embedding: np.ndarray | None = None) -> list[Match]:
        """At most k, best first. `embedding` replaces the global similarity where the index was built with one."""
        with d.one_thread():
            query = d.pixels(image)
            scene = Scene(query)
            ranking, trimmed = self._global(query, embedding)
            candidates: dict[int, Candidate] = {}
            for index in np.argsort(-ranking)[: PROPOSED["global"]]:
                self._consider(candidates, ranking, int(index), scene, [_matrix(WINDOWS[trimmed[index]])])
            if not any(covers(c) for c in candidates.values()):
                self._search_inside(candidates, ranking, query, scene)
        return self._decide(list(candidates.values()), k)

    def _global(self, query: np.ndarray, embedding: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        vectors = np.stack([d.global_vector(query, window) for window in WINDOWS])
        similarities = self._vectors @ vectors.T
        if embedding is not None and "embedding" in self.arrays:
            return self.arrays["embedding"].astype(np.float32) @ embedding, similarities.argmax(1)
        return similarities.max(1), similarities.argmax(1)

    def _search_inside(
        self, candidates: dict[int, Candidate], ranking: np.ndarray, query: np.ndarray, scene: Scene
    ) -> None:
        features = d.local_features(query, QUERY_FEATURES)
        rooted = d.root_sift(features.descriptors)
        voted = {int(i) for i in self._votes.proposed(rooted)}
        for index in voted | set(candidates):
            matrix, inliers = self._votes.transform(index, features, rooted)
            if matrix is not None:
                self._consider(candidates, ranking, index, scene, [matrix], inliers)
        for index, matrices in self._windows(scene).items():
            self._consider(candidates, ranking, index, scene, matrices)

    def _consider(
        self,
        candidates: dict[int, Candidate],
        ranking: np.ndarray,
        index: int,
        scene: Scene,
        matrices: list[np.ndarray],
        inliers: int = 0,
    ) -> None:
        candidate = candidates.setdefault(index, Candidate(index, float(ranking[index])))
        for matrix in matrices:
            placed = align.refine(scene, self._template(index), matrix)
            if placed.agreement > candidate.agreement or (candidate.placement is None):
                candidate.placement = Placement(placed.matrix, placed.agreement, inliers)

    def _template(self, index: int) -> Template:
        if index not in self._templates:
            self._templates[index] = align.template(self.arrays["grid"][index].astype(np.float32))
        return self._templates[index]

    def _windows(self, scene: Scene) -> dict[int, list[np.ndarray]]:
        """The pictures that some colour window resembles most, each with its best windows."""
        matrices, grids = align.windows(scene, align.MAX_COMPARISONS // max(1, len(self._coarse)))
        # squared differences by one product, (pictures, windows), less what is the same for all windows of a picture
        pictures = np.column_stack([-2 * self._coarse, np.ones(len(self._coarse), np.float32)])
        product = pictures @ np.column_stack([grids, (grids**2).sum(1)]).T
        # relative to the picture's own contrast: a plain one resembles any plain region
        spread = self._coarse.reshape(len(self._coarse), -1, 3).var(1).sum(1) + 60
        best = (product.min(1) + (self._coarse**2).sum(1)) / spread
        chosen = np.argsort(best)[: PROPOSED["windows"]]
        return {int(i): [matrices[j] for j in _distinct(product[i], matrices)] for i in chosen}

    def _decide(self, candidates: list[Candidate], k: int) -> list[Match]:
        ranked = sorted(candidates, key=lambda c: -c.score)
        copies = [c for c in ranked if self._same(c, ranked[0])]
        sure = bool(ranked) and identifies(ranked[0], [c for c in ranked if c not in copies])
        return [
            Match(
                int(self.arrays["ids"][c.index]),
                round(c.score, 4),
                sure and c in copies and c.agreement >= AGREES,
                round(c.similarity, 4),
                c.placement,
            )
            for c in ranked[: max(0, k)]
        ]

    def _same(self, a: Candidate, b: Candidate) -> bool:
        grids = self._template(a.index).grid, self._template(b.index).grid
        return a is b or align.raw_agreement(*grids) >= SAME


def _matrix(window: d.Window) -> np.ndarray:
    left, top, right, bottom = window
    return np.array([[right - left, 0, left], [0, bottom - top, top]], float)


def _distinct(distance: np.ndarray, matrices: np.ndarray, count: int = 2) -> list[int]:
    """The best windows, no two about the same place."""
    chosen: list[int] = []
    near = np.argpartition(distance, 60)[:60] if len(distance) > 60 else np.arange(len(distance))
    for position in near[np.argsort(distance[near], kind="stable")]:
        centre = matrices[position] @ (0.5, 0.5, 1)
        reach = 0.4 * np.diag(matrices[position][:, :2])
        if all((np.abs(matrices[c] @ (0.5, 0.5, 1) - centre) > reach).any() for c in chosen):
            chosen.append(int(position))
        if len(chosen) == count:
            break
    return chosen
