"""Writing to the tables of an engine, which has no change of several tables that is made at once.

A commit first notes which files it is about to change, then takes out what is there of them, then adds what is new, the
records of files last, and then takes the note away. A writer that finds a note, because another was killed, takes all
of those files out: they have no record then, so that the next build reads them again. Nothing is half there for good.

Only the process that has the lease may write; see `_Lease`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from deepmmsearch.engine.descriptors import CODE, CODE_GREY
from deepmmsearch.engine.engine_tables import Has, Is, Row, TableRows, batches
from deepmmsearch.engine.page_tags import LANGUAGE
from deepmmsearch.engine.page_terms import NewPassage, PageAnalysis
from deepmmsearch.engine.storage import FILE_KINDS, page_number
from deepmmsearch.engine.table_pictures import GRIDS, PICTURES, picture_rows
from deepmmsearch.engine.table_store import (
    COMMIT,
    OWNED,
    PAGES,
    PARTS,
    PASSAGES,
    RECORDED,
    RECORDS,
    SMALL,
    STATE,
    STATISTICS,
    WRITER,
    TableStore,
    number_of,
    packed_statistics,
    signed,
)
from deepmmsearch.errors import UserError

# what a build that is killed loses at most
COMMIT_SECONDS = 10.0
COMMIT_DOCUMENTS = 20_000
COMMIT_BYTES = 48_000_000
COMPACTED = 20
"""Commits after which many small files are brought together."""
MOST_STATISTICS = 8
UNFINISHED = "unfinished"
_FILES = 100


class Lease:
    """The right to write, for LASTS seconds from when it was taken or renewed. Who is killed loses it when they are
    over, or at once for a process of the same machine; who is slower than that finds another owner at its next commit,
    and writes nothing."""

    LASTS = 120.0

    def __init__(self, state: TableRows, address: str) -> None:
        self._state, self._address = state, address
        self._own = ""
        self._until = 0.0
        held = self._held()
        if held:
            told = json.loads(held)
            left = float(told["until"]) - time.time()
            here = told["host"] == socket.gethostname()
            if left > 0 and not (here and not _lives(int(told["process"]))):
                raise UserError(
                    f"Another process ({told['process']} on {told['host']}) is writing to the index at {address}. "
                    f"Retry when it has finished; if it was killed, in {left:.0f} s."
                )
        self._take(held)

    def _held(self) -> str:
        return str(self._state.find([Is("id", [WRITER])], ["content"])[0]["content"])

    def _take(self, held: str) -> None:
        until = time.time() + self.LASTS
        own = {"host": socket.gethostname(), "process": os.getpid(), "until": until, "mark": secrets.token_hex(8)}
        new = json.dumps(own)
        if not self._state.claim(WRITER, "content", held, new):
            raise UserError(
                f"Another process has begun to write to the index at {self._address}. Nothing of the last files was "
                "written; run the command again when it has finished."
            )
        self._own, self._until = new, until

    def renew(self) -> None:
        """UserError where another process has it."""
        self._take(self._own)

    def keep(self) -> None:
        """As `renew`, if half of it is over."""
        if self._until - time.time() < self.LASTS / 2:
            self.renew()

    def give_back(self) -> None:
        self._state.claim(WRITER, "content", self._own, "")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class TableWriter:
    """As writer.Writer; a reader may see a part of a commit while it is made."""

    def __init__(self, store: TableStore) -> None:
        self.store = store
        with store.intact():
            store.refresh()
            self._state = store.opened(STATE.name)
            self._lease = Lease(self._state, store.name)
            self._commits = 0
            try:
                self._recover()
                self._begin()
                self._analysis = PageAnalysis(store.stemmed, store.snapshot().tags(LANGUAGE))
            except BaseException:
                self._lease.give_back()
                raise

    def _begin(self) -> None:
        self.snapshot = self.store.snapshot()
        self._new: dict[str, list[Row]] = defaultdict(list)  # by table
        self._vectors: dict[int, Any] = {}  # of passages that are still to come
        self._removed: set[str] = set()
        self._files: dict[str, Row] = {}  # the records of files, by their ids
        self._pictures: dict[str, Mapping[str, Any]] = {}  # new ones, by content
        self._known: dict[str, bool] = {}
        self._spelled: list[str] = []
        self._bytes = 0
        self._since = time.monotonic()
        self.pending = 0

    @property
    def due(self) -> bool:
        self._lease.keep()
        late = time.monotonic() - self._since >= COMMIT_SECONDS
        full = self.pending >= COMMIT_DOCUMENTS or self._bytes >= COMMIT_BYTES
        return bool(self.pending) and (late or full)

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drops what is not committed."""
        try:
            if self._commits:
                self._compact()
        finally:
            # who has lost it has nothing to give back
            with suppress(UserError), self.store.intact():
                self._lease.give_back()

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
        row = self._record(kind, (file, within), content, url, ref, stamp, self.store.caption_terms(caption))
        self._put(RECORDS.name, row)

    def _record(
        self,
        kind: str,
        files: tuple[str, str],
        content: Mapping[str, Any],
        url: str = "",
        ref: str = "",
        stamp: int | None = None,
        caption: str = "",
    ) -> Row:
        told = json.dumps(content)
        # of a file there is one
        names = (files[0],) if kind in FILE_KINDS else (kind, *files, ref, url, told)
        return {
            "id": f"{number_of(*names):x}",
            "kind": kind,
            "file": files[0],
            "url": url,
            "ref": ref,
            "owners": list(filter(None, files)),
            "stamp": str(stamp or 0),
            "content": told,
            "caption": caption,
        }

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
        owners, page = list(filter(None, (file, within))), signed(page_number(file))
        analysed = self._analysis.passages(within or file, url, title, passages, language, date, names)
        for position, own in enumerate(analysed):
            number = number_of(file, str(position)) if own.passage.row is None else own.passage.row
            held = list(dict.fromkeys([*own.words.split(), *(SMALL + term for term in own.small.split())]))
            row = {
                "id": f"{number_of(file, str(position)):x}",
                "row": number,
                "page": page,
                "file": file,
                "url": url,
                "position": position,
                "date": own.date,
                "length": own.words.count(" ") + 1,
                "owners": owners,
                "tags": list(own.tags),
                "held": held,
                "place": own.passage.place,
                "title": own.title,
                "body": own.text,
                "words": own.words,
                "small": own.small,
            }
            self._put(PASSAGES.name, row, len(own.text) + 2 * len(own.words))
            if position == 0:
                self._put(PAGES.name, {"id": row["id"], "owners": owners, "page": page, "whole": own.whole})
                self._spelled += own.spelled.split()
            for part, vector in enumerate(self._vectors.pop(number, ())):
                identity = f"{row['id']}-{part}"
                columns = {"id": identity, "owners": owners, "passage": number, "page": page, "vector": vector}
                self._put(PARTS, columns, vector.nbytes)

    def add_file(self, file: str, kind: str, content: Mapping[str, Any], stamp: int) -> None:
        row = self._record(kind, (file, ""), content, ref=f"file:{file}", stamp=stamp)
        self._files[row["id"]] = row
        self.pending += 1

    def add_row(self, kind: str, row: Mapping[str, Any]) -> int:
        """The vectors of a passage that is added next. Gives the number by which it names them."""
        number = secrets.randbits(62)
        (self._vectors[number],) = row["vector"]
        return number

    def add_picture(
        self, file: str, sha: str, row: Mapping[str, Any] | None, within: str = "", caption: str = ""
    ) -> None:
        if row is not None and not self.knows_picture(sha):
            self._pictures[sha] = row
            self._known[sha] = True
            self._bytes += sum(np.asarray(v[0] if isinstance(v, list) else v).nbytes for v in row.values())
        identity = number_of(sha)
        content = {"sha": sha, "row": identity}
        self.add("picture", file, content, ref=f"picture:{identity}", url=f"sha:{sha}", within=within, caption=caption)

    def knows_picture(self, sha: str) -> bool:
        if sha not in self._known:
            found = self.store.has(PICTURES) and self.store.opened(PICTURES).count([Is("id", [sha])])
            self._known[sha] = bool(found)
        return self._known[sha]

    def _put(self, table: str, row: Row, size: int = 500) -> None:
        self._new[table].append(row)
        self._bytes += size
        self.pending += 1

    def remove(self, file: str) -> bool:
        """As writer.Writer.remove."""
        found = bool(self.store.opened(RECORDS.name).find([Has("owners", [file])], ["id"], 1)) or bool(
            self.store.opened(PASSAGES.name).find([Has("owners", [file])], ["id"], 1)
        )
        for table, rows in self._new.items():
            self._new[table] = [row for row in rows if file not in row["owners"]]
        self._files = {identity: row for identity, row in self._files.items() if file not in row["owners"]}
        if found:
            self._removed.add(file)
            self.pending += 1
        return found

    def commit(self) -> None:
        """Everything since the last commit."""
        if not self.pending:
            return
        with self.store.intact():
            self._lease.renew()
            told = self._statistics()
            statistics = packed_statistics(told)
            self.store.statistics.take(statistics, told)
            self._note([row["id"] for row in statistics])
            shas = self._take_out(self._removed)
            self._add_pictures()
            for name, rows in self._new.items():
                unique = list({row["id"]: row for row in rows}.values())
                if unique:
                    lengths = {"vector": len(unique[0]["vector"])} if name == PARTS else {}
                    self.store.made(name, lengths).add(unique)
            self.store.opened(STATISTICS.name).add(statistics)
            self.store.opened(RECORDS.name).replace(list(self._files.values()))
            self._let_go(shas)
            self._state.delete([Is("id", self._notes)])
            self._mark()
            self._commits += 1
            if self._commits % COMPACTED == 0:
                self._compact()
            self._begin()

    def _statistics(self) -> dict[str, Any]:
        """What the commit adds to those of all passages, less what it takes out."""
        counts, df = Counter[str](), defaultdict[str, Counter[str]](Counter)
        removed = self._passages_of(self._removed)
        for sign, rows in ((1, self._new[PASSAGES.name]), (-1, removed)):
            pages: dict[int, set[str]] = defaultdict(set)
            for row in rows:
                words = [term for term in row["held"] if not term.startswith(SMALL)]
                small = [term.removeprefix(SMALL) for term in row["held"] if term.startswith(SMALL)]
                counts.update({"words": sign, "words terms": sign * row["length"], "whole terms": sign * row["length"]})
                counts.update({"small": sign, "small terms": sign * len(small)})
                for name, terms in (("words", words), ("small", small), ("tags", row["tags"])):
                    df[name].update(dict.fromkeys(terms, sign))
                pages[row["page"]].update(words)
            counts.update({"whole": sign * len(pages)})
            for terms in pages.values():
                df["whole"].update(dict.fromkeys(terms, sign))
        # what is no text of pages: counted, but not less where it goes
        captions = [row["caption"].split() for row in self._new[RECORDS.name] if row["caption"]]
        features = [[f"{word:x}" for word in row["words"][0].tolist()] for row in self._pictures.values()]
        for name, texts in (("caption", captions), ("features", features)):
            counts.update({name: len(texts), f"{name} terms": sum(map(len, texts))})
            for named in texts:
                df[name].update(set(named))
        return {"counts": counts, "df": df, "spelled": self._spelled}

    def _passages_of(self, files: set[str]) -> list[Row]:
        columns = ["page", "length", "held", "tags"]
        rows = self.store.opened(PASSAGES.name)
        return [row for some in batches(sorted(files), _FILES) for row in rows.find([Has("owners", some)], columns)]

    def _note(self, statistics: list[str]) -> None:
        """What `_recover` needs: the files that change, the pictures, and the records that were there before."""
        files = {row["owners"][0] for rows in self._new.values() for row in rows} | self._removed
        own = [row for row in self._files.values() if row["file"] not in files]
        before: dict[str, Row | None] = {row["id"]: None for row in own}
        for some in batches(sorted(before), _FILES):
            for row in self.store.opened(RECORDS.name).find([Is("id", some)], RECORDED):
                before[row["id"]] = row
        note = {"statistics": statistics, "pictures": list(self._pictures), "records": before}
        notes = [note, *({"files": list(some)} for some in batches(sorted(files), _FILES))]
        rows = [{"id": f"{UNFINISHED}-{i}", "content": json.dumps(each)} for i, each in enumerate(notes)]
        self._notes = [row["id"] for row in rows]
        # the first one last: without it nothing was begun
        self._state.replace(rows[::-1])

    def _recover(self) -> None:
        """Takes out what a writer that was killed had begun."""
        rows = self._state.find([], ["id", "content"])
        notes = {row["id"]: json.loads(row["content"]) for row in rows if row["id"].startswith(f"{UNFINISHED}-")}
        if not notes:
            return
        note = notes.get(f"{UNFINISHED}-0", {"pictures": [], "records": {}})
        files = {file for each in notes.values() for file in each.get("files", ())}
        if "statistics" in note:
            shas = self._take_out(files)
            records = self.store.opened(RECORDS.name)
            if note["records"]:
                records.delete([Is("id", list(note["records"]))])
            records.replace([{**row, "caption": ""} for row in note["records"].values() if row is not None])
            self._let_go(shas | set(note["pictures"]))
            self.store.opened(STATISTICS.name).delete([Is("id", note["statistics"])])
        self._state.delete([Is("id", list(notes))])
        self._mark()
        self.store.refresh()

    def _take_out(self, files: set[str]) -> set[str]:
        """Everything of the files; gives the pictures that they held."""
        shas: set[str] = set()
        for some in batches(sorted(files), _FILES):
            held = [Has("owners", some)]
            found = self.store.opened(RECORDS.name).find([*held, Is("kind", ["picture"])], ["url"])
            shas |= {row["url"].removeprefix("sha:") for row in found}
            for name in OWNED:
                if self.store.has(name):
                    self.store.opened(name).delete(held)
        return shas

    def _let_go(self, shas: set[str]) -> None:
        """Pictures that no file holds any more."""
        for some in batches(sorted(shas), _FILES):
            urls = [f"sha:{sha}" for sha in some]
            held = {row["url"] for row in self.store.opened(RECORDS.name).find([Is("url", urls)], ["url"])}
            gone = [sha for sha in some if f"sha:{sha}" not in held]
            for name in (PICTURES, GRIDS):
                if gone and self.store.has(name):
                    self.store.opened(name).delete([Is("id", gone)])

    def _add_pictures(self) -> None:
        """Those that no other commit has brought meanwhile."""
        for some in batches(list(self._pictures.items()), 200):
            pictures, grids = zip(*(picture_rows(sha, number_of(sha), row) for sha, row in some), strict=True)
            encoded = {"embedding": len(pictures[0]["embedding"])} if "embedding" in pictures[0] else {}
            self.store.made(PICTURES, {"colour": CODE, "grey": CODE_GREY, **encoded}).add(pictures)
            self.store.made(GRIDS, {}).add(grids)

    def _compact(self) -> None:
        with self.store.intact():
            self._merge_statistics()
            compacted = False
            for name in (STATE.name, STATISTICS.name, *OWNED, PICTURES, GRIDS):
                if self.store.has(name):
                    compacted |= self.store.opened(name).compact()
                self._lease.keep()
            if compacted:  # so that readers take it in
                self._mark()

    def _merge_statistics(self) -> None:
        rows = self.store.opened(STATISTICS.name)
        names = [row["id"] for row in rows.find((), ["id"])]
        if len({name.partition("-")[0] for name in names}) <= MOST_STATISTICS:
            return
        self.store.statistics.read(rows)
        merged = packed_statistics(self.store.statistics.told())
        # killed before the second note, the new ones go; after it, the old ones
        self._note_statistics([row["id"] for row in merged])
        rows.add(merged)
        self._note_statistics(names)
        rows.delete([Is("id", names)])
        self._state.delete([Is("id", [f"{UNFINISHED}-0"])])
        self._mark()

    def _mark(self) -> None:
        """Makes readers take in what was changed."""
        self._state.replace([{"id": COMMIT, "content": secrets.token_hex(8)}])

    def _note_statistics(self, names: list[str]) -> None:
        note = {"statistics": names, "pictures": [], "records": {}}
        self._state.replace([{"id": f"{UNFINISHED}-0", "content": json.dumps(note)}])
