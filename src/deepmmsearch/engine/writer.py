"""Writing to a store: documents and rows of arrays, visible and durable together at each commit."""

from __future__ import annotations

import json
import math
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmmsearch.disk import refusal
from deepmmsearch.engine import segments as seg
from deepmmsearch.engine.page_tags import LANGUAGE
from deepmmsearch.engine.page_terms import NewPassage, PageAnalysis
from deepmmsearch.engine.segments import Segment
from deepmmsearch.engine.storage import FORMAT, Store, file_ref, page_number, tantivy_module
from deepmmsearch.engine.vectors import KIND, cells_of
from deepmmsearch.errors import Failed, UserError

HEAP = 48_000_000
MERGE_FACTOR = 8
"""So many segments of about one size become one; their rows are then that many times as many."""
SMALLEST_LAYER = 256
LARGE = 1_000
"""Passages with vectors of a segment: two such become one as soon as the smaller has half of what the larger has."""
MAX_DEAD = 0.3
NO_TEXT = "\x01 "
"""A term of no text."""
# what a build that is killed loses at most
COMMIT_SECONDS = 10.0
COMMIT_DOCUMENTS = 50_000
COMMIT_BYTES = 96_000_000
"""Of arrays, which are in memory until they are committed."""


class Writer:
    """Changes, made visible and durable together by commit(); close() without it drops them.

    The only one: UserError when another process (or this one) is writing already.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        if store.read_only:
            raise Failed(f"The index in {store.folder} cannot be written: its folder is read-only. Copy it first.")
        try:
            self._writer: Any = store.index.writer(HEAP, 1)
        except ValueError as error:
            if sentence := refusal(error):
                raise Failed(sentence) from error
            if re.search("lock", str(error), re.I):
                raise UserError(
                    f"Another process is writing to the index in {store.folder}. Retry when it has finished."
                ) from None
            raise UserError(f"The index in {store.folder} cannot be written: {error}") from error
        store.refresh()
        self._begin()
        self._analysis = PageAnalysis(
            store.stemmed, self.snapshot.tags(LANGUAGE), titles_apart=store.titles_apart, in_parts=store.in_parts
        )
        seg.remove_orphans(store.arrays, {s.name for s in self._segments})

    def _begin(self) -> None:
        self.snapshot = self.store.snapshot()
        self._segments = list(self.snapshot.segments)
        self._next_id = self.snapshot.next_id
        self._rows: dict[str, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
        self._dying: set[int] = set()
        self._pictures: dict[str, set[str]] = {}  # content hash -> the files that hold it
        self._picture_rows: dict[str, int] = {}
        self._new: dict[str, list[int]] = {}  # the rows of each file of which something was added
        self._bytes = 0
        self._since = time.monotonic()
        self._texts, self._terms, self._parts, self._pages = self.snapshot.texts
        self.pending = 0

    @property
    def due(self) -> bool:
        """Is there enough, or has there been something for long enough, to be committed?"""
        late = time.monotonic() - self._since >= COMMIT_SECONDS
        full = self.pending >= COMMIT_DOCUMENTS or self._bytes >= COMMIT_BYTES
        return bool(self.pending) and (late or full)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(at_once=any(error))

    def add(
        self,
        kind: str,
        file: str,
        content: Mapping[str, Any],
        *,
        url: str = "",
        ref: str = "",
        stamp: int | None = None,
        within: str = "",
        caption: str = "",
    ) -> None:
        """One document; `url` and `ref` are found by exact value, `stamp` is a file's. `within`: the file that holds
        this one, with which it goes. `caption`: what names a picture."""
        # BM25 takes the mean length of all documents: whatever is no text must not change it, where titles are in it
        mean = self._terms // self._texts if self._texts and not self.store.titles_apart else 0
        none, no_parts = NO_TEXT * mean, NO_TEXT * (self._parts // self._texts if self._texts else 0)
        texts = {"url": url, "ref": ref, "words": none, "whole": none, "parts": no_parts}
        texts["caption"] = self.store.caption_terms(caption)
        document = _document(kind, (file, within), content, texts)
        if stamp is not None:
            document.add_unsigned("page", page_number(file))
            document.add_unsigned("stamp", stamp)
        self._add(document, file)

    def add_page(
        self,
        file: str,
        url: str,
        title: str,
        passages: Sequence[NewPassage],
        language: str | None = None,
        date: str | None = None,
        within: str = "",
        names: str = "",
    ) -> None:
        """A page as text search sees it; `language` and `date` as it names them. `names`: words by which it is found as
        well, once, where it does not say them itself."""
        page = page_number(file)
        analysed = self._analysis.passages(within or file, url, title, passages, language, date, names)
        self._pages += bool(passages)
        for position, own in enumerate(analysed):
            fields = {"url": url, "words": own.words, "small": own.small, "whole": own.whole, "spelled": own.spelled}
            fields |= {"name": own.name, "parts": own.parts}
            self._texts += 1
            self._terms += own.words.count(" ") + 1
            self._parts += own.parts.count(" ") + bool(own.parts)
            place, row = own.passage.place, own.passage.row
            document = _document("passage", (file, within), {"place": place} if place else {}, fields)
            for tag in own.tags:
                document.add_text("tag", tag)
            document.add_bytes("title", own.title.encode())
            document.add_bytes("body", own.text.encode())
            document.add_unsigned("page", page)
            document.add_unsigned("position", position)
            if own.date:
                document.add_unsigned("date", own.date)
            if row is not None:
                document.add_unsigned("row", row)
            self._add(document, file, row)

    def _add(self, document: Any, file: str, row: int | None = None) -> None:
        if file:
            self._new.setdefault(file, []).extend([] if row is None else [row])
        self._writer.add_document(document)
        self.pending += 1

    def add_file(self, file: str, kind: str, content: Mapping[str, Any], stamp: int) -> None:
        """The record of a file, in place of the one before: `kind` as in storage.FILE_KINDS."""
        self._writer.delete_documents_by_term("ref", file_ref(file))
        self.add(kind, file, content, ref=file_ref(file), stamp=stamp)

    def add_row(self, kind: str, row: Mapping[str, Any]) -> int:
        """One row of arrays; returns the id by which a document names it. Values that are arrays of varying length
        are given as `name` with a leading axis, all others as arrays of one shape."""
        identity = self._next_id
        self._next_id += 1
        self._rows[kind].append((identity, row))
        self._bytes += sum(np.asarray(value[0] if isinstance(value, list) else value).nbytes for value in row.values())
        return identity

    def add_picture(
        self, file: str, sha: str, row: Mapping[str, Any] | None, within: str = "", caption: str = ""
    ) -> None:
        """A picture file; its row is stored once per content, however many files hold it (None: known already).
        `caption`: the name by which it is found."""
        holders = self._holders(sha)
        if not holders and sha in self._picture_rows:
            self._dying.discard(self._picture_rows[sha])
        elif not holders:
            assert row is not None, "a picture that is not in the index needs its row"
            self._picture_rows[sha] = self.add_row("pictures", row)
        holders.add(file)
        identity = self._picture_rows[sha]
        content = {"sha": sha, "row": identity}
        ref, url = f"picture:{identity}", f"sha:{sha}"
        self.add("picture", file, content, ref=ref, url=url, within=within, caption=caption)

    def knows_picture(self, sha: str) -> bool:
        return bool(self._holders(sha)) or sha in self._picture_rows

    def _holders(self, sha: str) -> set[str]:
        if sha not in self._pictures:
            records = list(self.snapshot.find("url", f"sha:{sha}"))
            self._pictures[sha] = {r.file for r in records}
            if records:
                self._picture_rows[sha] = int(records[0].content["row"])
        return self._pictures[sha]

    def remove(self, file: str) -> bool:
        """Everything that came from the file, committed or not. False when there was nothing committed."""
        found = False
        for record in self.snapshot.find("file", file):
            found = True
            if record.kind == "picture":
                self._let_go(record.file, record.content["sha"])
            elif "row" in record.content:
                self._dying.add(int(record.content["row"]))
        added = file in self._new
        if added:
            self._dying.update(self._new.pop(file))
            for sha in [sha for sha, holders in self._pictures.items() if file in holders]:
                self._let_go(file, sha)
        if found or added:
            self._writer.delete_documents_by_term("file", file)
            self.pending += 1
        return found

    def _let_go(self, file: str, sha: str) -> None:
        holders = self._holders(sha)
        holders.discard(file)
        if not holders:
            self._dying.add(self._picture_rows[sha])

    def commit(self) -> None:
        """Everything since the last commit, at once; merges segments when there are many or much of them is dead."""
        if not self.pending:
            return
        for kind, rows in self._rows.items():
            self._segments.append(self._written(kind, seg.stacked(rows)))
        if self._dying:
            self._segments = [self._bury(s) for s in self._segments]
        self._merge()
        manifest = {
            "segments": [s.to_json() for s in self._segments],
            "next_id": self._next_id,
            "texts": [self._texts, self._terms, self._parts, self._pages],
        }
        if self.store.meta["format"] != FORMAT:  # before it is so: an older program must not read the new manifest
            self.store.keep({"format": FORMAT})
        self._writer.delete_documents_by_term("kind", "manifest")
        self.add("manifest", "", manifest)
        self._writer.commit()
        seg.remove_orphans(self.store.arrays, {s.name for s in self._segments})
        self.store.refresh()
        self._begin()

    def close(self, at_once: bool = False) -> None:
        """Ends writing; what was not committed is gone. Segments that are being merged are waited for, unless it is to
        end `at_once`: if nobody ever did, each file that is added alone would leave one."""
        if self._writer is not None:
            if at_once or self.pending:
                self._writer.rollback()
            self._writer.wait_merging_threads()
            self._writer = None
            self.store.keep_written()
            seg.remove_orphans(self.store.arrays, {s.name for s in self._segments})

    def _written(self, kind: str, arrays: seg.Arrays) -> Segment:
        return seg.write_segment(self.store.arrays, kind, arrays, cells_of(kind, arrays))

    def _bury(self, segment: Segment) -> Segment:
        ids = np.asarray(seg.read_segment(self.store.arrays, segment)[seg.IDS])
        return segment.without(ids, self._dying)

    def _merge(self) -> None:
        """Segments of one size become one of the next, so that each row is rewritten a logarithmic number of times."""
        while chosen := self._mergeable():
            merged = seg.concatenate([(seg.read_segment(self.store.arrays, s), s.dead) for s in chosen])
            self._segments = [s for s in self._segments if all(s is not c for c in chosen)]
            if len(merged[seg.IDS]):
                self._segments.append(self._written(chosen[0].kind, merged))

    def _mergeable(self) -> list[Segment]:
        layers: dict[tuple[str, int], list[Segment]] = defaultdict(list)
        for segment in self._segments:
            if segment.dead.sum() > MAX_DEAD * segment.rows:
                return [segment]
            size = max(1.0, segment.rows / SMALLEST_LAYER)
            layers[segment.kind, int(math.log(size, MERGE_FACTOR))].append(segment)
        # a search costs as much in each large segment as in one, and embedding more than any merge
        large = sorted((s for s in self._segments if s.kind == KIND and s.rows >= LARGE), key=lambda s: s.rows)
        if len(large) > 1 and 2 * sum(segment.rows for segment in large[:-1]) >= large[-1].rows:
            return large
        return next((own for own in layers.values() if len(own) >= MERGE_FACTOR), [])


def _document(kind: str, files: tuple[str, str], content: Mapping[str, Any], texts: Mapping[str, str]) -> Any:
    document = tantivy_module().Document()
    document.add_text("kind", kind)
    for name, value in (*(("file", file) for file in files), *texts.items()):
        if value:
            document.add_text(name, value)
    if content:
        document.add_bytes("content", json.dumps(content).encode())
    return document
