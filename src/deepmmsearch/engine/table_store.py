"""An index in the tables of an engine (engine_tables.py), with the contract of the local one (backend.py)."""

from __future__ import annotations

import bisect
import json
import secrets
import threading
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmmsearch.engine.encoders import TextEncoder
from deepmmsearch.engine.engine_tables import (
    SUFFIX,
    Between,
    Condition,
    Has,
    Is,
    Kind,
    NotAll,
    Row,
    TableEngine,
    TableRows,
    TableShape,
    batches,
    unzipped,
)
from deepmmsearch.engine.fusion import dense_share
from deepmmsearch.engine.page_terms import APART, OFF
from deepmmsearch.engine.storage import (
    ALL,
    FILE_KINDS,
    MOST_CAPTION_TERMS,
    Conditions,
    FoundPassage,
    KnownFile,
    Ranked,
    Record,
    page_number,
)
from deepmmsearch.engine.table_pictures import GRID_TABLE, PICTURES, TableGallery, pictures_table
from deepmmsearch.engine.vectors import CANDIDATES, SAMPLE, Near, standing_apart
from deepmmsearch.errors import UserError
from deepmmsearch.language.stems import ENGLISH, terms
from deepmmsearch.notation import without_halves

if TYPE_CHECKING:
    from deepmmsearch.engine.table_writer import TableWriter

STATE = TableShape("state", {"id": "key", "content": "text"}, {})
STATISTICS = TableShape("statistics", {"id": "key", "content": "bytes"}, {})
RECORDS = TableShape(
    "records",
    {
        **dict.fromkeys(("id", "kind", "file", "url", "ref"), "key"),
        "owners": "list",
        "stamp": "text",
        "content": "text",
        "caption": "terms",
    },
    {},
)
PASSAGES = TableShape(
    "passages",
    {
        **dict.fromkeys(("id", "file", "url"), "key"),
        **dict.fromkeys(("row", "page", "position", "date", "length"), "number"),
        **dict.fromkeys(("owners", "tags", "held"), "list"),
        **dict.fromkeys(("place", "title", "body"), "text"),
        **dict.fromkeys(("words", "small"), "terms"),
    },
    {},
)
PAGES = TableShape("pages", {"id": "key", "owners": "list", "page": "number", "whole": "terms"}, {})
PARTS = "parts"
FORMAT = 3
OWNED = (RECORDS.name, PASSAGES.name, PAGES.name, PARTS)
"""Tables whose rows belong to files."""

AT_ONCE = 100
"""Values of a condition."""
PIECE = 5_000
"""Terms of a row of statistics."""
META, WRITER, COMMIT = "meta", "writer", "commit"
SHOWN = ("row", "page", "url", "title", "body", "file", "place", "position")
RECORDED = ("id", "kind", "file", "url", "ref", "owners", "stamp", "content")
SMALL = " "
"""Before a function word among the terms that a passage holds; terms have no blanks."""


def parts_table(lengths: Mapping[str, int]) -> TableShape:
    """Vectors of passages, one for each part of them."""
    columns: dict[str, Kind] = {"id": "key", "owners": "list", "passage": "number", "page": "number"}
    return TableShape(PARTS, {**columns, "vector": "vector"}, lengths)


FIXED = {table.name: table for table in (STATE, STATISTICS, RECORDS, PASSAGES, PAGES, GRID_TABLE)}
WITH_VECTORS = {PARTS: parts_table, PICTURES: pictures_table}
"""Made with the first row, which tells how long their vectors are."""


def number_of(*names: str) -> int:
    """63 bits of a hash: the same for the same names, in every process."""
    return int.from_bytes(blake2b("\0".join(names).encode(), digest_size=8).digest(), "little") >> 1


def signed(page: int) -> int:
    """Of the 64 bits of a page's number, for columns that have a sign."""
    return page - 2**64 if page >= 2**63 else page


class Statistics:
    """Of all passages: how many there are, in how many each term is, how words are written, which tags there are. Each
    commit adds its own; what it removes counts less."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._read: set[str] = set()
        self._counts: Counter[str] = Counter()
        self.df: dict[str, Counter[str]] = defaultdict(Counter)
        self._spelled: set[str] = set()
        self._sorted: list[str] | None = None

    def read(self, rows: TableRows) -> None:
        """What was added since the last time; all of it anew where several have become one."""
        named = {str(row["id"]) for row in rows.find((), ["id"])}
        if not self._read <= named:
            self._clear()
        for some in batches(sorted(named - self._read), 50):
            for row in rows.find([Is("id", some)], ["id", "content"]):
                self.add(json.loads(unzipped(row["content"])))
        self._read = named

    def take(self, rows: Sequence[Row], told: Mapping[str, Any]) -> None:
        """What a commit of this process is about to add in these rows."""
        self._read.update(row["id"] for row in rows)
        self.add(told)

    def add(self, told: Mapping[str, Any]) -> None:
        self._counts.update({name: int(count) for name, count in told["counts"].items()})
        for name, counts in told["df"].items():
            self.df[name].update(counts)
        self._spelled.update(told["spelled"])
        self._sorted = None

    def told(self) -> dict[str, Any]:
        """All of it, as a commit tells its own."""
        return {"counts": self._counts, "df": self.df, "spelled": sorted(self._spelled)}

    @property
    def passages(self) -> int:
        return max(0, self._counts["words"])

    def idf(self, column: str, term: str) -> float:
        """BM25's; always above 0."""
        found = max(0, self.df[column][term])
        total = max(found, self._counts[column])
        return float(np.log(1 + (total - found + 0.5) / (found + 0.5)))

    def mean_length(self, column: str) -> float:
        return max(1.0, self._counts[f"{column} terms"] / max(1, self._counts[column]))

    def spelled(self, prefix: str, most: int) -> list[str]:
        if self._sorted is None:
            self._sorted = sorted(self._spelled)
        start = bisect.bisect_left(self._sorted, prefix)
        end = bisect.bisect_left(self._sorted, prefix + "\U0010ffff")
        return self._sorted[start : min(end, start + most)]


def packed_statistics(told: Mapping[str, Any]) -> list[Row]:
    """Rows of the table of statistics, each with some of the terms. All have ids that begin alike."""
    mark = secrets.token_hex(8)
    pieces: list[dict[str, Any]] = [{"counts": told["counts"], "df": {}, "spelled": []}]
    pieces += ({"counts": {}, "df": {}, "spelled": some} for some in batches(told["spelled"], PIECE))
    for name, counts in told["df"].items():
        for some in batches([(term, count) for term, count in counts.items() if count], PIECE):
            pieces.append({"counts": {}, "df": {name: dict(some)}, "spelled": []})
    packed = [zlib.compress(json.dumps(piece).encode()) for piece in pieces]
    return [{"id": f"{mark}-{number}", "content": content} for number, content in enumerate(packed)]


class TableStore:
    """An open index at an engine's address."""

    read_only = False

    def __init__(self, engine: TableEngine) -> None:
        self.engine = engine
        self.statistics = Statistics()
        self._lock = threading.Lock()
        self._opened: dict[str, TableRows] = {}
        self._snapshot: TableSnapshot | None = None
        self._commit = ""
        self.meta: dict[str, Any] = {}
        self.derived: dict[str, Any] = {}
        with engine.intact():
            found = self.opened(STATE.name).find([Is("id", [META])], ["content"]) if engine.exists(STATE.name) else []
            if not found:
                raise UserError(
                    f"There is no index at {engine.address}. Make one with: "
                    f"deepmmsearch index build FOLDER --to {engine.address}"
                )
            self.meta = json.loads(found[0]["content"])
            version = self.meta.get("format")
        if version != FORMAT:
            raise UserError(
                f"The index at {engine.address} has format {version} and this version reads format {FORMAT}: build it "
                "again at another address."
            )
        self.stemmed = bool(self.meta.get("stem", True))
        self.titles_apart = self.in_parts = False

    @classmethod
    def create(cls, engine: TableEngine, settings: Mapping[str, Any]) -> TableStore:
        """A new, empty index, without parts of words. UserError where there is one, and for titles that are to be
        apart."""
        if settings.get("titles") == APART:
            raise UserError(
                f"An index at {engine.address} has no titles apart. Build one in a folder, or leave that out."
            )
        with engine.intact():
            if exists(engine):
                raise UserError(f"There is an index at {engine.address} already.")
            made = engine.folder is not None and engine.folder.is_dir()
            if engine.folder is not None and made and any(path.suffix != SUFFIX for path in engine.folder.iterdir()):
                raise UserError(f"{engine.folder} exists and is not an index in LanceDB. Choose a new or empty folder.")
            for table in (STATE, STATISTICS, RECORDS, PASSAGES, PAGES):
                engine.create(table)
            state = engine.open(STATE, Statistics())
            # the last one makes it an index
            values = {WRITER: "", COMMIT: "0", META: json.dumps({"format": FORMAT, **settings, "word_parts": OFF})}
            state.replace([{"id": name, "content": value} for name, value in values.items()])
        return cls(engine)

    @property
    def name(self) -> str:
        return self.engine.address

    @property
    def place(self) -> Path | None:
        return self.engine.folder

    def intact(self) -> AbstractContextManager[None]:
        return self.engine.intact()

    def has(self, name: str) -> bool:
        return name in self._opened or self.engine.exists(name)

    def opened(self, name: str) -> TableRows:
        """A table that there is."""
        if name not in self._opened:
            table = FIXED.get(name) or WITH_VECTORS[name](self.lengths(name))
            self._opened[name] = self.engine.open(table, self.statistics)
        return self._opened[name]

    def lengths(self, name: str) -> Mapping[str, int]:
        """Of the vectors in a table."""
        found = self.opened(STATE.name).find([Is("id", [f"table-{name}"])], ["content"])
        told: dict[str, int] = json.loads(found[0]["content"]) if found else {}
        return told

    def made(self, name: str, lengths: Mapping[str, int]) -> TableRows:
        """A table, made if there is none yet."""
        if not self.has(name):
            if lengths:
                self.opened(STATE.name).replace([{"id": f"table-{name}", "content": json.dumps(lengths)}])
            self.engine.create(FIXED.get(name) or WITH_VECTORS[name](lengths))
        return self.opened(name)

    def keep(self, values: Mapping[str, Any]) -> None:
        self.meta = {**self.meta, **values}
        with self.intact():
            self.opened(STATE.name).replace([{"id": META, "content": json.dumps(self.meta)}])

    def caption_terms(self, text: str) -> str:
        return terms(ENGLISH, self.stemmed).line(text)[0]

    def snapshot(self) -> TableSnapshot:
        """As of the last commit that is seen; while another process commits, a reading may see a part of it."""
        with self._lock:
            state = self.opened(STATE.name)
            if state.renewed() or self._snapshot is None:
                commit = state.find([Is("id", [COMMIT])], ["content"])[0]["content"]
                if self._snapshot is None or commit != self._commit:
                    self._renew()
                    self.statistics.read(self.opened(STATISTICS.name))
                    self._snapshot, self._commit = TableSnapshot(self), commit
            return self._snapshot

    def _renew(self) -> None:
        for rows in list(self._opened.values()):
            rows.renewed()

    def writing(self) -> TableWriter:
        from deepmmsearch.engine.table_writer import TableWriter  # which reads stores

        return TableWriter(self)

    def refresh(self) -> None:
        with self._lock:
            self._renew()
            self._snapshot = None

    def figures(self) -> dict[str, Any]:
        return {"bytes": self.engine.bytes()}


def exists(engine: TableEngine) -> bool:
    if not engine.exists(STATE.name):
        return False
    return bool(engine.open(STATE, Statistics()).count([Is("id", [META])]))


class TableSnapshot:
    """Addresses (storage.Ranked) are rows here: what is ranked comes with what is shown of it."""

    def __init__(self, store: TableStore) -> None:
        self.store = store
        self.derived: dict[str, Any] = {}
        self.lock = threading.RLock()
        self._rows = store.opened
        self._statistics = store.statistics

    @property
    def documents(self) -> int:
        return self._statistics.passages

    def find(self, field: str, value: str, limit: int = ALL) -> Iterator[Record]:
        if value != without_halves(value):
            return
        most = None if limit >= ALL else limit
        condition: Condition = Has("owners", [value]) if field == "file" else Is(field, [value])
        passages = field in ("file", "url") or (field, value) == ("kind", "passage")
        if passages and not value.startswith("sha:"):
            where = () if field == "kind" else (condition,)
            for row in self._rows(PASSAGES.name).find(where, SHOWN, most):
                yield self.record(0.0, row)
        for row in self._rows(RECORDS.name).find([condition], RECORDED, most):
            yield self.record(0.0, row)

    def record(self, score: float, address: Any) -> Record:
        row: Row = address
        if "body" in row:
            content = {name: row[name] for name in ("url", "title", "position", "row")} | {"text": row["body"]}
            return Record("passage", row["file"], content, score)
        return Record(row["kind"], row["file"], json.loads(row["content"]), score)

    def known_file(self, file: str) -> KnownFile | None:
        where: list[Condition] = [Is("file", [file]), Is("kind", FILE_KINDS)]
        found = self._rows(RECORDS.name).find(where, RECORDED, 1)
        return _known(found[0]) if found else None

    def known_files(self) -> dict[int, KnownFile]:
        found = self._rows(RECORDS.name).find([Is("kind", FILE_KINDS)], RECORDED)
        return {page_number(row["file"]): _known(row) for row in found}

    def files_below(self, folder: str) -> list[str]:
        start = folder.rstrip("/")
        where: list[Condition] = [Is("kind", FILE_KINDS), Between("file", f"{start}/", f"{start}0")]  # 0 comes after /
        return [row["file"] for row in self._rows(RECORDS.name).find(where, ["file"])]

    def claimed(self, pages: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        files: dict[str, set[str]] = defaultdict(set)
        for some in batches(sorted({url for url, _ in pages}), AT_ONCE):
            # each page has one passage that is its first
            for row in self._rows(PASSAGES.name).find([Is("url", some), Is("position", [0])], ["url", "file"]):
                files[row["url"]].add(row["file"])
        return {(url, file) for url, file in pages if files[url] - {file}}

    def count(self, kind: str) -> int:
        return (
            self._rows(PASSAGES.name).count(())
            if kind == "passage"
            else self._rows(RECORDS.name).count([Is("kind", [kind])])
        )

    def rank(
        self,
        terms: Mapping[str, float],
        small: Mapping[str, float],
        limit: int,
        conditions: Conditions | None = None,
        parts: Mapping[str, float] | None = None,
        akin: Sequence[tuple[Sequence[str], int]] | None = None,
    ) -> Ranked:
        if akin is not None:  # there are no parts
            return []
        where = list(_where(conditions)) if conditions is not None else []
        rows = self._rows(PASSAGES.name)
        if not terms and not small:
            return [(0.0, row) for row in rows.find(where, SHOWN, limit)] if where and limit > 0 else []
        return list(rows.rank({"words": terms, "small": small}, limit, SHOWN, where))

    def rank_pages(self, terms: Mapping[str, float], limit: int) -> dict[int, float]:
        ranked = self._rows(PAGES.name).rank({"whole": terms}, limit, ["page"])
        return {row["page"]: score for score, row in ranked}

    def frequency(self, term: str) -> int:
        return max(0, self._statistics.df["words"][term])

    def spelled(self, prefix: str, most: int) -> list[str]:
        return self._statistics.spelled(prefix, most)

    def tags(self, prefix: str) -> dict[str, int]:
        found = self._statistics.df["tags"].copy()
        own = {tag.removeprefix(prefix): count for tag, count in found.items() if count > 0 and tag.startswith(prefix)}
        return dict(sorted(own.items(), key=lambda pair: (-pair[1], pair[0])))

    def rank_captions(self, words: str, limit: int) -> Iterator[Record]:
        asked = dict.fromkeys(self.store.caption_terms(words).split()[:MOST_CAPTION_TERMS], 1.0)
        ranked = self._rows(RECORDS.name).rank({"caption": asked}, limit, RECORDED) if asked and limit > 0 else []
        return (self.record(score, row) for score, row in ranked)

    def columns(self, name: str, ranked: Ranked) -> list[int]:
        return [address[name] for _, address in ranked]

    def address(self, row: int) -> Any:
        return self._rows(PASSAGES.name).find([Is("row", [row])], SHOWN, 1)[0]

    def passage(self, score: float, address: Any) -> FoundPassage:
        return FoundPassage(address["url"], address["title"], address["body"], score, address["file"], address["place"])

    def vectors(self) -> TableVectors | None:
        with self.lock:
            if PARTS not in self.derived:
                found = self.store.has(PARTS)
                self.derived[PARTS] = TableVectors(self._rows(PARTS), self.documents) if found else None
            vectors: TableVectors | None = self.derived[PARTS]
            return vectors

    def gallery(self) -> TableGallery | None:
        with self.lock:
            if PICTURES not in self.derived:
                found = self.store.has(PICTURES) and self._rows(PICTURES).count(())
                self.derived[PICTURES] = TableGallery(self.store) if found else None
            gallery: TableGallery | None = self.derived[PICTURES]
            return gallery


def _known(row: Row) -> KnownFile:
    return KnownFile(row["kind"], int(row["stamp"]), row)


def _where(given: Conditions) -> Iterator[Condition]:
    for tag in given.tags:
        yield Has("tags", [tag])
    for tag in given.without_tags:
        yield NotAll([Has("tags", [tag])])
    for forms in given.terms:
        yield _either(forms)
    for group in given.without:
        yield NotAll([_either(forms) for forms in group])
    if given.after is not None or given.before is not None:
        yield Between("date", given.after or 1, given.before or 99_991_231)


def _either(forms: Sequence[str]) -> Has:
    return Has("held", [held for form in forms for held in (form, SMALL + form)])


class TableVectors:
    """The vectors of the passages, in the engine."""

    def __init__(self, rows: TableRows, passages: int) -> None:
        self._rows, self._passages = rows, passages

    def nearest(self, query: np.ndarray, count: int) -> list[Near]:
        found = self._rows.nearest("vector", query, CANDIDATES * count, ["passage", "page"])
        best: dict[int, Near] = {}
        for cosine, row in found:
            if row["passage"] not in best:
                best[row["passage"]] = Near(row["passage"], cosine, row["page"])
        return list(best.values())[:count]

    def search(self, encoder: TextEncoder, query: str, count: int) -> tuple[list[Near], float]:
        vector = encoder.encode_query([query])[0]
        found, known = self.nearest(vector, count), encoder.known(query)
        apart = standing_apart(self._sample @ vector, found[0].cosine, self._passages) if found and known < 1 else 0.0
        return found, dense_share(known, apart)

    @cached_property
    def _sample(self) -> np.ndarray:
        found = self._rows.find((), ["vector"], SAMPLE)
        return np.asarray([row["vector"] for row in found], np.float32)
