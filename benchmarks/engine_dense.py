"""How well and how fast vectors are searched, and what fusing them with BM25 gives.

Vectors: around centres, as those of texts lie around their topics, of as many sizes as --passages allows; ours against
an exact product, faiss and usearch where they are installed, each at the least effort that finds 0.98 of the exact ten.
Fusion: the question sets of --data with MiniLM (extra `dense`), nDCG@10 of documents by BM25, vectors and both.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.engine.cells import Cells
from deepmmsearch.engine.engine_tables import batches
from deepmmsearch.engine.lancedb_tables import LanceEngine
from deepmmsearch.engine.table_store import Statistics, parts_table
from deepmmsearch.engine.text_ranking import DEPTH, search
from deepmmsearch.engine.vectors import CANDIDATES, vectors_of

DIMENSIONS = 384
ASKED = 200
RECALL = 0.98
SIZES = (10_000, 100_000, 350_000, 1_000_000)
SETS = ("scifact", "cranfield", "xquad-en", "xquad-de", "xquad-zh", "xquad-ar", "xquad-th")
DOCUMENTS, QUESTIONS = 1_500, 200

Found = Callable[[np.ndarray], Sequence[int]]
Tried = Iterator[tuple[str, Found]]


def clustered(count: int) -> tuple[np.ndarray, np.ndarray]:
    """float16 (count, DIMENSIONS) and ASKED queries, of unit length: thirty to a centre, two thirds of it noise."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((max(1, count // 30), DIMENSIONS)).astype(np.float32)
    made = np.empty((count + ASKED, DIMENSIONS), np.float16)
    for start in range(0, len(made), 50_000):
        size = min(50_000, len(made) - start)
        vectors = centres[rng.integers(0, len(centres), size)]
        vectors += 0.7 * rng.standard_normal((size, DIMENSIONS)).astype(np.float32)
        made[start : start + size] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made[:count], made[count:].astype(np.float32)


def exact(vectors: np.ndarray, queries: np.ndarray) -> list[set[int]]:
    best = np.empty((len(queries), 0), np.float32)
    numbers = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), 50_000):
        block = queries @ vectors[start : start + 50_000].astype(np.float32).T
        best = np.concatenate([best, block], 1)
        numbers = np.concatenate([numbers, np.tile(np.arange(start, start + block.shape[1]), (len(queries), 1))], 1)
        kept = np.argpartition(-best, 9, axis=1)[:, :10]
        best, numbers = np.take_along_axis(best, kept, 1), np.take_along_axis(numbers, kept, 1)
    return [set(row.tolist()) for row in numbers]


def ours(vectors: np.ndarray) -> Tried:
    cells = Cells.learnt(vectors)

    def found(query: np.ndarray) -> Sequence[int]:
        near, _ = cells.nearest(query, 40)
        order = np.argsort(-(vectors[near].astype(np.float32) @ query))[:10]
        return list(near[order])

    yield f"{cells.probed} of {len(cells.centroids)} cells", found


def plain(vectors: np.ndarray) -> Tried:
    whole = vectors.astype(np.float32)
    yield "", lambda query: list(np.argpartition(-(whole @ query), 9)[:10])


def by_faiss(vectors: np.ndarray) -> Tried:
    import faiss

    cells = round(4 * len(vectors) ** 0.5)
    index: Any = faiss.index_factory(DIMENSIONS, f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[: 40 * cells].astype(np.float32))
    for start in range(0, len(vectors), 50_000):
        index.add(vectors[start : start + 50_000].astype(np.float32))
    faiss.omp_set_num_threads(1)
    for probed in (8, 16, 32, 64, 128, 256, 512):
        index.nprobe = probed
        yield f"{probed} of {cells} cells", lambda query: list(index.search(query[None], 10)[1][0])


def by_usearch(vectors: np.ndarray) -> Tried:
    from usearch.index import Index as Graph

    graph = Graph(ndim=DIMENSIONS, metric="ip", dtype="f16")
    graph.add(np.arange(len(vectors)), vectors)
    for effort in (32, 64, 128, 256, 512, 1024):
        graph.expansion_search = effort
        yield f"effort {effort}", lambda query: list(graph.search(query.astype(np.float16), 10, threads=1).keys)


def by_lancedb(vectors: np.ndarray) -> Tried:
    yield from in_lancedb(vectors, indexed=0)


def compared_by_lancedb(vectors: np.ndarray) -> Tried:
    yield from in_lancedb(vectors, indexed=len(vectors) + 1)


def in_lancedb(vectors: np.ndarray, indexed: int) -> Tried:
    """As an index in LanceDB asks for passages: more than ten, for the sake of those that have several parts."""
    with tempfile.TemporaryDirectory() as folder:
        engine = LanceEngine(f"lancedb://{folder}", folder, read_only=False, indexed=indexed)
        table = parts_table({"vector": DIMENSIONS})
        engine.create(table)
        rows = engine.open(table, Statistics())
        for some in batches(range(len(vectors)), 20_000):
            parts = zip(some, vectors[some[0] : some[-1] + 1], strict=True)
            rows.add([{"id": f"{n:x}", "owners": [f"{n}.md"], "passage": n, "page": n, "vector": v} for n, v in parts])
        rows.compact()
        yield (
            f"{CANDIDATES * DEPTH} asked for",
            lambda query: [
                r["passage"] for _, r in rows.nearest("vector", query, CANDIDATES * DEPTH, ["passage"])[:10]
            ],
        )


ENGINES: dict[str, tuple[Callable[[np.ndarray], Tried], str]] = {
    "deepmmsearch": (ours, "numpy"),
    "exact, numpy": (plain, "numpy"),
    "faiss IVF, SQ8": (by_faiss, "faiss"),
    "usearch HNSW, f16": (by_usearch, "usearch"),
    "LanceDB, its index": (by_lancedb, "lancedb"),
    "LanceDB, exact": (compared_by_lancedb, "lancedb"),
}


def vector_search(most: int) -> None:
    for count in [size for size in SIZES if size <= most] or [most]:
        vectors, queries = clustered(count)
        right = exact(vectors, queries)
        print(f"\nVectors: {count} of {DIMENSIONS} around centres, {ASKED} queries, one thread", flush=True)
        print(f"  {'':20} {'built s':>8} {'recall@10':>10} {'p50 ms':>8} {'p95 ms':>8}")
        for name, (build, module) in ENGINES.items():
            if importlib.util.find_spec(module) is None:
                print(f"  {name:20} skipped: {module} is not installed (extra 'bench')")
                continue
            print(f"  {name:20} {tried(build(vectors), queries, right)}".rstrip(), flush=True)


def tried(efforts: Tried, queries: np.ndarray, right: list[set[int]]) -> str:
    """The figures of the first effort that finds enough, else of the last."""
    start, built, line = time.perf_counter(), 0.0, ""
    for effort, found in efforts:
        built = built or time.perf_counter() - start
        recall, p50, p95 = figures(found, queries, right)
        line = f"{built:8.1f} {recall:10.3f} {p50:8.2f} {p95:8.2f}  {effort}"
        if recall >= RECALL:
            break
    return line


def figures(found: Found, queries: np.ndarray, right: list[set[int]]) -> tuple[float, float, float]:
    times, hits = [], 0
    for query, wanted in zip(queries, right, strict=True):
        start = time.perf_counter()
        numbers = found(query)
        times.append((time.perf_counter() - start) * 1e3)
        hits += len(wanted & {int(number) for number in numbers})
    times.sort()
    return hits / (10 * len(right)), times[len(times) // 2], times[int(0.95 * len(times))]


def fusion(
    data: Path, work: Path, table: Callable[..., None], encoder: str = "minilm", sets: Sequence[str] = SETS
) -> None:
    named = Path(encoder).name
    print(f"\nFusion, {named}: nDCG@10 of documents by BM25, by vectors, by both", flush=True)
    for name in sets:
        documents, questions = read_set(data / "ir", name)
        folder = work / f"dense-{name}"
        if not (folder / "pages").is_dir():
            write_set(documents, folder / "pages")
        place = folder / f"index-{named}"
        index = Index.build(folder / "pages", place, IndexSettings(dense=encoder), encoders=[encoder])
        scores = [alone_and_fused(index, query, relevant) for query, relevant in questions]
        words, vectors, both = (statistics.mean(column) for column in zip(*scores, strict=True))
        table(f"{name}: fused, less the better of both", both - max(words, vectors), -0.01)
        print(f"    BM25 {words:.3f}, vectors {vectors:.3f}, fused {both:.3f}", flush=True)


def alone_and_fused(index: Index, query: str, relevant: dict[str, int]) -> tuple[float, float, float]:
    snapshot, encoder = index.store.snapshot(), index.text_encoder
    assert encoder is not None
    vectors = vectors_of(snapshot)
    assert vectors is not None
    by_words = [hit.url for hit in search(snapshot, query, 50)]
    near = vectors.nearest(encoder.encode_query([query])[0], 50)
    by_vectors = [snapshot.passage(n.cosine, snapshot.address(n.row)).url for n in near]
    fused = [hit.url for hit in search(snapshot, query, 50, encoder)]
    word_score, vector_score, score = (gain(urls, relevant) for urls in (by_words, by_vectors, fused))
    return word_score, vector_score, score


def gain(urls: Sequence[str], relevant: dict[str, int]) -> float:
    """nDCG@10 of the documents, each once."""
    grades = [relevant.get(url, 0) for url in list(dict.fromkeys(urls))[:10]]
    ideal = sorted(relevant.values(), reverse=True)[:10]
    return discounted(grades) / (discounted(ideal) or 1.0)


def discounted(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(place + 2) for place, grade in enumerate(grades))


def read_set(folder: Path, name: str) -> tuple[list[dict[str, Any]], list[tuple[str, dict[str, int]]]]:
    """At most DOCUMENTS documents, all relevant ones among them, and QUESTIONS questions, by lot."""
    rng = random.Random(5)
    documents, asked = (
        [json.loads(line) for line in gzip.decompress((folder / f"{name}.{kind}.jsonl.gz").read_bytes()).splitlines()]
        for kind in ("docs", "queries")
    )
    asked = rng.sample(asked, min(QUESTIONS, len(asked)))
    needed = {identity for question in asked for identity in question["relevant"]}
    rng.shuffle(documents)
    documents.sort(key=lambda document: document["id"] not in needed)
    questions = [
        (question["query"], {address(identity): grade for identity, grade in question["relevant"].items()})
        for question in asked
    ]
    return documents[: max(DOCUMENTS, len(needed))], questions


def address(identity: str) -> str:
    return f"https://example.org/{identity}"


def write_set(documents: Sequence[dict[str, Any]], folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, document in enumerate(documents):
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in document["text"].splitlines() if line.strip())
        head = f'<meta charset="utf-8"><title>{html.escape(document["title"])}</title>'
        link = f'<link rel="canonical" href="{html.escape(address(document["id"]))}">'
        page = f"<html><head>{head}{link}</head><body><main>{lines}</main></body></html>"
        (folder / f"{number:05}.html").write_text(page, "utf-8")
