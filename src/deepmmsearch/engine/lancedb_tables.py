"""The tables of an index in LanceDB: embedded, in a folder or on object storage."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from deepmmsearch.engine.engine_tables import (
    ConditionDialect,
    Row,
    TableRows,
    TableShape,
    TermStatistics,
    Weights,
    Where,
    told_of,
)
from deepmmsearch.errors import MissingExtra, UserError

DIALECT = ConditionDialect(lambda value: "'" + value.replace("'", "''") + "'", "array_has_any", "()")
KEPT = timedelta(minutes=10)
"""How long a version stays for those who are reading it."""
TRIES = 5
_STORAGE = (
    " Keys and the address of the storage are the environment's (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...): "
    "docs/engine.md names them."
)
FRAGMENTS, APART, APART_TERMS = 16, 1_000, 100
"""Files of a table, and rows that its indexes do not have, up to which it is left as it is. Texts that are not in their
index are parted into terms again by every query."""
SHARE = 50
"""Of the rows one in so many may be outside of an index that is not of words."""
SEGMENTS = 32
"""Pieces of an index of vectors, each of what one compaction brought; where there are more, it is made anew."""
FILTERED, INDEXED = 10_000, 50_000
"""Rows from which columns that are filtered by have indexes, and vectors too."""


def lancedb_module() -> Any:
    try:
        import lancedb
    except ImportError:
        raise MissingExtra("An index in LanceDB", "lancedb") from None
    return lancedb


class LanceEngine:
    """`uri`: a folder, or an address that LanceDB knows (s3://, gs://, az://). Credentials are the environment's.
    `indexed`: vectors of a table from which they have an index."""

    def __init__(self, address: str, uri: str, read_only: bool, indexed: int = INDEXED) -> None:
        self.address, self._indexed = address, indexed
        self._connect = partial(lancedb_module().connect, uri)
        self.folder = None if "://" in uri else Path(uri).resolve()
        if read_only and self.folder is not None and not self.folder.is_dir():
            raise UserError(
                f"There is no index at {address}. Make one with: deepmmsearch index build FOLDER --to {address}"
            )

    @cached_property
    def _database(self) -> Any:
        # makes the folder, so it waits until something is to be in it
        return self._connect()

    def intact(self) -> AbstractContextManager[None]:
        return told_of("LanceDB", self.address, "" if self.folder else _STORAGE)

    def exists(self, name: str) -> bool:
        if self.folder is not None and not self.folder.is_dir():
            return False
        found: list[str] = list(self._database.list_tables().tables)
        return name in found

    def create(self, table: TableShape) -> None:
        made = self._database.create_table(table.name, schema=_schema(table), mode="create", exist_ok=True)
        has = {column for index in made.list_indices() for column in index.columns}
        for name, kind in table.columns.items():
            if kind == "terms" and name not in has:
                made.create_index(name, config=_words(), replace=False)

    def open(self, table: TableShape, statistics: TermStatistics) -> TableRows:
        return LanceRows(self._database.open_table(table.name), table, self._indexed)

    def drop(self, name: str) -> None:
        self._database.drop_table(name, ignore_missing=True)

    def bytes(self) -> int | None:
        if self.folder is None:
            return None
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def close(self) -> None:
        pass


def _words() -> Any:
    from lancedb.index import FTS

    return FTS(
        base_tokenizer="whitespace", lower_case=False, stem=False, remove_stop_words=False, ascii_folding=False,
        with_position=False, max_token_length=None,
    )  # fmt: skip


def _schema(table: TableShape) -> Any:
    import pyarrow

    kinds = {
        "number": pyarrow.int64(),
        "list": pyarrow.list_(pyarrow.string()),
        "bytes": pyarrow.large_binary(),
        **dict.fromkeys(("key", "text", "terms"), pyarrow.string()),
    }
    return pyarrow.schema(
        [
            (name, pyarrow.list_(pyarrow.float16(), table.lengths[name]) if kind == "vector" else kinds[kind])
            for name, kind in table.columns.items()
        ]
    )


class LanceRows:
    def __init__(self, opened: Any, table: TableShape, indexed: int) -> None:
        self._opened, self._table, self._indexed = opened, table, indexed
        self._seen: int | None = None

    def renewed(self) -> bool:
        self._opened.checkout_latest()
        before, self._seen = self._seen, self._opened.version
        return before != self._seen

    def add(self, rows: Sequence[Row]) -> None:
        if rows:
            self._opened.add(self._arrow(rows))

    def replace(self, rows: Sequence[Row]) -> None:
        if rows:
            merge = self._opened.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(self._arrow(rows))

    def _arrow(self, rows: Sequence[Row]) -> Any:
        import pyarrow

        schema = self._opened.schema
        columns = []
        for field in schema:
            values = [row[field.name] for row in rows]
            if self._table.columns[field.name] == "vector":
                flat = np.asarray(values, np.float16).reshape(-1)
                length = self._table.lengths[field.name]
                columns.append(pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat), length).cast(field.type))
            else:
                columns.append(pyarrow.array(values, field.type))
        return pyarrow.Table.from_arrays(columns, schema=schema)

    def delete(self, where: Where) -> None:
        self._opened.delete(DIALECT.written(where))

    def claim(self, identity: str, column: str, old: str, new: str) -> bool:
        quoted = f"id = {DIALECT.quoted(identity)} AND {column} = {DIALECT.quoted(old)}"
        return bool(self._opened.update(where=quoted, values={column: new}).rows_updated)

    def find(self, where: Where, columns: Sequence[str], limit: int | None = None) -> list[Row]:
        query = self._opened.search().select(list(columns))
        if where:
            query = query.where(DIALECT.written(where))
        found: list[Row] = query.limit(limit if limit is not None else 2**31 - 1).to_arrow().to_pylist()
        return found

    def count(self, where: Where) -> int:
        return int(self._opened.count_rows(DIALECT.written(where) if where else None))

    def rank(self, weights: Weights, limit: int, columns: Sequence[str], where: Where = ()) -> list[tuple[float, Row]]:
        from lancedb.query import BooleanQuery, MatchQuery, Occur

        alike: dict[tuple[str, float], list[str]] = defaultdict(list)
        for column, terms in weights.items():
            for term, weight in terms.items():
                alike[column, weight].append(term)
        match: Any = MatchQuery  # whose annotations say that it has no defaults
        parts = [match(" ".join(terms), column, boost=weight) for (column, weight), terms in alike.items()]
        if not parts or limit <= 0:
            return []
        asked = BooleanQuery([(Occur.SHOULD, part) for part in parts])
        query = self._opened.search(asked, query_type="fts").select([*columns, "_score"]).limit(limit)
        if where:
            query = query.where(DIALECT.written(where), prefilter=True)
        return [(float(row.pop("_score")), row) for row in query.to_arrow().to_pylist()]

    def nearest(
        self, column: str, vector: np.ndarray, limit: int, columns: Sequence[str], where: Where = ()
    ) -> list[tuple[float, Row]]:
        query = self._opened.search(np.asarray(vector, np.float32), vector_column_name=column, query_type="vector")
        query = query.distance_type("cosine").select([*columns, "_distance"]).limit(limit).refine_factor(1)
        if where:
            query = query.where(DIALECT.written(where), prefilter=True)
        return [(1.0 - float(row.pop("_distance")), row) for row in query.to_arrow().to_pylist()]

    def compact(self) -> bool:
        indexes = self._opened.list_indices()
        rows = self._opened.count_rows()
        sound = [index for index in indexes if (index.num_segments or 0) <= SEGMENTS or index.index_type == "FTS"]
        missing = self._missing({column for index in sound for column in index.columns}, rows)
        apart = any(_is_apart(index, rows) for index in indexes)
        if not missing and not apart and self._opened.stats()["fragment_stats"]["num_fragments"] <= FRAGMENTS:
            return False
        for name, config in missing.items():
            self._opened.create_index(name, config=config, replace=True)
        for attempt in range(TRIES):
            try:
                self._opened.optimize(cleanup_older_than=KEPT)
                break
            except (RuntimeError, OSError):  # a reader's or a writer's change came between
                if attempt + 1 < TRIES:
                    time.sleep(0.1 * 2**attempt)
        # what is not compacted is found all the same, and the next writer tries again
        return True

    def _missing(self, has: set[str], rows: int) -> dict[str, Any]:
        """Indexes that the table is large enough for, by their columns."""
        from lancedb.index import BTree, IvfHnswSq, LabelList

        wanted: dict[str, Any] = {}
        for name, kind in self._table.columns.items():
            match kind:
                case "key" | "number" if rows >= FILTERED:
                    wanted[name] = BTree()
                case "list" if rows >= FILTERED:
                    wanted[name] = LabelList()
                case "vector" if rows >= self._indexed:
                    wanted[name] = IvfHnswSq(distance_type="cosine")
        return {name: config for name, config in wanted.items() if name not in has}


def _is_apart(index: Any, rows: int) -> bool:
    most = APART_TERMS if index.index_type == "FTS" else max(APART, rows // SHARE)
    return int(index.num_unindexed_rows or 0) > most
