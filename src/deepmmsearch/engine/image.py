"""Picture search in two stages: quick comparisons propose pictures, alignment and local features decide.

Proposed are the pictures with the nearest global vectors (in colour and in grey), those for whose features the query's
vote, and of the pictures with few features those that a colour window of the query resembles. A hit counts as matched
only when the picture agrees with a part of the query or the query with a part of it, and no other picture explains the
query as well or explains another part of it: a scene with several flags is a match of none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from deepmmsearch import images
from deepmmsearch.engine import align, decision, inliers, visual_words, votes
from deepmmsearch.engine import descriptors as d
from deepmmsearch.engine.align import Placement, Scene, Template
from deepmmsearch.engine.decision import Candidate
from deepmmsearch.engine.picture_segment import PARTS, PictureSegment

# of three quarters of a query's side: crops show what stands in a picture larger, and the square is what features cost
GALLERY_FEATURES, GALLERY_SIDE = 300, 384
QUERY_FEATURES = 500
WINDOWED = 3_000  # pictures up to which all are looked for by colour windows
CLOSE = 0.25  # share of the most votes that a picture needs to be proposed
COMPARED = 64  # pictures whose global vectors are compared whole
PROPOSED = {"global": 8, "grey": 6, "votes": 12, "windows": 12, "encoder": 20}

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
    features = d.local_features(pixels, GALLERY_FEATURES, GALLERY_SIDE)
    if len(features.points) < GALLERY_FEATURES:  # of a plain picture each counts
        features = d.local_features(pixels, GALLERY_FEATURES)
    vector = d.global_vector(pixels)
    row: dict[str, Any] = {
        "vector": vector.astype(np.float16),
        "code": d.short_code(vector[None])[0],
        "grid": align.grid(pixels).astype(np.float16),
        "size": np.array([features.width, features.height], np.float32),
        "points": [features.points],
        "descriptors": [features.descriptors],
        **votes.row(features),
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
    return Gallery([PictureSegment(arrays)]).search(query, 1)[0]


class PictureQuery:
    """What is computed of a query, each when it is needed first."""

    def __init__(self, image: Image.Image) -> None:
        self.pixels = d.pixels(image)
        self.vectors = np.stack([d.global_vector(self.pixels, window) for window in WINDOWS])
        self.grid = align.grid(self.pixels)
        self.is_grey = align.is_grey(self.grid)
        self.scene = Scene(self.pixels, self.is_grey)

    @cached_property
    def grey_scene(self) -> Scene:
        return Scene(self.pixels, grey=True)

    @cached_property
    def features(self) -> inliers.Rooted:
        return inliers.Rooted.of(d.local_features(self.pixels, QUERY_FEATURES))

    @property
    def is_plain(self) -> bool:
        """Nothing in it can be compared."""
        return min(self.pixels.shape[:2]) <= d.SHORTEST or align.is_plain(self.grid)


class Gallery:
    """The pictures of one commit, ready to be searched. Not for two threads at once.

    `dead`: of each segment, the rows that nothing names any more; none where not given."""

    def __init__(self, segments: Sequence[PictureSegment], dead: Sequence[np.ndarray] | None = None) -> None:
        self._segments = segments
        self._starts = np.concatenate([[0], np.cumsum([len(s) for s in segments])]).astype(int)
        self._live = np.ones(self._starts[-1], bool) if dead is None else ~np.concatenate(dead)
        self._templates: dict[tuple[int, bool], Template] = {}

    def thumbnail(self, row: int) -> Future[Image.Image] | None:
        """Under way; raises UserError for one of a damaged index, or of one that somebody made up."""
        for segment in self._segments:
            positions = np.flatnonzero(segment.ids == row)
            if len(positions):
                content = segment.ragged("thumbnail", int(positions[0])).tobytes()
                return images.loading(content, max_pixels=1_000_000, formats=("JPEG",)) if content else None
        return None

    def search(self, image: Image.Image, k: int, embedding: np.ndarray | None = None) -> list[Match]:
        """At most k, best first. `embedding` orders what does not match where the index was built with one."""
        with d.one_thread():
            return self.compare(PictureQuery(image), k, embedding)

    def compare(self, query: PictureQuery, k: int, embedding: np.ndarray | None = None) -> list[Match]:
        """As `search`, on the threads that there are."""
        self._templates.clear()
        found: dict[int, Candidate] = {}
        self._compare_whole(query, found)
        cosines = self._cosines(embedding)
        for index in _largest(cosines, PROPOSED["encoder"]):
            self._candidate(found, query, index)
        if not any(decision.covers(c) for c in found.values()):
            self._compare_features(query, query.features, found)
            if not any(decision.verified(c) for c in found.values()):
                self._search_windows(query, found)
                self._compare_features(query, query.features.mirrored, found, mirrored=True)
                self._compare_grey(query, found)
        for candidate in found.values():
            candidate.cosine = float(cosines[candidate.index]) if len(cosines) else None
        return self._decided(query, found, k)

    def similar(self, embedding: np.ndarray, k: int) -> dict[int, float]:
        """Of the k pictures that an encoder's vector is nearest to: their ids, and the cosines."""
        cosines = self._cosines(embedding)
        return {self._id(index): float(cosines[index]) for index in _largest(cosines, k)}

    def _cosines(self, embedding: np.ndarray | None) -> np.ndarray:
        """(pictures,) of an encoder; empty without one."""
        if embedding is None or any("embedding" not in segment.arrays for segment in self._segments):
            return np.zeros(0, np.float32)
        return np.where(self._live, np.concatenate([s.cosines(embedding) for s in self._segments]), -9.0)

    def _compare_whole(self, query: PictureQuery, found: dict[int, Candidate]) -> None:
        """By global vectors, in colour and in grey; those nearest in colour are aligned."""
        codes = d.short_code(query.vectors)
        near = [segment.nearness(codes, codes if query.is_grey else codes[:2]) for segment in self._segments]
        colour, grey = (np.where(self._live, np.concatenate(values), -9.0) for values in zip(*near, strict=True))
        halves = (COMPARED // 2, COMPARED) if query.is_grey else (COMPARED, COMPARED // 2)
        compared = list(dict.fromkeys([*_largest(colour, halves[0]), *_largest(grey, halves[1])]))
        vectors = np.stack([self._vector(index) for index in compared])
        greys = d.grey_part(vectors) @ d.grey_part(query.vectors).T
        similarities = greys if query.is_grey else vectors @ query.vectors.T
        for index, own, grey_similarity in zip(compared, similarities, greys[:, 0], strict=True):
            found[index] = self._new(query, index, float(own.max()), float(grey_similarity), int(own.argmax()))
        nearest = sorted(found.values(), key=lambda c: -c.similarity)[: PROPOSED["global"]]
        for candidate in nearest:
            self._place(candidate, query, _matrix(WINDOWS[candidate.window]))

    def _compare_features(
        self, query: PictureQuery, features: inliers.Rooted, found: dict[int, Candidate], mirrored: bool = False
    ) -> None:
        if len(features.rooted) < 3:
            return
        probed = visual_words.probes(features.rooted)
        voted = np.where(self._live, np.concatenate([s.lists.votes(probed) for s in self._segments]), 0.0)
        chosen = [index for index in _largest(voted, PROPOSED["votes"]) if voted[index] > CLOSE * voted.max()]
        placed = [] if mirrored else [index for index, c in found.items() if c.placement is not None]
        for index in dict.fromkeys([*chosen, *placed]):
            segment, row = self._row(index)
            points, descriptors = segment.ragged("points", row), segment.ragged("descriptors", row)
            agreed = inliers.agreed(features, points, descriptors, segment.size(row))
            candidate = self._candidate(found, query, index)
            candidate.features = len(points)
            if agreed is None:
                continue
            if mirrored:
                agreed = inliers.mirrored_back(agreed)
            elif align.sane(agreed.matrix):
                self._place(candidate, query, agreed.matrix)
            if candidate.agreed is None or agreed.inliers > candidate.agreed.inliers:
                candidate.agreed = agreed

    def _search_windows(self, query: PictureQuery, found: dict[int, Candidate]) -> None:
        """The pictures that some colour window resembles most, in its best windows: of all where they are not many,
        else of those that have few features."""
        every = len(self._live) <= WINDOWED
        searched = [np.arange(len(s)) if every else s.few for s in self._segments]
        matrices, grids = align.windows(query.scene, align.MAX_COMPARISONS // max(1, sum(map(len, searched))))
        proposals: list[tuple[float, int, np.ndarray]] = []
        for segment, start, rows in zip(self._segments, self._starts[:-1], searched, strict=True):
            few = segment.few[self._live[start + segment.few]]
            rows = rows[self._live[start + rows]]
            coarse = segment.coarse[rows].astype(np.float32)
            parts = segment.coarse_parts[self._live[start + segment.few]].astype(np.float32)
            if query.is_grey:
                coarse, parts = without_colours(coarse), without_colours(parts)
            alike = [(near, rows[i], m) for near, i, m in resembling(coarse, matrices, grids)]
            alike += [(near, few[i], m) for near, i, m in resembling_parts(parts, grids[0])]
            proposals += [(near, int(start + row), matrix) for near, row, matrix in alike]
        proposals.sort(key=lambda proposal: proposal[0])
        chosen = list(dict.fromkeys(index for _, index, _ in proposals))[: PROPOSED["windows"]]
        for _, index, matrix in proposals:
            if index in chosen:
                self._place(self._candidate(found, query, index), query, matrix)

    def _compare_grey(self, query: PictureQuery, found: dict[int, Candidate]) -> None:
        """Aligned without colours, where nothing has been recognised with them."""
        if query.is_grey:
            return
        nearest = sorted(found.values(), key=lambda c: -c.grey_similarity)[: PROPOSED["grey"]]
        for candidate in nearest:
            template = self._template(candidate.index, grey=True)
            placed = align.refine(query.grey_scene, template, _matrix(d.WHOLE))
            candidate.grey = placed

    def _place(self, candidate: Candidate, query: PictureQuery, matrix: np.ndarray) -> None:
        placed = align.refine(query.scene, self._template(candidate.index, query.is_grey), matrix)
        if candidate.placement is None or placed.agreement > candidate.agreement:
            candidate.placement = placed

    def _candidate(self, found: dict[int, Candidate], query: PictureQuery, index: int) -> Candidate:
        if index not in found:
            found[index] = self._new(query, index, float((query.vectors @ self._vector(index)).max()))
        return found[index]

    def _new(self, query: PictureQuery, index: int, similarity: float, grey: float = 0.0, window: int = 0) -> Candidate:
        needed = decision.AGREES
        if query.is_grey:
            segment, row = self._row(index)
            needed = decision.AGREES_INSIDE if align.is_grey(segment.grid(row)) else decision.NEVER
        return Candidate(index, similarity, grey, window, needed)

    def _row(self, index: int) -> tuple[PictureSegment, int]:
        number = int(np.searchsorted(self._starts, index, "right")) - 1
        return self._segments[number], index - int(self._starts[number])

    def _vector(self, index: int) -> np.ndarray:
        segment, row = self._row(index)
        return np.asarray(segment.arrays["vector"][row], np.float32)

    def _template(self, index: int, grey: bool = False) -> Template:
        if (index, grey) not in self._templates:
            segment, row = self._row(index)
            grid = segment.grid(row)
            self._templates[index, grey] = align.template(align.without_colours(grid) if grey else grid)
        return self._templates[index, grey]

    def _decided(self, query: PictureQuery, found: Mapping[int, Candidate], k: int) -> list[Match]:
        ranked = sorted(found.values(), key=lambda c: -c.score)
        rich = "features" in vars(query) and len(query.features.rooted) >= decision.RICH
        sure = None if query.is_plain else decision.identified(ranked, self._same, rich)
        if sure is not None:
            copies = [c for c in ranked if c.agreement >= decision.AGREES and c is not sure and self._same(c, sure)]
            ranked = [sure, *copies, *(c for c in ranked if c is not sure and c not in copies)]
            matched = {id(c) for c in (sure, *copies)}
        else:
            matched = set()
        return [
            Match(self._id(c.index), round(c.score, 4), id(c) in matched, round(c.similarity, 4), c.placement)
            for c in ranked[: max(0, k)]
        ]

    def _id(self, index: int) -> int:
        segment, row = self._row(index)
        return int(segment.ids[row])

    def _same(self, a: Candidate, b: Candidate) -> bool:
        grids = [segment.grid(row) for segment, row in (self._row(a.index), self._row(b.index))]
        return a is b or align.raw_agreement(*grids) >= decision.SAME


def _largest(values: np.ndarray, count: int) -> list[int]:
    """Positions of the largest values, the largest first."""
    near = np.argpartition(-values, count)[:count] if len(values) > count else np.arange(len(values))
    return [int(i) for i in near[np.argsort(-values[near], kind="stable")]]


def _matrix(window: d.Window) -> np.ndarray:
    left, top, right, bottom = window
    return np.array([[right - left, 0, left], [0, bottom - top, top]], float)


def resembling(coarse: np.ndarray, matrices: np.ndarray, grids: np.ndarray) -> list[tuple[float, int, np.ndarray]]:
    """(distance, row, matrix) of the pictures (n, dimensions) that windows resemble most, in their best windows."""
    if not len(coarse):
        return []
    # squared differences by one product, (pictures, windows), less what is the same for all windows of a picture
    pictures = np.column_stack([-2 * coarse, np.ones(len(coarse), np.float32)])
    product = pictures @ np.column_stack([grids, (grids**2).sum(1)]).T
    # relative to the picture's own contrast: a plain one resembles any plain region
    best = (product.min(1) + (coarse**2).sum(1)) / _contrast(coarse)
    chosen = _largest(-best, PROPOSED["windows"])
    return [(float(best[i]), i, matrices[j]) for i in chosen for j in _distinct(product[i], matrices)]


def resembling_parts(parts: np.ndarray, query: np.ndarray) -> list[tuple[float, int, np.ndarray]]:
    """The same of pictures of which the query shows a part: (n, parts, dimensions) and the query's own grid."""
    if not len(parts):
        return []
    distance = ((parts - query) ** 2).sum(2) / _contrast(parts)
    best = distance.min(1)
    inverse = [_inverse(_matrix(part)) for part in PARTS]
    return [(float(best[i]), i, inverse[int(distance[i].argmin())]) for i in _largest(-best, PROPOSED["windows"])]


def without_colours(coarse: np.ndarray) -> np.ndarray:
    return coarse * np.tile(np.array([1, 0, 0], np.float32), coarse.shape[-1] // 3)


def _contrast(coarse: np.ndarray) -> np.ndarray:
    cells = coarse.reshape(*coarse.shape[:-1], -1, 3)
    return np.asarray(cells.var(-2).sum(-1) + 60)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]


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
