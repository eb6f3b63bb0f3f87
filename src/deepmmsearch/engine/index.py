"""An index of a folder of documents and pictures: build, change, search."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmmsearch.engine import backend_choice, ingest, text_ranking
from deepmmsearch.engine.backend import BackendSnapshot, BackendStore
from deepmmsearch.engine.build_report import Log, Report, unlogged
from deepmmsearch.engine.encoders import (
    ImageEncoder,
    SentenceEncoder,
    TextEncoder,
    WordsAndImages,
    image_encoder,
    refuse_unnamed,
)
from deepmmsearch.engine.fusion import fuse
from deepmmsearch.engine.ingest import SUFFIXES, Ingest
from deepmmsearch.engine.linked_pages import links_of_page
from deepmmsearch.engine.page_terms import APART, AUTO, OFF, REPEATED
from deepmmsearch.engine.query import matched, understood
from deepmmsearch.engine.storage import Record
from deepmmsearch.engine.update import Changes, Update, changes
from deepmmsearch.engine.walk import Found, Selection, Walk, extension, file_url, named, url_file
from deepmmsearch.errors import Failed, UnknownName, UserError
from deepmmsearch.index_place import Place
from deepmmsearch.language.function_words import languages
from deepmmsearch.notation import without_halves
from deepmmsearch.progress import Watch, silent
from deepmmsearch.reading.worker import Extractor
from deepmmsearch.types import Hit

if TYPE_CHECKING:
    from PIL.Image import Image

    from deepmmsearch.agent.protocols import Page

SOURCE = "local"
SHORTEST, LONGEST = 100, 100_000
"""Characters of a passage."""


@dataclass(frozen=True)
class IndexSettings:
    """What an index is built with; kept in it, so that it is searched the same way.

    dense: a sentence-transformers model, or "minilm"; None = BM25 alone.
    vision: a SigLIP, CLIP or DINO model; None = descriptors alone.
    passage: the longest passage, in characters (SHORTEST to LONGEST). stem: words are found by their stems.
    language: of all pages (ISO 639-1); None = of each as it says itself, else as its words tell.
    titles: "repeated" before the text, or "apart": a field of its own, where the better of both counts for a word.
    word_parts: "auto" = in languages that change their words, these are found by parts of four letters as well, where
    titles are repeated; "off". An index that was made without them stays so.
    query_prefix, passage_prefix: what `dense` reads before each text; None = as its model or family has it, and kept
    as it was then.
    ocr: what is written in pictures and on scanned pages is read.
    """

    dense: str | None = None
    vision: str | None = None
    passage: int = 900
    stem: bool = True
    query_prefix: str | None = None
    passage_prefix: str | None = None
    ocr: bool = False
    language: str | None = None
    titles: str = REPEATED
    word_parts: str = AUTO

    def __post_init__(self) -> None:
        kinds: dict[str, tuple[type, ...]] = {"passage": (int,), "stem": (bool,), "ocr": (bool,)}
        kinds |= dict.fromkeys(("titles", "word_parts"), (str,))
        kinds |= dict.fromkeys(("dense", "vision", "query_prefix", "passage_prefix", "language"), (str, type(None)))
        for name, allowed in kinds.items():
            if type(getattr(self, name)) not in allowed:
                raise UserError(f"The index setting {name} is {getattr(self, name)!r}. Build the index again.")
        # an index that somebody else made would be cut into single letters
        if not SHORTEST <= self.passage <= LONGEST:
            raise UserError(f"The index setting passage is {self.passage}, {SHORTEST} to {LONGEST} is expected.")
        if self.language is not None and self.language not in languages():
            raise UserError(
                f"The index setting language is {self.language!r}. Known are: {', '.join(sorted(languages()))}."
            )
        if self.titles not in (REPEATED, APART):
            raise UserError(f"The index setting titles is {self.titles!r}. Known are: {REPEATED}, {APART}.")
        if self.word_parts not in (AUTO, OFF):
            raise UserError(f"The index setting word_parts is {self.word_parts!r}. Known are: {AUTO}, {OFF}.")
        if self.dense is None and (self.query_prefix or self.passage_prefix):
            raise UserError("A prefix is given, but no encoder that reads it. Name one as dense.")

    @classmethod
    def read(cls, values: dict[str, Any]) -> IndexSettings:
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise UnknownName("index setting", name, known)
        return cls(**values)

    def with_prefixes(self, query: str | None, passage: str | None) -> IndexSettings:
        """These where none is given."""
        query = query if self.query_prefix is None else self.query_prefix
        return replace(
            self, query_prefix=query, passage_prefix=passage if self.passage_prefix is None else self.passage_prefix
        )

    def text_encoder(self) -> TextEncoder | None:
        return SentenceEncoder(self.dense, self.query_prefix, self.passage_prefix) if self.dense else None


class Index:
    """An open index. Searching always sees the last commit, also those of other processes.

    `encoders`: names of models that the user gave; an index that names another one may be open, but not searched.
    """

    def __init__(self, store: BackendStore, report: Report | None = None, encoders: Collection[str] = ()) -> None:
        self.store = store
        self.report = report or Report()
        self._encoders = encoders
        values = {key: value for key, value in store.meta.items() if key not in ("format", "root", "selection")}
        values.setdefault("word_parts", OFF)  # there were none
        with store.intact():
            self.settings = IndexSettings.read(values)
            self.selection = Selection.read(store.meta.get("selection"))
            self.root = Path(store.meta["root"])

    @classmethod
    def open(cls, folder: str | os.PathLike[str], encoders: Collection[str] = ()) -> Index:
        """`folder`: where the index lies, also an address (engine/backend_choice.py). UserError when there is none, or
        one of another version, or what no index holds; Failed where an engine cannot be reached."""
        return cls(backend_choice.opened(backend_choice.resolved(folder)), encoders=encoders)

    @classmethod
    def build(
        cls,
        source: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        settings: IndexSettings | None = None,
        watch: Watch = silent,
        encoders: Collection[str] = (),
        exclude: Sequence[str] | None = None,
        hidden: bool | None = None,
        log: Log = unlogged,
        extractor: Extractor | None = None,
    ) -> Index:
        """Index a folder, or bring its index up to date: what changed is read again, what vanished is removed.

        Settings of an existing index are kept when none are given; others than its own are a UserError. `encoders` as
        for `open`, beside those in the settings. `exclude` (patterns like those of .gitignore) and `hidden` (whether
        names that begin with a dot are indexed): instead of what the index keeps.
        `extractor`: what reads the files, with other limits or started already. The outcome is in `.report`.
        KeyboardInterrupt leaves an index of what was done until then; the next build goes on.
        """
        index = cls.prepare(source, folder, settings, encoders)
        index.select(exclude, hidden)
        index.update(watch, log, extractor=extractor)
        return index

    @classmethod
    def prepare(
        cls,
        source: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        settings: IndexSettings | None = None,
        encoders: Collection[str] = (),
    ) -> Index:
        """The index of a folder as it stands, or a new one that holds nothing yet; parameters and UserErrors as for
        `build`."""
        source, place = _absolute(source), backend_choice.resolved(folder)
        if not source.is_dir():
            found = "is not a folder" if source.exists() else "does not exist"
            raise UserError(f"{source} {found}. Give a folder of documents and pictures.")
        if backend_choice.exists(place):
            named = (settings.dense, settings.vision) if settings is not None else ()
            index = cls.open(place, [*encoders, *filter(None, named)])
            if settings is not None and settings.dense == index.settings.dense:
                settings = settings.with_prefixes(index.settings.query_prefix, index.settings.passage_prefix)
            if settings is not None and settings.word_parts == AUTO:
                settings = replace(settings, word_parts=index.settings.word_parts)
            if settings is not None and settings != index.settings:
                raise UserError(
                    f"The index in {place} was built with other settings ({_differences(index.settings, settings)}). "
                    "Build into a new folder, or keep the settings."
                )
            if index.root != source:
                raise UserError(
                    f"The index in {place} belongs to {index.root}, not to {source}. Build into a new folder, or use: "
                    f"deepmmsearch index add {source} --index {place}"
                )
        else:
            index = cls._create(place, source, settings or IndexSettings())
        index.check_encoders()
        return index

    @classmethod
    def _create(cls, place: Place, root: Path, settings: IndexSettings) -> Index:
        # load the encoders first: a wrong name must leave nothing half-made
        text_encoder = settings.text_encoder()
        if text_encoder is not None:
            settings = settings.with_prefixes(text_encoder.prefixes.query, text_encoder.prefixes.passage)
        pictures = image_encoder(settings.vision) if settings.vision else None
        named = tuple(filter(None, (settings.dense, settings.vision)))
        index = cls(backend_choice.created(place, {"root": str(root), **asdict(settings)}), encoders=named)
        index.__dict__["text_encoder"], index.__dict__["image_encoder"] = text_encoder, pictures
        return index

    @property
    def is_older(self) -> bool:
        """Was it made before words were found by their parts?"""
        return "word_parts" not in self.store.meta

    @property
    def without_parts(self) -> str:
        """Why words are not found by their parts, and what to do; "" where they are, or no index like this one has
        them."""
        if self.settings.word_parts == AUTO or self.settings.titles == APART or self.store.place is None:
            return ""
        if not self.is_older:
            return (
                "This index was built with --word-parts off and stays so. Build into a new folder for parts of words."
            )
        return (
            "This index was built by an older version: words are not found by their parts, and pages that have not "
            "changed since may have no links. Build into a new folder for them."
        )

    def check_encoders(self) -> None:
        """Raises UserError for an encoder that the index names and the user does not."""
        for name in (self.settings.dense, self.settings.vision):
            refuse_unnamed(name, self.store.name, self._encoders)

    @cached_property
    def text_encoder(self) -> TextEncoder | None:
        refuse_unnamed(self.settings.dense, self.store.name, self._encoders)
        return self.settings.text_encoder()

    @cached_property
    def image_encoder(self) -> ImageEncoder | None:
        refuse_unnamed(self.settings.vision, self.store.name, self._encoders)
        return image_encoder(self.settings.vision) if self.settings.vision else None

    def _ingest(self) -> Ingest:
        texts = None
        if self.settings.ocr:
            from deepmmsearch.reading.ocr import TextReader

            texts = TextReader()
        return Ingest(
            self.root,
            self.settings.passage,
            self.text_encoder,
            self.image_encoder,
            texts=texts,
            language=self.settings.language,
            # records beside the passages change their scores, if only a little: the bundled model learnt from these
            links=self.settings.titles == REPEATED,
        )

    def select(self, exclude: Sequence[str] | None = None, hidden: bool | None = None) -> None:
        """Which files belong to the index from the next `update` on, and are kept as that."""
        now = self.selection
        lines = now.exclude if exclude is None else tuple(filter(None, exclude))
        chosen = Selection(lines, now.hidden if hidden is None else hidden)
        if chosen != now:
            self.store.keep({"selection": chosen.to_json()})
            self.selection = chosen

    def differences(self) -> Changes:
        """What `update` would do."""
        with self.store.intact():
            return changes(self.store.snapshot(), self._walk(self.root), Report())

    def update(
        self,
        watch: Watch = silent,
        log: Log = unlogged,
        wanted: Callable[[Changes], Changes] = lambda found: found,
        extractor: Extractor | None = None,
    ) -> Report:
        """Brings the index up to date with its folder; `watch`, `log`, `extractor` as for `build`. `wanted`: which of
        the changes are to be made."""

        def follow(update: Update) -> None:
            found = changes(update.writer.snapshot, self._walk(self.root), self.report, watch, update.expect)
            update.apply(wanted(found))

        self._change(follow, watch, log, extractor)
        return self.report

    def _change(self, work: Callable[[Update], None], watch: Watch, log: Log, extractor: Extractor | None) -> None:
        self.report, ingesting = Report(log=log), self._ingest()
        with (
            extractor or Extractor() as reading,
            self.store.intact(),
            self.store.writing() as writer,
        ):
            reading.texts = ingesting.texts
            work(Update(ingesting, reading, writer, self.report, watch))
        self.store.refresh()

    def _walk(self, folder: Path) -> Walk:
        base = self._ingest_id(folder)
        return Walk(folder, "" if base == "." else base, SUFFIXES, self.selection, self.store.place)

    def add(
        self,
        paths: Iterable[str | os.PathLike[str]],
        watch: Watch = silent,
        log: Log = unlogged,
        extractor: Extractor | None = None,
    ) -> Report:
        """Add or replace files, or all files of folders; `extractor` as for `build`. UserError for a path that does not
        exist."""
        files: list[Found] = []
        own = self.store.place
        for given in map(_absolute, paths):
            if own is not None and given.is_relative_to(own.resolve()):
                raise UserError(f"{given} is part of the index itself. Give files or folders of yours to add.")
            if given.is_dir():
                files += self._walk(given)
            elif not given.exists():
                raise UserError(f"{given} does not exist. Give files or folders to add.")
            elif not extension(given.name, SUFFIXES):
                raise UserError(f"{given} is of a kind that is not indexed. Known: {', '.join(sorted(SUFFIXES))}.")
            else:
                files.append(named(given, self._ingest_id(given)))
        self._change(lambda update: update.add(found for found in files if found.file), watch, log, extractor)
        return self.report

    def remove(self, names: Iterable[str | os.PathLike[str]]) -> int:
        """Remove files by path (folders with all that came from them) or by url; returns how many files went.
        UserError when a name is not in the index."""
        removed = 0
        with self.store.intact(), self.store.writing() as writer:
            gone: set[str] = set()
            for given in names:
                files = self._files(writer.snapshot, str(given)) - gone
                if not files:
                    raise UserError(f"{given} is not in the index. Nothing was removed.")
                removed += sum(writer.remove(file) for file in sorted(files))
                gone |= files
            writer.commit()
        self.store.refresh()
        return removed

    def _files(self, snapshot: BackendSnapshot, name: str) -> set[str]:
        if name != without_halves(name):  # no index holds such a name
            return set()
        files = {record.file for record in snapshot.find("url", name) if record.kind == "passage"}
        for identity in {name, self._ingest_id(name), self._ingest_id(self.root / name)}:
            files.update(snapshot.files_below(identity))
            if snapshot.known_file(identity) is not None:
                files.add(identity)
        return files

    def _ingest_id(self, path: str | Path) -> str:
        return Ingest(self.root).file_id(Path(path))

    def search_text(self, query: str, k: int = 5, per_page: int = text_ranking.PER_PAGE, offset: int = 0) -> list[Hit]:
        """At most k passages after the first `offset`, best first, at most `per_page` of one page. Any string is a
        query; engine/query_language.py says what is more than words in it."""

        def found(snapshot: BackendSnapshot) -> list[Hit]:
            most = k + offset if k > 0 else 0
            passages = text_ranking.search(snapshot, query, most, self.text_encoder, per_page)[offset:] if most else []
            addresses = _addresses(snapshot, [(p.url, p.file) for p in passages])
            return [
                Hit(p.title, ingest.cited(address, p.place), p.text, p.score, source=SOURCE)
                for p, address in zip(passages, addresses, strict=True)
            ]

        return self._consistent(found)

    def replaced(self, query: str) -> dict[str, str]:
        """The words of a query that are in no page, each with the one that is searched for instead."""
        with self.store.intact():
            return dict(understood(self.store.snapshot(), query).replaced)

    def matched(self, query: str, text: str) -> list[tuple[int, int]]:
        """Where the words of a query stand in a text (a hit's snippet): start and end of each, in its order."""
        with self.store.intact():
            snapshot = self.store.snapshot()
            return matched(snapshot, understood(snapshot, query), text)

    def search_image(self, image: Image, k: int = 5) -> list[Hit]:
        """At most k pictures, best first, with thumbnails; `matched` is True only for a confident match."""
        embedding = self.image_encoder.encode([image])[0] if self.image_encoder is not None else None

        def found(snapshot: BackendSnapshot) -> list[Hit]:
            gallery = snapshot.gallery()
            if gallery is None or k <= 0:
                return []
            with snapshot.lock:
                matches = gallery.search(image, k, embedding)
                hits = [(_picture_hit(snapshot, m.row, m.score, m.matched), gallery.thumbnail(m.row)) for m in matches]
            return [replace(hit, image=_decoded(thumbnail)) for hit, thumbnail in hits if hit is not None]

        return self._consistent(found)

    def search_pictures(self, words: str, k: int = 5) -> list[Hit]:
        """At most k pictures, best first, with thumbnails: by their names and by what stands beside them in pages, and
        where the index has an encoder of words and pictures (SigLIP, CLIP), by what they show."""
        words = without_halves(words[: text_ranking.MAX_QUERY])
        encoder = self.image_encoder if isinstance(self.image_encoder, WordsAndImages) else None
        embedding = encoder.encode_words([words])[0] if encoder is not None and words.strip() else None

        def found(snapshot: BackendSnapshot) -> list[Hit]:
            gallery = snapshot.gallery()
            if gallery is None or k <= 0:
                return []
            depth = max(text_ranking.DEPTH, 4 * k)
            scores = _named(snapshot, words, depth)
            with snapshot.lock:
                if embedding is not None:
                    scores = fuse(scores, gallery.similar(embedding, depth), depth, 0.5)
                best = sorted(scores, key=lambda row: -scores[row])[:k]
                hits = [(_picture_hit(snapshot, row, scores[row]), gallery.thumbnail(row)) for row in best]
            return [replace(hit, image=_decoded(thumbnail)) for hit, thumbnail in hits if hit is not None]

        return self._consistent(found)

    def read(self, url: str) -> Page:
        """The whole text of an indexed page: of the one that names this address, or whose file's own address it is.
        UserError when there is none, or several pages name it."""
        from deepmmsearch.agent.protocols import Page  # whose package takes longer to import than a file to add

        with self.store.intact():
            snapshot = self.store.snapshot()
            records = [r for r in snapshot.find("url", url) if r.kind == "passage"]
            for file in (url_file(url), url):  # as it is cited, as it is shown
                records = records or [r for r in snapshot.find("file", file) if r.kind == "passage"]
            if not records and "#" in url:  # a part of a page is read as the page
                return self.read(url.partition("#")[0])
            files = sorted({r.file for r in records})
            if not files:
                raise UserError(f"No page of the index has the address {url}.")
            if len(files) > 1:
                each = ", ".join(map(file_url, files[:5]))
                raise UserError(f"{len(files)} pages of the index name the address {url}. Read one as a file: {each}.")
            own = sorted(records, key=lambda r: int(r.content["position"]))
            links = links_of_page(snapshot, files[0], own[0].content["url"])
            return Page(url, own[0].content["title"], "\n".join(r.content["text"] for r in own), links=links)

    def digest(self) -> str:
        """sha256 over the settings and what is in every file: two indexes of the same have the same."""
        with self.store.intact():
            files = sorted((r.file, r.content.get("sha", "")) for r in self.store.snapshot().find("kind", "file"))
        settings = asdict(self.settings)
        # unset, they change nothing: an index without vectors has the digest that it had before there were prefixes
        settings = {k: v for k, v in settings.items() if v is not None or not k.endswith("_prefix")}
        if settings["word_parts"] == OFF or settings["titles"] == APART:
            del settings["word_parts"]
        if settings["titles"] == REPEATED:
            del settings["titles"]
        return hashlib.sha256(json.dumps([settings, files]).encode("utf-8", "surrogatepass")).hexdigest()

    def skipped(self) -> list[tuple[str, str]]:
        """(file, reason) of each file, folder and entry of a file that was met and is not in the index."""
        with self.store.intact():
            snapshot = self.store.snapshot()
            records = [r for kind in ("skipped", "skipped entry") for r in snapshot.find("kind", kind)]
        return sorted((r.file, str(r.content["reason"])) for r in records)

    def stats(self) -> dict[str, Any]:
        """Counts, sizes and settings."""
        with self.store.intact():
            snapshot = self.store.snapshot()
            kinds = {"files": "file", "passages": "passage", "pictures": "picture", "captions": "mention"}
            counts = {name: snapshot.count(kind) for name, kind in kinds.items()}
            counts["skipped"] = snapshot.count("skipped") + snapshot.count("skipped entry")
            own = self.store.figures()
        return {
            "folder": self.store.name,
            "source": str(self.root),
            **counts,
            **own,
            **self.selection.to_json(),
            **asdict(self.settings),
        }

    def _consistent(self, work: Callable[[BackendSnapshot], list[Any]]) -> list[Any]:
        for attempt in range(5):
            try:
                with self.store.intact():
                    return list(work(self.store.snapshot()))
            except FileNotFoundError:
                # a writer merged the segments of this commit away before their arrays were read
                self.store.refresh()
                if attempt == 4:
                    raise
        return []


def _named(snapshot: BackendSnapshot, words: str, depth: int) -> dict[int, float]:
    """The pictures that words name, with the best score of their names and captions."""
    scores: dict[int, float] = {}
    for record in snapshot.rank_captions(words, depth):
        named = [record] if record.kind == "picture" else snapshot.find("file", record.content["target"])
        for picture in (r for r in named if r.kind == "picture"):
            row = int(picture.content["row"])
            scores[row] = max(record.score, scores.get(row, 0.0))
    return scores


def _picture_hit(snapshot: BackendSnapshot, row: int, score: float, matched: bool | None = None) -> Hit | None:
    files = sorted({record.file for record in snapshot.find("ref", f"picture:{row}")})
    if not files:
        return None
    mentions: list[Record] = [m for file in files for m in snapshot.find("ref", f"mention:{file}", 50)]
    title, snippet, url, file = ingest.caption(mentions, files)
    (address,) = _addresses(snapshot, [(url, file)])
    return Hit(title, address, snippet, score, matched=matched, source=SOURCE)


def _decoded(thumbnail: Future[Image] | None) -> Image | None:
    try:
        return thumbnail.result() if thumbnail is not None else None
    except Failed:
        raise
    except UserError:
        return None


def _addresses(snapshot: BackendSnapshot, pages: Sequence[tuple[str, str]]) -> list[str]:
    """Where pages of the index (url, file) are cited and read: the address that a page names, but its own file's where
    another one names the same. Who is right cannot be told."""
    claimed = snapshot.claimed(pages)
    return [file_url(file) if (url, file) in claimed else url for url, file in pages]


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(path).resolve()


def _differences(old: IndexSettings, new: IndexSettings) -> str:
    before, after = asdict(old), asdict(new)
    return ", ".join(f"{name} {before[name]!r}, now {after[name]!r}" for name in before if before[name] != after[name])
