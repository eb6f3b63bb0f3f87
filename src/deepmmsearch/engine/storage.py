"""The index on disk: one tantivy index as the single commit point, array segments beside it.

A commit writes segments (fsynced), then documents and the manifest that names the segments, in one tantivy commit.
Killed at any moment, the index is as the last commit left it; segments that no manifest names go with the next
writer. Many processes read while one writes; a second writer is refused.

    meta.json    format version and settings      text/    tantivy      arrays/    segments
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deepmmsearch.disk import refusal
from deepmmsearch.engine import segments as seg
from deepmmsearch.engine.checksums import damaged, keep_seen, read_seen, written
from deepmmsearch.engine.page_terms import APART, AUTO, OFF
from deepmmsearch.engine.segments import Segment
from deepmmsearch.errors import Failed, MissingExtra, UserError
from deepmmsearch.files import replacing, write_json
from deepmmsearch.language.stems import ENGLISH, terms
from deepmmsearch.notation import without_halves

if TYPE_CHECKING:
    from deepmmsearch.engine.image import Gallery
    from deepmmsearch.engine.vectors import Vectors
    from deepmmsearch.engine.writer import Writer

FORMAT = 4
READABLE = (3, FORMAT)
"""A program that knows only the third cannot read what is written now."""
TITLE_BOOST, TIE = 3.0, 0.05
"""Of titles apart."""
ALL = 10_000_000

# the files that tantivy makes and, told so by its own list, deletes
_MANAGED = re.compile(r"[0-9a-f]{32}(\.\d{1,20})?(\.[a-z]{2,12}){1,2}|meta\.json")
_MOST_MANAGED = 16_000_000
# how tantivy begins when it may not lock
_LOCK = "Failed to acquire Lockfile"


# what tantivy's search returns: a score, and where the document lies
Ranked = list[tuple[float, Any]]


class Record(NamedTuple):
    """One document of the store: what it is (`kind`), the file it came from, and its content as stored. A passage's
    content is its url, title, text, position in the page, and the row of its vectors where it has some."""

    kind: str
    file: str
    content: dict[str, Any]
    score: float = 0.0


class KnownFile(NamedTuple):
    """The record of a file, unread: its kind ("file" or "skipped"), the stamp that the file had, where it lies."""

    kind: str
    stamp: int
    address: Any


class Conditions(NamedTuple):
    """What passages must have beside their score: `tags` of their page, and none of `without_tags`; each of `terms`,
    and of no group of `without` each (a term is given in several forms, of which one is enough); a date (YYYYMMDD) from
    `after` on and before `before`."""

    tags: Sequence[str] = ()
    without_tags: Sequence[str] = ()
    terms: Sequence[Sequence[str]] = ()
    without: Sequence[Sequence[Sequence[str]]] = ()
    after: int | None = None
    before: int | None = None


class FoundPassage(NamedTuple):
    """What is shown of a passage that was found."""

    url: str
    title: str
    text: str
    score: float
    file: str
    place: str = ""
    """The part of the page that it is from, as the fragment of an address: "page=57"."""


def tantivy_module() -> Any:
    try:
        import tantivy
    except ImportError:
        raise MissingExtra("The local search engine", "engine") from None
    return tantivy


def _schema() -> Any:
    builder = tantivy_module().SchemaBuilder()
    for name in ("kind", "file", "url", "ref", "tag"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic", stored=name not in ("ref", "tag"))
    # terms as the language package makes them, parted by blanks: of a passage, with a page's first one of all of it,
    # and of the title where that is apart
    for name in ("words", "whole", "name"):
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="freq")
    # of the words in languages that change them: parts of words
    builder.add_text_field("parts", tokenizer_name="whitespace", index_option="freq")
    # function words; and with a page's first passage how words are written that no earlier page had
    for name in ("small", "spelled"):
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="basic")
    for name in ("title", "body", "content"):
        builder.add_bytes_field(name, stored=True)
    # what names a picture is no passage
    builder.add_text_field("caption", tokenizer_name="whitespace", index_option="freq")
    # columns: passages are ranked, fused and limited per page before any of them is read
    builder.add_unsigned_field("page", fast=True, indexed=True)
    builder.add_unsigned_field("row", fast=True, indexed=True, stored=True)
    builder.add_unsigned_field("stamp", fast=True)
    builder.add_unsigned_field("date", fast=True)
    builder.add_unsigned_field("position", stored=True)
    return builder.build()


MOST_CAPTION_TERMS = 64


FILE_KINDS = ("file", "skipped")
"""Records of which there is one for each file or folder that was met: indexed, or left out."""


def file_ref(file: str) -> str:
    """By which the record of a file is found."""
    return f"file:{file}"


def page_number(file: str) -> int:
    """The file as a number for the columns; 64 bits of a hash."""
    return int.from_bytes(blake2b(file.encode("utf-8"), digest_size=8).digest(), "little")


class Store:
    """An open index folder. Reading is through `snapshot()`, writing through writer.Writer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = read_meta(folder)
        refuse_foreign(folder)
        self.arrays = folder / "arrays"
        self.stemmed = bool(self.meta.get("stem", True))
        self.titles_apart = self.meta.get("titles") == APART
        self.in_parts = self.meta.get("word_parts", OFF) == AUTO and not self.titles_apart
        self._links: TemporaryDirectory[str] | None = None
        with intact(folder):
            seen = read_seen(folder)
            path, sound = damaged(folder / "text", seen)
            if path is not None:
                raise UserError(f"{path} is damaged. Build the index in {folder} again.")
            if sound != seen:
                keep_seen(folder, sound)
            self.index = self._opened(folder / "text")
        self._commit = folder / "text" / "meta.json"
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._snapshot: Snapshot | None = None
        # what is derived of segments that the last commit has, by their names: a commit changes few of them
        self.derived: dict[str, Any] = {}

    @classmethod
    def create(cls, folder: Path, settings: Mapping[str, Any]) -> Store:
        """A new, empty index. The folder must be absent or empty: nothing of the user's is ever overwritten."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} exists and is not an index. Choose a new or empty folder for the index.")
        with replacing(folder) as draft:
            for name in ("text", "arrays"):
                (draft / name).mkdir(parents=True)
            with intact(folder):
                tantivy_module().Index(_schema(), path=str(draft / "text"))
            write_json(draft / "meta.json", {"format": FORMAT, **settings}, durable=True)
        return cls(folder)

    def keep(self, values: Mapping[str, Any]) -> None:
        """Settings that may change while the index is used."""
        self.meta = {**read_meta(self.folder), **values}
        write_json(self.folder / "meta.json", self.meta, durable=True)

    @property
    def name(self) -> str:
        return str(self.folder)

    @property
    def place(self) -> Path | None:
        return self.folder

    def intact(self) -> AbstractContextManager[None]:
        return intact(self.folder)

    def writing(self) -> Writer:
        from deepmmsearch.engine.writer import Writer

        return Writer(self)

    def figures(self) -> dict[str, Any]:
        size = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        return {"segments": len(self.snapshot().segments), "bytes": size}

    @property
    def read_only(self) -> bool:
        """Nothing can be written in the folder."""
        return self._links is not None

    def caption_terms(self, text: str) -> str:
        """The terms of what names a picture, parted by blanks."""
        return terms(ENGLISH, self.stemmed).line(text)[0]

    def snapshot(self) -> Snapshot:
        """The last commit; the same object until there is a newer one."""
        with self._lock:
            status = self._commit.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if self._snapshot is None or stamp != self._stamp:
                self._reload()
                self._snapshot, self._stamp = Snapshot(self), stamp
            return self._snapshot

    def _opened(self, place: Path) -> Any:
        try:
            index = tantivy_module().Index.open(str(place))
            # reloading is ours (snapshot): the default keeps a thread that watches the folder
            index.config_reader("manual")
        except ValueError as error:
            if self._links is not None or _LOCK not in str(error):
                raise
            return self._opened_apart()
        return index

    def _opened_apart(self) -> Any:
        """Where nothing can be written: tantivy makes a lock file even to read, so it gets links to the files."""
        self._links = TemporaryDirectory(prefix="deepmmsearch-")
        for entry in os.scandir(self.folder / "text"):
            if not entry.name.endswith(".lock"):
                Path(self._links.name, entry.name).symlink_to(entry.path)
        return self._opened(Path(self._links.name))

    def _reload(self) -> None:
        if self._links is None:
            self.index.reload()
        else:
            self.index = self._opened_apart()

    def keep_written(self) -> None:
        """A process that has changed the index need not read what it wrote."""
        keep_seen(self.folder, written(self.folder / "text", read_seen(self.folder)))

    def refresh(self) -> None:
        """Forget the snapshot: the next one is read anew."""
        with self._lock:
            self._snapshot = None


def read_meta(folder: Path) -> dict[str, Any]:
    """UserError unless this is an index of this version."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        version = meta["format"]
    except FileNotFoundError:
        found = "is not an index folder" if folder.exists() else "does not exist"
        raise UserError(
            f"{folder} {found}. Make an index with: deepmmsearch index build FOLDER --out {folder}"
        ) from None
    except PermissionError:
        raise UserError(f"The index in {folder} may not be read: no permission.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{folder} is not an index folder: its meta.json cannot be read.") from None
    if version not in READABLE:
        raise UserError(
            f"The index in {folder} has format {version} and this version reads formats {READABLE[0]} and {FORMAT}: "
            "delete that folder and build it again with `deepmmsearch index build`."
        )
    return dict(meta)


def refuse_foreign(folder: Path) -> None:
    """An index may come from anybody, and writing to it deletes and replaces files: it must be made of ordinary files
    in folders of its own, and tantivy's list of the files that it may delete must name nothing else. UserError."""
    text, arrays = folder / "text", folder / "arrays"
    with intact(folder), suppress(FileNotFoundError):  # another process may be writing
        for place in (text, arrays):
            if place.is_symlink() or not place.is_dir():
                raise UserError(f"{place} is not a folder of its own. Copy the index with its files, without links.")
        segments = [Path(entry) for entry in os.scandir(arrays) if entry.is_dir(follow_symlinks=False)]
        for place in (text, arrays, *segments):
            for entry in os.scandir(place):
                ordinary = entry.is_file(follow_symlinks=False)
                if not (ordinary or (place == arrays and entry.is_dir(follow_symlinks=False))):
                    raise UserError(
                        f"{entry.path} is not an ordinary file. Copy the index with its files, without links."
                    )
        managed = text / ".managed.json"
        listed = json.loads(managed.read_bytes()) if managed.stat().st_size < _MOST_MANAGED else None
        if not (isinstance(listed, list) and all(isinstance(n, str) and _MANAGED.fullmatch(n) for n in listed)):
            raise UserError(f"The index in {folder} lists files that are not its own. Build it again.")


@contextmanager
def intact(folder: Path) -> Iterator[None]:
    """A border: tantivy, numpy and the engine raise nearly anything over an index that was damaged or made up. They are
    UserErrors here; OSErrors stay what they are, for a missing file is a writer's doing."""
    try:
        yield
    except (UserError, OSError):
        raise
    except BaseException as error:
        # tantivy's panics are no Exceptions, and have a class for each import of pyo3
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if sentence := refusal(error):
            raise Failed(sentence) from error
        said = (str(error).splitlines() or [""])[0][:120]
        raise UserError(
            f"The index in {folder} is damaged ({type(error).__name__}: {said}). Build it again."
        ) from error


class Snapshot:
    """What one commit holds. Arrays are read on first use."""

    def __init__(self, store: Store) -> None:
        self.store = store
        tantivy = tantivy_module()
        self._query, self._occur = tantivy.Query, tantivy.Occur
        self.schema = store.index.schema
        self.searcher = store.index.searcher()
        # a limit far above the number of documents costs tantivy memory up front
        self._most = max(1, self.searcher.num_docs)
        manifest = next(self.find("kind", "manifest", 1), None)
        content: dict[str, Any] = manifest.content if manifest else {"segments": [], "next_id": 0}
        self.segments = tuple(Segment.from_json(s) for s in content["segments"])
        self.next_id = int(content["next_id"])
        # how many passages were ever added, of how many terms and parts of words, and of how many pages
        texts, terms, parts, pages = map(int, (*content.get("texts", (0, 0)), 0, 0)[:4])
        self.texts = texts, terms, parts, pages
        passages = self.count("passage") if not store.titles_apart else 0
        self._counted = {"words": passages, "whole": passages * pages // texts if texts else 0}
        self._loaded: dict[str, dict[str, np.ndarray] | None] = {}
        # derived structures (a search tree over descriptors) live as long as the arrays they are made of
        self.derived: dict[str, Any] = {}
        self.lock = threading.RLock()

    def opened(self, kind: str) -> list[tuple[Segment, dict[str, np.ndarray]]]:
        """The segments of a kind with their arrays, memory-mapped; dead rows are in them. FileNotFoundError as of
        `arrays`."""
        return [(s, seg.read_segment(self.store.arrays, s)) for s in self.segments if s.kind == kind and s.rows]

    def arrays(self, kind: str) -> dict[str, np.ndarray] | None:
        """The live rows of all segments of a kind, or None when there are none. FileNotFoundError when the commit
        is no longer the last one and a writer has merged its segments away: take a new snapshot."""
        with self.lock:
            if kind not in self._loaded:
                parts = [
                    (seg.read_segment(self.store.arrays, segment), segment.dead)
                    for segment in self.segments
                    if segment.kind == kind
                ]
                merged = seg.concatenate(parts) if parts else None
                self._loaded[kind] = merged if merged is not None and len(merged[seg.IDS]) else None
            return self._loaded[kind]

    def pieces(self, kind: str) -> Iterator[tuple[Segment, dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """Each segment of a kind as it lies on disk: its arrays, memory-mapped, and what was computed from them. Raises
        as `arrays`."""
        for segment in self.segments:
            if segment.kind == kind:
                folder = self.store.arrays
                yield segment, seg.read_segment(folder, segment), seg.read_beside(folder, segment)

    @property
    def documents(self) -> int:
        return self._counted["words"] or int(self.searcher.num_docs)

    # what searches vectors and pictures reads snapshots itself
    def vectors(self) -> Vectors | None:
        """Of the passages, where they have some."""
        from deepmmsearch.engine.vectors import vectors_of

        return vectors_of(self)

    def gallery(self) -> Gallery | None:
        """The pictures, where there are any. FileNotFoundError as of `arrays`."""
        from deepmmsearch.engine.galleries import gallery_of

        return gallery_of(self)

    def find(self, field: str, value: str, limit: int = ALL) -> Iterator[Record]:
        """Records whose field is exactly this value; none has one that is no Unicode."""
        if value != without_halves(value):
            return iter(())
        # what is asked for is allocated, found or not
        most = min(limit, self.searcher.doc_freq(field, value))
        if not most:
            return iter(())
        query = self._query.term_query(self.schema, field, value, index_option="basic")
        return (self.record(score, address) for score, address in self._search(query, most))

    def known_file(self, file: str) -> KnownFile | None:
        found = self._search(self._query.term_query(self.schema, "ref", file_ref(file), index_option="basic"), 1)
        if not found:
            return None
        (stamp,) = self.columns("stamp", found)
        return KnownFile(self.searcher.doc(found[0][1]).get_first("kind"), stamp, found[0][1])

    def known_files(self) -> dict[int, KnownFile]:
        """All of them, by the number of the file's id."""
        known: dict[int, KnownFile] = {}
        for kind in FILE_KINDS:
            query = self._query.term_query(self.schema, "kind", kind, index_option="basic")
            ranked = self._search(query, max(1, self.searcher.doc_freq("kind", kind)))
            pages, stamps = self.columns("page", ranked), self.columns("stamp", ranked)
            known.update(
                (page, KnownFile(kind, stamp, address))
                for page, stamp, (_, address) in zip(pages, stamps, ranked, strict=True)
            )
        return known

    def files_below(self, folder: str) -> list[str]:
        """The ids of the files that have records, from a folder and the folders in it."""
        start = file_ref(folder.rstrip("/") + "/")
        found: list[tuple[str, int]] = self.searcher.terms_with_prefix("ref", start)
        files = [term.removeprefix(file_ref("")) for term, _ in found]
        # terms outlive what was deleted
        return [file for file in files if self.known_file(file) is not None]

    def claimed(self, pages: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Of pages (url, file) those whose url another file has as well."""
        return {page for page in set(pages) if self._is_claimed(*page)}

    def _is_claimed(self, url: str, file: str) -> bool:
        url_term, file_term = (
            self._query.term_query(self.schema, field, value, index_option="basic")
            for field, value in (("url", url), ("file", file))
        )
        query = self._query.boolean_query([(self._occur.Must, url_term), (self._occur.MustNot, file_term)])
        return bool(self._search(query, 1))

    def count(self, kind: str) -> int:
        query = self._query.term_query(self.schema, "kind", kind, index_option="basic")
        return int(self.searcher.search(query, 1, count=True).count)

    def rank(
        self,
        terms: Mapping[str, float],
        small: Mapping[str, float],
        limit: int,
        conditions: Conditions | None = None,
        parts: Mapping[str, float] | None = None,
        akin: Sequence[tuple[Sequence[str], int]] | None = None,
    ) -> Ranked:
        """Passages by BM25 of their weighted terms, function words (`small`) and parts of words, unread. Each has a
        term; with `akin` (parts, and how many of them it must have at least) those that have none, but so many parts
        of a group."""
        should, new = self._occur.Should, self._query
        asked = [(should, self._best(term, weight)) for term, weight in terms.items()]
        asked += [(should, self._term("small", term, weight)) for term, weight in small.items()]
        counted = [(should, self._term("parts", part, weight)) for part, weight in (parts or {}).items()]
        if akin is not None:
            groups = [self._at_least(group, least) for group, least in akin]
            either = new.const_score_query(new.boolean_query([(should, group) for group in groups]), 0.0)
            without = [(self._occur.MustNot, new.boolean_query(asked))] if asked else []
            asked = [(self._occur.Must, either), *without, *counted] if groups else []
        elif counted and asked:
            asked = [(self._occur.Must, new.boolean_query(asked)), *counted]
        if conditions is not None:
            either = (
                self._query.boolean_query(asked) if asked else self._query.term_query(self.schema, "kind", "passage")
            )
            asked = [(self._occur.Must, either), *self._conditions(conditions)]
        return self._search(self._query.boolean_query(asked), limit) if asked and limit > 0 else []

    def _conditions(self, given: Conditions) -> Iterator[tuple[Any, Any]]:
        """What each passage must be or must not be, without a score of its own."""
        new, must, never = self._query, self._occur.Must, self._occur.MustNot

        def tagged(tag: str) -> Any:
            return new.const_score_query(new.term_query(self.schema, "tag", tag, index_option="basic"), 0.0)

        for tag in given.tags:
            yield must, tagged(tag)
        for tag in given.without_tags:
            yield never, tagged(tag)
        for forms in given.terms:
            yield must, new.const_score_query(self._either(forms), 0.0)
        for group in given.without:
            yield never, new.boolean_query([(must, self._either(forms)) for forms in group])
        if given.after is not None or given.before is not None:
            kind, latest = tantivy_module().FieldType.Unsigned, given.before or 99_991_231
            dates = new.range_query(self.schema, "date", kind, given.after or 1, latest, include_upper=False)
            yield must, new.const_score_query(dates, 0.0)

    def _at_least(self, parts: Sequence[str], least: int) -> Any:
        every = [(self._occur.Should, self._term("parts", part, 1.0)) for part in dict.fromkeys(parts)]
        return self._query.boolean_query(every, minimum_number_should_match=min(least, len(every)))

    def _either(self, forms: Sequence[str]) -> Any:
        """One of the forms, among the words or the function words."""
        fields = ("words", "small", "name") if self.store.titles_apart else ("words", "small")
        either = [self._term(field, form, 1.0) for field in fields for form in forms]
        return self._query.boolean_query([(self._occur.Should, query) for query in either])

    def rank_pages(self, terms: Mapping[str, float], limit: int) -> dict[int, float]:
        """The best pages (their numbers) by BM25 of their whole text."""
        parts = [(self._occur.Should, self._term("whole", term, weight)) for term, weight in terms.items()]
        ranked = self._search(self._query.boolean_query(parts), limit) if parts and limit > 0 else []
        return dict(zip(self.columns("page", ranked), (score for score, _ in ranked), strict=True))

    def frequency(self, term: str) -> int:
        """In how many passages a term is."""
        titles = self.searcher.doc_freq("name", term) if self.store.titles_apart else 0
        return int(self.searcher.doc_freq("words", term)) + int(titles)

    def spelled(self, prefix: str, most: int) -> list[str]:
        """How words are written that begin so."""
        return [word for word, _ in self.searcher.terms_with_prefix("spelled", prefix, limit=most)]

    def tags(self, prefix: str) -> dict[str, int]:
        """The tags that begin so, without that, and how many passages have each."""
        return {tag.removeprefix(prefix): count for tag, count in self.searcher.terms_with_prefix("tag", prefix)}

    def _best(self, term: str, weight: float) -> Any:
        if not self.store.titles_apart:
            return self._term("words", term, weight)
        # the better one: summed, a page that repeats its own title outranks the passage that answers
        either = [self._term("name", term, TITLE_BOOST * weight), self._term("words", term, weight)]
        return self._query.disjunction_max_query(either, TIE)

    def _term(self, field: str, term: str, weight: float) -> Any:
        if among := self._counted.get(field):
            frequency = self.searcher.doc_freq(field, term)
            weight *= rareness(frequency, among) / rareness(frequency, self._most)
        query = self._query.term_query(self.schema, field, term, index_option="basic" if field == "small" else "freq")
        return query if weight == 1 else self._query.boost_query(query, weight)

    def rank_captions(self, words: str, limit: int) -> Iterator[Record]:
        """Pictures by their files' names, and mentions of pictures by what stands beside them, by BM25."""
        asked = dict.fromkeys(self.store.caption_terms(words).split()[:MOST_CAPTION_TERMS])
        queries = [self._term("caption", term, 1.0) for term in asked]
        if not queries or limit <= 0:
            return iter(())
        ranked = self._search(self._query.boolean_query([(self._occur.Should, query) for query in queries]), limit)
        return (self.record(score, address) for score, address in ranked)

    def columns(self, name: str, ranked: Ranked) -> list[int]:
        """`page` (page_number of the file) or, where passages have vectors, `row` of ranked passages."""
        values: list[int] = self.searcher.fast_field_values(name, [address for _, address in ranked])
        return values

    def address(self, row: int) -> Any:
        """Where the passage lies that has this row of vectors."""
        return self._search(self._query.term_query(self.schema, "row", row), 1)[0][1]

    def passage(self, score: float, address: Any) -> FoundPassage:
        get = self.searcher.doc(address).get_first
        stored = get("content")
        place = json.loads(stored).get("place", "") if stored is not None else ""
        return FoundPassage(get("url") or "", _text(get("title")), _text(get("body")), score, get("file") or "", place)

    def record(self, score: float, address: Any) -> Record:
        get = self.searcher.doc(address).get_first
        stored = get("content")
        content: dict[str, Any] = {} if stored is None else json.loads(stored)
        if (text := get("body")) is not None:
            content["url"], content["title"] = get("url") or "", _text(get("title"))
            content["text"], content["position"] = _text(text), get("position") or 0
            if (row := get("row")) is not None:
                content["row"] = row
        return Record(get("kind"), get("file") or "", content, float(score))

    def _search(self, query: Any, limit: int) -> Ranked:
        found: Ranked = self.searcher.search(query, min(limit, self._most), count=False).hits
        return found


def rareness(frequency: int, documents: int) -> float:
    """BM25's idf, never nothing."""
    documents = max(documents, frequency)
    return math.log(1 + (documents - frequency + 0.5) / (frequency + 0.5))


def _text(stored: bytes | None) -> str:
    return (stored or b"").decode("utf-8")
