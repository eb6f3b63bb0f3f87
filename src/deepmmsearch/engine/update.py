"""Files into an index: what is new or changed is read, what vanished is removed, what is not read is recorded with its
reason.

Committed by time and by size, so that a build that is stopped or killed keeps what it has done and goes on from there.
A file that holds many documents is recorded with the place that it was read to.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from deepmmsearch import __version__
from deepmmsearch.engine.backend import BackendSnapshot, BackendWriter
from deepmmsearch.engine.build_report import Report
from deepmmsearch.engine.ingest import MAX_BYTES, Ingest
from deepmmsearch.engine.site_names import SiteNames
from deepmmsearch.engine.storage import KnownFile, page_number
from deepmmsearch.engine.walk import Found, extension, file_stamp, named
from deepmmsearch.errors import Unreadable, UserError
from deepmmsearch.progress import Watch, silent, tracked
from deepmmsearch.reading.collection import Collection, CollectionEntry
from deepmmsearch.reading.document import Document
from deepmmsearch.reading.file_kinds import PICTURES
from deepmmsearch.reading.worker import Extractor

_SAMPLES, _SAMPLE = 64, 65_536
_LAST_DAY = 253_402_214_400  # of the year 9999


class _Passing(Exception):
    """A reason that may not hold the next time."""


class Changes(NamedTuple):
    """What differs between a folder and the index: files to be read or recorded, each with what is known of it, and
    what is gone."""

    todo: list[tuple[Found, KnownFile | None]]
    gone: list[tuple[str, KnownFile]]


def changes(
    snapshot: BackendSnapshot,
    folder: Iterable[Found],
    report: Report,
    watch: Watch = silent,
    expect: Callable[[Found], None] = lambda found: None,
) -> Changes:
    """All that a folder holds against all that the index holds of it, and files that were added from elsewhere. What is
    as it was is told to the report, what is not to `expect`, at once."""
    known = snapshot.known_files()
    todo: list[tuple[Found, KnownFile | None]] = []
    for found in tracked(folder, "Looking through the folder", None, watch):
        was = known.pop(page_number(found.file), None)
        if not settled(snapshot, found, was, report):
            expect(found)
            todo.append((found, was))
    gone: list[tuple[str, KnownFile]] = []
    for was in known.values():
        file = snapshot.record(0, was.address).file
        now = _elsewhere(file) if PurePosixPath(file).is_absolute() else None
        if now is None:
            gone.append((file, was))
        elif now.file and was.kind == "file" and not settled(snapshot, now, was, report):
            todo.append((now, was))
    return Changes(todo, gone)


def _elsewhere(file: str) -> Found | None:
    """A file that was added from outside of the folder, as it is now; None where it is gone, and not its whole folder,
    which may be on a disk that is not there. No file where its name alone does not tell it: one that was not UTF-8, and
    a link, which whoever owns that folder may have put there since."""
    path = Path(file)
    if "\\x" in file or path.is_symlink():
        return Found("", file, 0)
    found = named(path, file)
    return None if not found.file and path.parent.is_dir() else found


def settled(snapshot: BackendSnapshot, found: Found, was: KnownFile | None, report: Report) -> bool:
    """Is the file as it was, and what the index holds of it what would be made of it again?"""
    if was is None or not found.stamp or was.stamp != found.stamp:
        return False
    if was.kind == "file":
        report.unchanged += 1
        return True
    reason = found.reason
    if not reason:
        content = snapshot.record(0, was.address).content
        if content["version"] != __version__:  # which may read what an earlier one could not
            return False
        reason = content["reason"]
    report.skip(found.file, reason)
    return True


@dataclass
class Update:
    """One round of changes to an index. UserError for what concerns all files; whatever is wrong with one skips that
    file. KeyboardInterrupt is raised when what was done until then is committed."""

    ingest: Ingest
    extractor: Extractor
    writer: BackendWriter
    report: Report
    watch: Watch = silent

    def __post_init__(self) -> None:
        self._sites = SiteNames(self.ingest.root)

    def expect(self, found: Found) -> None:
        """Starts the process that reads it, while others are still looked for."""
        if not found.reason and Path(found.path).suffix.lower() not in PICTURES:
            self.extractor.start()

    def apply(self, changes: Changes) -> None:
        for file, was in changes.gone:
            self.writer.remove(file)
            if was.kind == "file":
                self.report.remove(file)
        self._run(changes.todo)

    def add(self, files: Iterable[Found]) -> None:
        """Adds or replaces the files; what could not be read before is tried once more."""
        todo: list[tuple[Found, KnownFile | None]] = []
        for found in {found.file: found for found in files}.values():
            was = self.writer.snapshot.known_file(found.file)
            if (was is not None and was.kind == "skipped") or not settled(
                self.writer.snapshot, found, was, self.report
            ):
                self.expect(found)
                todo.append((found, was))
        self._run(todo)

    def _content_of(self, was: KnownFile | None) -> dict[str, Any]:
        return self.writer.snapshot.record(0, was.address).content if was is not None else {}

    def _run(self, todo: list[tuple[Found, KnownFile | None]]) -> None:
        todo.sort(key=lambda pair: pair[0].file)
        try:
            for found, was in tracked(todo, "Indexing", len(todo), self.watch):
                self._one(found, was)
                if self.writer.due:
                    self.writer.commit()
        except KeyboardInterrupt:
            self.writer.commit()
            raise
        self.writer.commit()

    def _one(self, found: Found, was: KnownFile | None) -> None:
        kind = extension(PurePosixPath(found.path).name, self.ingest.collections)
        collection = self.ingest.collections[kind] if kind else None
        reason, stamp = found.reason, found.stamp
        reached: dict[str, Any] = {}
        if not reason:
            try:
                if collection is not None:
                    self._collection(collection, found, was, reached)
                else:
                    self._file(found, was)
                return
            except Unreadable as error:
                reason = str(error)
            except _Passing as error:
                reason, stamp = str(error), 0
            except OSError as error:
                reason, stamp = _said(error), 0
            except UserError:
                raise
            except Exception as error:  # whatever a file can bring about: it costs that file, and no other
                reason = f"not readable ({type(error).__name__})"
        self.report.skip(found.file, reason)
        content = {"reason": reason, "version": __version__, **reached}
        if was is None or was.kind != "skipped" or was.stamp != stamp or self._content_of(was) != content:
            if not reached:
                self.writer.remove(found.file)
            self.writer.add_file(found.file, "skipped", content, stamp)

    def _file(self, found: Found, was: KnownFile | None) -> None:
        file = found.file
        content, stamp, modified = _content(found.path)
        sha = hashlib.sha256(content).hexdigest()
        known = was is not None and was.kind == "file"
        if known and self._content_of(was).get("sha") == sha:
            self.report.unchanged += 1  # touched, not changed
            self.writer.add_file(file, "file", {"sha": sha}, stamp)
            return
        charset = ""
        try:
            if Path(found.path).suffix.lower() in PICTURES:
                self.ingest.add_picture(self.writer, file, content, sha)
            else:
                document = _extracted(lambda: self.extractor.extract(file, content))
                document = self._sites.of_file(Path(found.path), document)
                self.ingest.add_page(self.writer, file, replace(document, date=document.date or modified))
                charset = document.charset
            self.writer.add_file(file, "file", {"sha": sha}, stamp)
        except KeyboardInterrupt:
            self.writer.remove(file)
            raise
        self.report.add(file, new=not known, charset=charset)

    def _collection(
        self,
        collection: Collection,
        found: Found,
        was: KnownFile | None,
        reached: dict[str, Any],
    ) -> None:
        """Goes on where the last build stopped, if the file has not changed since; tells `reached` how far it came."""
        file, path = found.file, Path(found.path)
        held = self._content_of(was)
        resumed = held.get("stamp") == found.stamp
        if not resumed:
            self.writer.remove(file)
        reached.update(stamp=found.stamp, cursor=held["cursor"] if resumed else "")
        try:
            entries = collection(path, reached["cursor"])
            for entry in tracked(entries, f"Reading {path.name}", None, self.watch):
                self._entry(file, entry)
                reached["cursor"] = entry.cursor
                if self.writer.due:
                    self.writer.add_file(file, "file", reached, 0)
                    self.writer.commit()
        except KeyboardInterrupt:
            self.writer.add_file(file, "file", reached, 0)
            raise
        self.writer.add_file(file, "file", {"sha": _fingerprint(path)}, found.stamp)
        self.report.add(file, new=was is None or "cursor" in held)

    def _entry(self, file: str, entry: CollectionEntry) -> None:
        name, reason, origin = f"{file}#{entry.name}", entry.problem, entry.origin
        if not reason:
            try:
                if origin is None:
                    sha = hashlib.sha256(entry.content).hexdigest()
                    self.ingest.add_picture(self.writer, name, entry.content, sha, file)
                else:
                    document = _extracted(lambda: self.extractor.read(origin, entry.content))
                    if origin.kind == "html":
                        document = self._sites.of_entry(file, entry.url, document)
                    self.ingest.add_page(self.writer, name, document, file, entry.url)
                return
            except (Unreadable, _Passing) as error:
                reason = str(error)
            except KeyboardInterrupt:
                self.writer.remove(name)
                raise
        self.report.skip(name, reason)
        self.writer.add("skipped entry", name, {"reason": reason}, within=file)


def _said(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "gone before it was read"
    return (error.strerror or "cannot be read").lower()


def _extracted(extract: Callable[[], Document]) -> Document:
    try:
        return extract()
    except UserError as error:  # a package that is missing costs the files that need it
        raise _Passing(str(error)) from error


def _content(path: str) -> tuple[bytes, int, str]:
    """What an ordinary file holds, its stamp when it held that, and the day (UTC) it was last changed on."""
    for _ in range(2):
        with open(path, "rb", opener=_at_once) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise Unreadable("not an ordinary file")
            if before.st_size > MAX_BYTES:
                raise Unreadable(f"larger than {MAX_BYTES // 1_000_000} MB")
            content = file.read(MAX_BYTES + 1)
            after = os.fstat(file.fileno())
        stamp = file_stamp(after.st_size, after.st_mtime_ns)
        if len(content) == after.st_size and stamp == file_stamp(before.st_size, before.st_mtime_ns):
            return content, stamp, time.strftime("%Y-%m-%d", time.gmtime(min(max(0, after.st_mtime), _LAST_DAY)))
    raise OSError(errno.EAGAIN, "changed while it was read")


def _at_once(path: str, flags: int) -> int:
    """Opens also what became a pipe since it was looked at, which would be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _fingerprint(path: Path) -> str:
    """Of a file that is too large to be read for it: its size and some of what it holds."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        found = hashlib.sha256(str(size).encode())
        for part in range(_SAMPLES):
            file.seek(size * part // _SAMPLES)
            found.update(file.read(_SAMPLE))
    return found.hexdigest()
