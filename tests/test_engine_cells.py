"""Approximate search by cells: as good as exact, made anew by merges, refused where it does not belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tantivy")

from tests.fake_encoder import WordEncoder

from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.engine import cells as cells_module
from deepmmsearch.engine import vectors as vectors_module
from deepmmsearch.engine.cells import Cells
from deepmmsearch.engine.storage import Store
from deepmmsearch.engine.vectors import Vectors, vectors_of
from deepmmsearch.engine.writer import MERGE_FACTOR, NewPassage, Writer
from deepmmsearch.errors import UserError

DIMENSIONS = 32


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Around a tenth as many centres, as texts lie around their topics."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 10), DIMENSIONS))
    vectors = centres[rng.integers(0, len(centres), count)] + 0.6 * rng.standard_normal((count, DIMENSIONS))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float16)


def recall(cells: Cells, vectors: np.ndarray, queries: np.ndarray) -> float:
    whole = vectors.astype(np.float32)
    right = 0
    for query in queries.astype(np.float32):
        exact = np.argsort(-(whole @ query))[:10]
        found, _ = cells.nearest(query, 40)
        right += len(set(exact.tolist()) & set(found[np.argsort(-(whole[found] @ query))[:10]].tolist()))
    return right / (10 * len(queries))


def test_cells_find_what_a_full_search_finds() -> None:
    vectors = clustered(20_200)
    indexed, queries = vectors[:20_000], vectors[20_000:]
    cells = Cells.learnt(indexed)
    assert sorted(cells.order.tolist()) == list(range(20_000)) and len(cells.centroids) > 200
    assert recall(cells, indexed, queries) >= 0.98
    assert recall(Cells.whole(indexed), indexed, queries[:50]) >= 0.998
    again = Cells.learnt(indexed)
    assert all(np.array_equal(cells.arrays[name], again.arrays[name]) for name in cells.arrays)


def test_numpy_gives_the_same_products(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numkong")
    vectors = clustered(3_000)
    cells = Cells.learnt(vectors)
    found = cells.nearest(vectors[7].astype(np.float32), 20)
    monkeypatch.setattr(cells_module, "_kernel", lambda: cells_module._plain_products)
    plain = cells.nearest(vectors[7].astype(np.float32), 20)
    assert all(np.allclose(np.sort(one), np.sort(other)) for one, other in zip(found, plain, strict=True))


@pytest.mark.parametrize("vectors", [np.zeros((40, 4)), np.ones((40, 4)), np.full((40, 4), np.nan)])
def test_vectors_that_are_no_directions_break_nothing(vectors: np.ndarray) -> None:
    cells = Cells.learnt(vectors.astype(np.float16))
    found, near = cells.nearest(np.array([1, 0, 0, 0], np.float32), 5)
    assert len(found) == 5 and np.isfinite(near).all()


def filled(folder: Path, per_commit: int, commits: int) -> Store:
    """Passages of two parts each."""
    store = Store.create(folder, {"root": str(folder)})
    parts = clustered(2 * per_commit * commits, seed=4)
    with Writer(store) as writer:
        for commit in range(commits):
            for number in range(commit * per_commit, (commit + 1) * per_commit):
                own = parts[2 * number : 2 * number + 2]
                row = writer.add_row("vectors", {"vector": [own], "page": np.uint64(number)})
                writer.add_page(f"{number}.txt", "u", "t", [NewPassage("words", row)])
            writer.commit()
    return store


def _vectors(store: Store) -> Vectors:
    found = vectors_of(store.snapshot())
    assert found is not None
    return found


def test_segments_have_cells_where_they_are_large_and_merges_make_them_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors_module, "FEWEST", 150)
    store = filled(tmp_path / "i", 60, MERGE_FACTOR)
    with_cells = list((tmp_path / "i" / "arrays").glob("*/codes.computed"))
    assert len(with_cells) == 1, "the small segments have none, the one that they were merged into has"
    parts = clustered(120 * MERGE_FACTOR, seed=4)
    own = parts[2 * 37 + 1].astype(np.float32)
    best = _vectors(store).nearest(own, 3)[0]
    assert best.page == 37 and best.cosine == pytest.approx(1, abs=1e-3)
    with Writer(store) as writer:
        writer.remove("37.txt")
        writer.commit()
    assert 37 not in {near.page for near in _vectors(store).nearest(own, 3)}


@pytest.mark.parametrize("damage", ["order", "starts", "codes", "missing", "scale"])
def test_cells_that_do_not_belong_to_their_vectors_are_refused(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepmmsearch.engine.index.SentenceEncoder", WordEncoder)
    monkeypatch.setattr(vectors_module, "FEWEST", 10)
    (tmp_path / "w").mkdir()
    for number in range(30):
        (tmp_path / "w" / f"{number}.txt").write_text(f"Ship {number} came in.")
    index = Index.build(tmp_path / "w", tmp_path / "i", IndexSettings(dense="plain"))
    assert index.search_text("ship", 3)
    folder = next((tmp_path / "i" / "arrays").glob("vectors-*"))
    path = folder / f"{'starts' if damage == 'missing' else damage}.computed"
    array = np.load(path)
    if damage == "missing":
        path.unlink()
    else:
        wrong = {
            "order": array.astype(np.int32) + 10_000,
            "starts": array[::-1],
            "codes": array[1:],
            "scale": array - array,
        }[damage]
        with path.open("wb") as file:
            np.save(file, np.ascontiguousarray(wrong))
    with pytest.raises(UserError, match="damaged"):
        Index.open(tmp_path / "i", encoders=["plain"]).search_text("ship", 3)
