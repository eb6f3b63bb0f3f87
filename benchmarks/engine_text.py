"""Text ranking on collections with judged questions, beside bm25s, tantivy and FTS5 in the same run.

A collection is `<name>.docs.jsonl.gz` (id, title, text) and `<name>.queries.jsonl.gz` (id, query, relevant: document ->
grade). Ours is built as any index is: from a folder of HTML pages. A hit is a document.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
import json
import math
import random
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from deepmmsearch.engine import Index
from deepmmsearch.language.detection import language_of

K = 10
BEHIND = 0.005
"""How far below the best peer nDCG@10 may be."""

Find = Callable[[str], list[str]]
"""A query -> the ids of at most K documents, best first."""


class Table(Protocol):
    failed: int

    def head(self, title: str) -> None: ...


@dataclass(frozen=True)
class Set:
    """Documents as (id, title, text); questions as (query, grades of the relevant documents)."""

    name: str
    documents: list[tuple[str, str, str]]
    questions: list[tuple[str, dict[str, float]]]

    @property
    def language(self) -> str:
        return language_of(" ".join(text[:300] for _, _, text in self.documents[:10]))


def collections(folder: Path) -> Iterator[Set]:
    for documents in sorted(folder.glob("*.docs.jsonl.gz")):
        name = documents.name.removesuffix(".docs.jsonl.gz")
        queries = folder / f"{name}.queries.jsonl.gz"
        yield Set(
            name,
            [(d["id"], d.get("title", ""), d["text"]) for d in _lines(documents)],
            [(q["query"], q["relevant"]) for q in _lines(queries)],
        )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def invented(count: int = 400) -> Set:
    """Pages of made-up words, each asked for by some of its own: what a quick pass has where there are no data."""
    rng = random.Random(4)
    made = ["".join(rng.choice("bdfgklmnrstv") + rng.choice("aeiou") for _ in range(3)) for _ in range(3_000)]
    weights = [1 / (rank + 5) for rank in range(len(made))]
    texts = [" ".join(rng.choices(made, weights, k=150)) for _ in range(count)]
    documents = [(str(n), " ".join(text.split()[:2]), text) for n, text in enumerate(texts)]
    asked = [(" ".join(rng.sample(text.split(), 6)), {identity: 1.0}) for identity, _, text in documents[::4]]
    return Set("invented", documents, asked)


def write_pages(chosen: Set, pages: Path) -> None:
    pages.mkdir()
    for number, (_, title, text) in enumerate(chosen.documents):
        body = "".join(f"<p>{html.escape(line)}</p>" for line in text.split("\n\n"))
        heading = html.escape(title)
        head = f'<head><meta charset="utf-8"><title>{heading}</title></head>'
        page = f"<html>{head}<body><main><h1>{heading}</h1>{body}</main></body></html>"
        (pages / f"{number:06}.html").write_text(page, "utf-8")


def ours(chosen: Set, work: Path) -> Find:
    write_pages(chosen, work / "pages")
    return finding(chosen, Index.build(work / "pages", work / "index"))


def finding(chosen: Set, index: Index) -> Find:
    def find(query: str) -> list[str]:
        return [chosen.documents[int(hit.url[:6])][0] for hit in index.search_text(query, K, per_page=1)]

    return find


def with_bm25s(chosen: Set, work: Path) -> Find:
    """Its defaults; the English stemmer and stop words where the texts are English."""
    import bm25s
    import Stemmer

    english = chosen.language == "en"
    stemmer = Stemmer.Stemmer("english") if english else None
    stop = "en" if english else None

    def tokens(texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords=stop, stemmer=stemmer, show_progress=False)

    retriever = bm25s.BM25(k1=1.5, b=0.75)
    retriever.index(tokens([f"{title} {text}" for _, title, text in chosen.documents]), show_progress=False)

    def find(query: str) -> list[str]:
        found, scores = retriever.retrieve(tokens([query]), k=min(K, len(chosen.documents)), show_progress=False)
        return [chosen.documents[n][0] for n, score in zip(found[0], scores[0], strict=True) if score > 0]

    return find


_TANTIVY_STEMS = {
    "en": "english", "de": "german", "es": "spanish", "fr": "french", "it": "italian", "pt": "portuguese",
    "nl": "dutch", "sv": "swedish", "da": "danish", "no": "norwegian", "fi": "finnish", "hu": "hungarian",
    "ro": "romanian", "ru": "russian", "tr": "turkish", "el": "greek", "ar": "arabic", "ta": "tamil",
}  # fmt: skip


def with_tantivy(chosen: Set, work: Path) -> Find:
    """Title and text in one field, with the stems of the texts' language; pairs of characters where it has none."""
    import tantivy

    stems = _TANTIVY_STEMS.get(chosen.language)
    words = tantivy.Tokenizer.simple() if stems else tantivy.Tokenizer.ngram(2, 2)
    builder = tantivy.TextAnalyzerBuilder(words).filter(tantivy.Filter.lowercase())
    analyzer = (builder.filter(tantivy.Filter.stemmer(stems)) if stems else builder).build()
    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", tokenizer_name="own", index_option="freq")
    schema.add_unsigned_field("number", stored=True)
    index = tantivy.Index(schema.build())
    index.register_tokenizer("own", analyzer)
    writer = index.writer(48_000_000, 1)
    for number, (_, title, text) in enumerate(chosen.documents):
        writer.add_document(tantivy.Document(text=f"{title} {text}", number=number))
    writer.commit()
    index.reload()
    searcher, query_of = index.searcher(), tantivy.Query

    def find(query: str) -> list[str]:
        terms = [query_of.term_query(index.schema, "text", t, index_option="freq") for t in analyzer.analyze(query)]
        either = query_of.boolean_query([(tantivy.Occur.Should, term) for term in terms])
        hits = searcher.search(either, K, count=False).hits
        return [chosen.documents[searcher.doc(address).get_first("number")][0] for _, address in hits]

    return find


def with_fts5(chosen: Set, work: Path) -> Find:
    """Porter's stems for English, `unicode61` for other languages."""
    return _fts5(chosen, "porter unicode61" if chosen.language == "en" else "unicode61", re.compile(r"\w+").findall)


def with_fts5_trigrams(chosen: Set, work: Path) -> Find:
    def trigrams(query: str) -> list[str]:
        return [query[i : i + 3] for i in range(len(query) - 2)]

    return _fts5(chosen, "trigram", trigrams)


def _fts5(chosen: Set, tokenizer: str, cut: Callable[[str], list[str]]) -> Find:
    database = sqlite3.connect(":memory:")
    database.execute(f"create virtual table p using fts5(text, tokenize='{tokenizer}')")
    rows = ((n + 1, f"{title} {text}") for n, (_, title, text) in enumerate(chosen.documents))
    database.executemany("insert into p(rowid, text) values (?, ?)", rows)

    def find(query: str) -> list[str]:
        either = " OR ".join(f'"{part}"' for part in dict.fromkeys(p.replace('"', '""') for p in cut(query)))
        if not either:
            return []
        found = database.execute("select rowid from p where p match ? order by rank limit ?", (either, K))
        return [chosen.documents[row[0] - 1][0] for row in found]

    return find


ENGINES: dict[str, tuple[Callable[[Set, Path], Find], str]] = {
    "deepmmsearch": (ours, "tantivy"),
    "bm25s": (with_bm25s, "bm25s"),
    "tantivy": (with_tantivy, "tantivy"),
    "fts5": (with_fts5, "sqlite3"),
    "trigrams": (with_fts5_trigrams, "sqlite3"),
}


def ndcg(found: list[str], relevant: dict[str, float]) -> float:
    """At K, with the grades as gains."""
    gains = [relevant.get(identity, 0.0) for identity in found[:K]]
    ideal = sorted(relevant.values(), reverse=True)[:K]
    best = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(ideal))
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains)) / best if best else 0.0


def figures(chosen: Set, name: str) -> tuple[float, float]:
    """nDCG@10, and the share of questions with a relevant document among the first 5."""
    with tempfile.TemporaryDirectory() as work:
        find = ENGINES[name][0](chosen, Path(work))
        found = [(find(query), relevant) for query, relevant in chosen.questions]
    count = max(1, len(found))
    first = sum(any(relevant.get(identity, 0) > 0 for identity in best[:5]) for best, relevant in found)
    return sum(ndcg(best, relevant) for best, relevant in found) / count, first / count


def ranking(folders: list[Path], table: Table, quick: bool) -> None:
    """Prints a row for each set; a set on which a peer is better by more than BEHIND counts as a goal missed."""
    names = [name for name, (_, module) in ENGINES.items() if importlib.util.find_spec(module) is not None]
    sets = [invented()] if quick else [chosen for folder in folders for chosen in collections(folder)]
    table.head("Text ranking: nDCG@10 / share with a right one in the first 5")
    print(f"  {'set':14} {'documents':>9} {'queries':>7}  " + " ".join(f"{name:>12}" for name in names))
    for chosen in sets:
        own = {name: figures(chosen, name) for name in names}
        best = max((value for name, (value, _) in own.items() if name != "deepmmsearch"), default=0.0)
        met = own["deepmmsearch"][0] >= best - BEHIND
        table.failed += not met
        cells = " ".join(f"{value:6.3f}/{first:5.3f}" for value, first in own.values())
        counts = f"{len(chosen.documents):9} {len(chosen.questions):7}"
        print(
            f"  {chosen.name:14} {counts}  {cells}  goal >= {best - BEHIND:.3f}: {'met' if met else 'MISSED'}",
            flush=True,
        )
