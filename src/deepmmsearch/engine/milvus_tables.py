"""The tables of an index in Milvus: a server, reached over the network.

BM25 is computed here and not by Milvus, whose own has no weights of a query's words: a text is a sparse vector of what
its terms weigh in it, a query one of their rarity, and their product the score. A term's dimension is a hash of it.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from deepmmsearch.engine.engine_tables import (
    ConditionDialect,
    Kind,
    Row,
    TableRows,
    TableShape,
    TermStatistics,
    Weights,
    Where,
    told_of,
    unzipped,
)
from deepmmsearch.errors import MissingExtra, UserError

TOKEN = "DEEPMMSEARCH_MILVUS_TOKEN"
"""The variable that holds a token, or user:password."""
OLDEST = (2, 4)
K1, B = 1.2, 0.75
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})
"""Other control characters stand as they are: servers differ in the escapes that they know."""
DIALECT = ConditionDialect(lambda value: f'"{value.translate(_ESCAPED)}"', "array_contains_any", "[]")
TERMS = "terms"
"""The sparse vector of all columns of terms."""
NOTHING = 2**32 - 2
"""The dimension of a text that has no terms, for which Milvus has no vector."""
LONGEST = 65_535
"""Bytes of a string."""
PIECE, PIECES = 60_000, 4
"""Of what is only kept: compressed, in so many strings of so many characters at most."""
MOST_FOUND = 16_000
MOST_LISTED = 4_096
MESSAGE = 8_000_000
SETTLED = 0.3
"""Seconds after which of two who claim the same value the later one has it."""
_ADDRESS = re.compile(r"milvus://([\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?(?:/([A-Za-z_]\w{0,80}))?(\?tls)?")


def pymilvus_module() -> Any:
    try:
        import pymilvus
    except ImportError:
        raise MissingExtra("An index in Milvus", "milvus") from None
    return pymilvus


class MilvusEngine:
    """`address`: milvus://HOST:PORT/NAME, and ?tls for an encrypted connection. NAME begins collections' names."""

    folder: Path | None = None

    def __init__(self, address: str) -> None:
        found = _ADDRESS.fullmatch(address)
        if not found:
            raise UserError(
                f"{address} is not an address of Milvus. Give one such as milvus://127.0.0.1:19530/my_index."
            )
        host, port, name, tls = found.groups()
        self.address, self._name = address, name or "deepmmsearch"
        self._module = pymilvus_module()
        uri = f"{'https' if tls else 'http'}://{host}{port or ':19530'}"
        # it writes what it raises as well
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        with self.intact():
            self._client = self._module.MilvusClient(uri, token=os.environ.get(TOKEN, ""), timeout=30)

    def intact(self) -> AbstractContextManager[None]:
        return told_of("Milvus", self.address)

    def exists(self, name: str) -> bool:
        return bool(self._client.has_collection(f"{self._name}_{name}"))

    def _check_version(self) -> None:
        version = str(self._client.get_server_version())
        found = re.match(r"v?(\d+)\.(\d+)", version)
        if found and (int(found[1]), int(found[2])) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise UserError(
                f"The server at {self.address} is Milvus {version}, which has no sparse vectors. Use {oldest} or later."
            )

    def create(self, table: TableShape) -> None:
        kinds = self._module.DataType
        schema = self._module.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        indexes = self._module.MilvusClient.prepare_index_params()
        for name, kind in table.columns.items():
            match kind:
                case "key":
                    schema.add_field(name, kinds.VARCHAR, max_length=LONGEST, is_primary=name == "id")
                case "number":
                    schema.add_field(name, kinds.INT64)
                case "list":
                    schema.add_field(
                        name, kinds.ARRAY, element_type=kinds.VARCHAR, max_capacity=MOST_LISTED, max_length=LONGEST
                    )
                case "text" | "bytes":
                    for piece in range(PIECES):
                        schema.add_field(f"{name}_{piece}", kinds.VARCHAR, max_length=LONGEST)
                case "vector":
                    schema.add_field(name, kinds.FLOAT_VECTOR, dim=table.lengths[name])
                    indexes.add_index(name, index_type="AUTOINDEX", metric_type="COSINE")
        # each collection has vectors
        schema.add_field(TERMS, kinds.SPARSE_FLOAT_VECTOR)
        indexes.add_index(TERMS, index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        try:
            self._client.create_collection(
                f"{self._name}_{table.name}", schema=schema, index_params=indexes, consistency_level="Strong"
            )
        except self._module.MilvusException:
            self._check_version()
            raise

    def open(self, table: TableShape, statistics: TermStatistics) -> TableRows:
        return MilvusRows(self._client, f"{self._name}_{table.name}", table.columns, statistics)

    def drop(self, name: str) -> None:
        self._client.drop_collection(f"{self._name}_{name}")

    def bytes(self) -> int | None:
        return None

    def close(self) -> None:
        self._client.close()


class MilvusRows:
    def __init__(self, client: Any, name: str, columns: Mapping[str, Kind], statistics: TermStatistics) -> None:
        self._client, self._name, self._columns, self._statistics = client, name, columns, statistics

    def renewed(self) -> bool:
        return True

    def add(self, rows: Sequence[Row]) -> None:
        self.replace(rows)

    def replace(self, rows: Sequence[Row]) -> None:
        some: list[Row] = []
        size = 0
        for row in rows:
            stored = self._stored(row)
            # four bytes of a character at most, twelve of a number in a vector
            own = sum(4 * len(value) if isinstance(value, str) else 12 * np.size(value) for value in stored.values())
            own += 16 * len(stored[TERMS])
            if some and size + own > MESSAGE:
                self._client.upsert(self._name, some)
                some, size = [], 0
            some.append(stored)
            size += own
        if some:
            self._client.upsert(self._name, some)

    def _stored(self, row: Row) -> Row:
        stored: Row = {}
        terms: dict[int, float] = {}
        for name, kind in self._columns.items():
            value = row[name]
            match kind:
                case "text" | "bytes":
                    stored |= _in_pieces(name, value.encode() if kind == "text" else value)
                case "terms":
                    terms |= self._weighed(name, value)
                case "vector":
                    stored[name] = np.asarray(value, np.float32).tolist()
                case "list":
                    stored[name] = list(value[:MOST_LISTED])
                case _:
                    stored[name] = value
        return {**stored, TERMS: terms or {NOTHING: 1e-6}}

    def _weighed(self, column: str, text: str) -> dict[int, float]:
        """What terms weigh in a text of this length."""
        counts = Counter(text.split())
        length = sum(counts.values()) / self._statistics.mean_length(column)
        return {
            _dimension(column, term): count * (K1 + 1) / (count + K1 * (1 - B + B * length))
            for term, count in counts.items()
        }

    def delete(self, where: Where) -> None:
        self._client.delete(self._name, filter=DIALECT.written(where))

    def claim(self, identity: str, column: str, old: str, new: str) -> bool:
        """Milvus compares nothing before it writes: of two who do so at once, the later one has it, which both see."""
        where = f"id in [{DIALECT.quoted(identity)}]"

        def held() -> str:
            return str(self._read(where, [column], 1)[0][column])

        if held() != old:
            return False
        self.replace([{"id": identity, column: new}])
        if new:
            time.sleep(SETTLED)
        return held() == new

    def find(self, where: Where, columns: Sequence[str], limit: int | None = None) -> list[Row]:
        return self._read(DIALECT.written(where) or 'id != ""', columns, limit)

    def _read(self, where: str, columns: Sequence[str], limit: int | None) -> list[Row]:
        fields = self._fields(columns)
        most = min(MOST_FOUND, MOST_FOUND if limit is None else limit)
        found = self._client.query(self._name, filter=where, output_fields=fields, limit=most)
        if len(found) < MOST_FOUND or limit == most:
            return [self._given(row, columns) for row in found]
        iterator = self._client.query_iterator(
            self._name, batch_size=1_000, limit=-1 if limit is None else limit, filter=where, output_fields=fields
        )
        rows: list[Row] = []
        try:
            while some := iterator.next():
                rows += (self._given(row, columns) for row in some)
        finally:
            iterator.close()
        return rows

    def _fields(self, columns: Sequence[str]) -> list[str]:
        kept = [name for name in columns if self._columns[name] in ("text", "bytes")]
        pieces = [f"{name}_{piece}" for name in kept for piece in range(PIECES)]
        return [name for name in columns if name not in kept] + pieces

    def _given(self, stored: Mapping[str, Any], columns: Sequence[str]) -> Row:
        row: Row = {}
        for name in columns:
            kind = self._columns[name]
            if kind in ("text", "bytes"):
                content = unzipped(base64.b64decode("".join(stored[f"{name}_{p}"] for p in range(PIECES))))
                row[name] = content.decode() if kind == "text" else content
            else:
                row[name] = list(stored[name]) if kind == "list" else stored[name]
        return row

    def count(self, where: Where) -> int:
        filter_ = DIALECT.written(where) or 'id != ""'
        return int(self._client.query(self._name, filter=filter_, output_fields=["count(*)"])[0]["count(*)"])

    def rank(self, weights: Weights, limit: int, columns: Sequence[str], where: Where = ()) -> list[tuple[float, Row]]:
        asked = {
            _dimension(column, term): weight * self._statistics.idf(column, term)
            for column, terms in weights.items()
            for term, weight in terms.items()
        }
        return self._searched(TERMS, asked, "IP", limit, columns, where) if asked and limit > 0 else []

    def nearest(
        self, column: str, vector: np.ndarray, limit: int, columns: Sequence[str], where: Where = ()
    ) -> list[tuple[float, Row]]:
        return self._searched(column, np.asarray(vector, np.float32).tolist(), "COSINE", limit, columns, where)

    def _searched(
        self, field: str, query: Any, metric: str, limit: int, columns: Sequence[str], where: Where
    ) -> list[tuple[float, Row]]:
        (found,) = self._client.search(
            self._name,
            data=[query],
            anns_field=field,
            limit=min(limit, MOST_FOUND),
            filter=DIALECT.written(where),
            search_params={"metric_type": metric},
            output_fields=self._fields(columns),
        )
        pairs = [(float(hit["distance"]), self._given({"id": hit["id"], **hit["entity"]}, columns)) for hit in found]
        return [pair for pair in pairs if metric == "COSINE" or pair[0] > 0]

    def compact(self) -> bool:
        """Milvus does so itself."""
        return False


def _dimension(column: str, term: str) -> int:
    return int.from_bytes(blake2b(f"{column} {term}".encode(), digest_size=4).digest(), "little") % NOTHING


def _in_pieces(name: str, content: bytes) -> dict[str, str]:
    written = base64.b64encode(zlib.compress(content)).decode()
    if len(written) > PIECE * PIECES:
        raise UserError(f"A text of {len(content):,} bytes is larger than an index in Milvus holds. Use LanceDB.")
    return {f"{name}_{piece}": written[piece * PIECE : (piece + 1) * PIECE] for piece in range(PIECES)}
