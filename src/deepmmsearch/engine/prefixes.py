"""What a text encoder has to read before a query or a passage, or its vectors are not those that it was trained for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deepmmsearch.errors import UserError

LONGEST_PREFIX = 1_000
"""Characters."""


@dataclass(frozen=True)
class Prefixes:
    query: str = ""
    passage: str = ""

    def __post_init__(self) -> None:
        if max(len(self.query), len(self.passage)) > LONGEST_PREFIX:
            raise UserError(f"A prefix of an encoder has more than {LONGEST_PREFIX} characters. Give a shorter one.")


_TASK = "Given a web search query, retrieve relevant passages that answer the query"
_INSTRUCTED = Prefixes(f"Instruct: {_TASK}\nQuery: ")
_REPRESENTED = Prefixes("Represent this sentence for searching relevant passages: ")
_NAMED = Prefixes("query: ", "passage: ")
_SEARCHED = Prefixes("search_query: ", "search_document: ")

# by the name without its owner, as the models' own cards say; the first that fits counts
_FAMILIES: tuple[tuple[str, Prefixes], ...] = (
    (r"(multilingual-)?e5-.*-instruct", _INSTRUCTED),
    (r"(multilingual-)?e5-", _NAMED),
    (r"bge-(small|base|large)-en", _REPRESENTED),
    (r"bge-(small|base|large)-zh", Prefixes("为这个句子生成表示以用于检索相关文章：")),
    (r"bge-(multilingual-gemma2|en-icl)", Prefixes(f"<instruct>{_TASK}.\n<query>")),
    (r"qwen3-embedding", Prefixes(f"Instruct: {_TASK}\nQuery:")),
    (r"gte-qwen", _INSTRUCTED),
    (r"stella_en_", Prefixes(f"Instruct: {_TASK}.\nQuery: ")),
    (r"(nomic-embed-text|modernbert-embed)", _SEARCHED),
    (r"snowflake-arctic-embed-[ml]-v2", Prefixes("query: ")),
    (r"(snowflake-arctic-embed|mxbai-embed|uae-)", _REPRESENTED),
    (r"deepset-mxbai-embed", _NAMED),
    (
        r"jina-embeddings-v3",
        Prefixes("Represent the query for retrieving evidence documents: ", "Represent the document for retrieval: "),
    ),
    (r"jina-embeddings-v4", Prefixes("Query: ", "Passage: ")),
    (r"embeddinggemma", Prefixes("task: search result | query: ", "title: none | text: ")),
    (r"ruri-v3", Prefixes("検索クエリ: ", "検索文書: ")),
    (r"ruri-", Prefixes("クエリ: ", "文章: ")),
    (r"(ru-en-rosberta|frida)", _SEARCHED),
)


def prefixes_of(
    name: str, own: Mapping[str, str | None], query: str | None = None, passage: str | None = None
) -> Prefixes:
    """Those given count first (empty ones too), then the model's `own` prompts, as sentence-transformers keeps them,
    then the known ones of its family, by the last part of its name or folder. UserError for too long ones."""
    own_passage = own.get("document") or own.get("passage") or own.get("corpus")
    known = Prefixes(own.get("query") or "", own_passage or "")
    known = _family(name) if known == Prefixes() else known
    return Prefixes(known.query if query is None else query, known.passage if passage is None else passage)


def _family(name: str) -> Prefixes:
    last = re.split(r"[/\\]", name.rstrip("/\\").lower())[-1]
    return next((prefixes for pattern, prefixes in _FAMILIES if re.match(pattern, last)), Prefixes())
