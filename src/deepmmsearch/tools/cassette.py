"""What tools answered, in one SQLite file that many processes share.

Reads of one row run where they are asked for: they take microseconds and no lock that a writer holds. Writes go to one
thread, which puts all that wait into one transaction. Killed at any moment, the file holds the last transaction whole
(WAL; without an fsync each, so a power cut, not a kill, may take the last seconds with it).
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.codec import PLAIN, no_picture
from deepmmsearch.disk import refusal
from deepmmsearch.errors import UserError
from deepmmsearch.files import for_owner, make_folder
from deepmmsearch.notation import parse_json
from deepmmsearch.tools.cassette_form import (
    APPLICATION,
    READABLE,
    SCHEMA,
    VERSION,
    refuse_neighbours,
    refuse_schema,
    refuse_values,
)
from deepmmsearch.types import Call

if sys.platform != "win32":
    import fcntl

_FAILED_BEFORE = "EXISTS (SELECT 1 FROM failures f WHERE f.key = entries.key AND f.asker = ?)"
_FIND = f"SELECT provider, owner, created, {_FAILED_BEFORE}, result, images, calls FROM entries WHERE key = ?"
_HEAD = f"SELECT provider, owner, created, {_FAILED_BEFORE} FROM entries WHERE key = ?"
_FAILURE = "SELECT kind, message, calls, created FROM failures WHERE key = ?"

# Milliseconds a reader waits by itself: it may run where other episodes wait for it.
READ_PATIENCE = 20
# The most writes in one transaction.
BATCH = 256

# by SQLite's number, what the disk refuses
_REFUSED = {
    sqlite3.SQLITE_FULL: "There is no room left on the disk for {path}. Make room, and run it again.",
    sqlite3.SQLITE_IOERR: "The disk failed with {path}, or is full. Check it, and run it again.",
    sqlite3.SQLITE_READONLY: "{path} cannot be written. Check its permissions, or give another file.",
    sqlite3.SQLITE_CANTOPEN: "{path} cannot be opened, or nothing be written beside it. Check the permissions of its "
    "folder, or give another file.",
}

Statement = tuple[str, Sequence[Any]]


class CassetteEntry(NamedTuple):
    """An answer. `owner`: who made the calls, None once the owner was answered from the cassette itself.
    `failed_before`: the one who asks now holds a failure too. `result`, `calls`: JSON; `images`: hashes of the pictures
    in it, joined by blanks."""

    provider: str
    owner: str | None
    created: float
    failed_before: bool = False
    result: str = ""
    images: str = ""
    calls: str = ""


@dataclass(frozen=True)
class Failure:
    """What one asker got instead of an answer. `kind`: error or budget; `calls`: JSON."""

    kind: str
    message: str
    calls: str
    created: float


SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What reading a database raises; its messages may quote what is not text."""


class Cassette:
    """One file of recorded calls. `wait`: seconds until a file that another program holds is given up.

    Raises UserError for a file that is none, of another version, locked or, `read_only`, missing.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False, wait: float = 30.0) -> None:
        self.path, self.read_only, self.wait = Path(path), read_only, wait
        self._real = self.path.resolve()
        self._wal = Path(f"{self._real}-wal")
        self._mutex = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        # of a file that was opened as one that nobody writes
        self._unwritten: tuple[int, int, bool] | None = None
        self._reader = self._opened_to_read(first=True)
        self._writer: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cassette")
        self._waiting: deque[tuple[Sequence[Statement], Future[None]]] = deque()
        self._queue, self._writing = threading.Lock(), False
        self._held: set[int] = set()
        self._lock_file: int | None = None

    def close(self) -> None:
        """Returns once everything is written."""
        self._thread.shutdown()
        with self._mutex:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    def __enter__(self) -> Cassette:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Reading

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Raises Busy after READ_PATIENCE, UserError when the file cannot be read."""
        if os.getpid() != self._process:
            # SQLite's connections do not survive a fork
            self._start()
        with self._mutex:
            if self._unwritten is not None and self._unwritten != self._stamp():
                self._unwritten = None
                self._reader.close()
                self._reader = self._opened_to_read()
            try:
                return self._reader.execute(query, values).fetchall()
            except sqlite3.OperationalError as error:
                if _is_busy(error):
                    raise Busy(str(self._explain(error))) from None
                raise self._explain(error) from None
            except SQLITE_ERRORS as error:
                raise self._explain(error) from None

    def find(self, key: bytes, asker: str) -> CassetteEntry | None:
        rows = self.rows(_FIND, (asker, key))
        return CassetteEntry._make(rows[0]) if rows else None

    def head(self, key: bytes, asker: str) -> CassetteEntry | None:
        """The entry without what was answered, for whoever knows it still."""
        rows = self.rows(_HEAD, (asker, key))
        return CassetteEntry(*rows[0]) if rows else None

    def failure(self, key: bytes, asker: str) -> Failure | None:
        rows = self.rows(f"{_FAILURE} AND asker = ?", (key, asker))
        return Failure(*rows[0]) if rows else None

    def latest_failure(self, key: bytes) -> Failure | None:
        """Whoever got it; an empty budget is its owner's alone."""
        rows = self.rows(f"{_FAILURE} AND kind = 'error' ORDER BY created DESC LIMIT 1", (key,))
        return Failure(*rows[0]) if rows else None

    def image(self, sha: str) -> Image:
        """Raises UserError when it is not there."""
        rows = self.rows("SELECT png FROM images WHERE sha = ?", (sha,))
        if not rows:
            raise UserError(f"{self.path} lacks the picture {sha}. Record it again, or import a complete file.")
        # a text would be taken for a path
        return images.load(bytes(rows[0][0]), name=f"the picture {sha[:12]} in {self.path}")

    # Writing

    def write(self, statements: Sequence[Statement]) -> Future[None]:
        """Done when it is in the file, all of it; together with others that wait. The future raises UserError."""
        if os.getpid() != self._process:
            self._start()
        done: Future[None] = Future()
        # who stops waiting must not take the write back: it may be under way
        done.set_running_or_notify_cancel()
        with self._queue:
            self._waiting.append((statements, done))
            if not self._writing:
                self._writing = True
                self._thread.submit(self._write_waiting)
        return done

    def _write_waiting(self) -> None:
        while True:
            with self._queue:
                jobs = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
                self._writing = bool(jobs)
            if not jobs:
                return
            try:
                self.transact([statement for statements, _ in jobs for statement in statements])
            # whatever went wrong belongs to those who wait for it
            except Exception as error:
                for _, done in jobs:
                    done.set_exception(error)
                continue
            for _, done in jobs:
                done.set_result(None)

    def transact(self, statements: Iterable[Statement]) -> None:
        """All or nothing, at once and in this thread. Raises UserError."""
        if self.read_only:
            raise UserError(f"{self.path} was opened for reading alone. Use mode cache to record.")
        if self._writer is None:
            self._writer = self._open()
        try:
            with self._turn_to_write():
                self._writer.execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    self._writer.execute(statement, values)
                self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            raise self._explain(error) from None
        except BaseException:
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            raise

    def maintain(self, statement: str) -> None:
        """VACUUM and the like, which run outside transactions."""
        if self._writer is None:
            self._writer = self._open()
        try:
            self._writer.execute(statement)
        except SQLITE_ERRORS as error:
            raise self._explain(error) from None

    # Locks between processes. The system lets go of them when a process dies, however it dies. They are bytes of one
    # file and not `files.locked`: every call in flight has its key, and a file each would be thousands.

    def try_lock(self, key: bytes) -> bool:
        """Takes the key for this process, unless another one has it. One task of a process may ask for it at a time."""
        if sys.platform == "win32":
            return True
        start = _place(key)
        with self._mutex:
            if start in self._held:
                return False
            if taken := _try(self._locks(), start):
                self._held.add(start)
            return taken

    def unlock(self, key: bytes) -> None:
        start = _place(key)
        with self._mutex:
            self._held.discard(start)
            if sys.platform != "win32" and self._lock_file is not None:
                fcntl.lockf(self._lock_file, fcntl.LOCK_UN, 1, start)

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        """Writers of all processes take turns here, at a finer pace than SQLite's own, which sleeps up to 0.1 s. Only a
        courtesy: whoever waits too long (another process is suspended) tries SQLite's lock all the same."""
        if sys.platform == "win32":
            yield
            return
        with self._mutex:
            file = self._locks()
        deadline = time.monotonic() + 1.0
        while not (held := _try(file, 0)) and time.monotonic() < deadline:
            time.sleep(0.0005)
        try:
            yield
        finally:
            if held:
                fcntl.lockf(file, fcntl.LOCK_UN, 1, 0)

    def _locks(self) -> int:
        # A file beside the cassette, because SQLite locks bytes of its own files in the same way.
        if self._lock_file is None:
            self._lock_file = os.open(f"{self.path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._lock_file

    # Opening

    def _open(self, *, first: bool = False) -> sqlite3.Connection:
        if self.path.is_dir():
            raise UserError(f"{self.path} is a folder, not a cassette. Give a file such as runs/cache.sqlite.")
        if self.read_only and not self.path.is_file():
            raise UserError(f"There is no cassette {self.path}. Record one first, with mode cache.")
        try:
            if not self.read_only:
                make_folder(self.path.parent, private=True)
            refuse_neighbours(self.path)
            refuse_neighbours(self.path.resolve())
            connection = self._connect()
            try:
                self._prepare(connection)
                if first:
                    refuse_values(connection, self.path)
            except BaseException:
                connection.close()
                raise
            return connection
        except (*SQLITE_ERRORS, OSError) as error:
            raise self._explain(error) from None

    def _opened_to_read(self, *, first: bool = False) -> sqlite3.Connection:
        connection = self._open(first=first)
        connection.execute(f"PRAGMA busy_timeout = {READ_PATIENCE}")
        return connection

    def _connect(self) -> sqlite3.Connection:
        if not self.read_only:
            if not self.path.exists():
                # SQLite gives the files beside it the same permissions
                open(self.path, "ab", opener=for_owner).close()
            return self._connected("mode=rwc")
        # SQLite makes a log beside the file even to read, unless it is told that nobody writes. Whoever does has one
        if self._wal.exists():
            connection = self._connected("mode=ro")
            try:
                connection.execute("SELECT 1 FROM sqlite_master").fetchone()
                return connection
            except sqlite3.OperationalError as error:
                connection.close()
                # what a killed process left, where nothing can be written: the log is not read
                if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                    raise
        else:
            self._unwritten = self._stamp()
        return self._connected("immutable=1")

    def _connected(self, how: str) -> sqlite3.Connection:
        address = f"{self._real.as_uri()}?{how}"
        return sqlite3.connect(address, uri=True, timeout=self.wait, isolation_level=None, check_same_thread=False)

    def _stamp(self) -> tuple[int, int, bool]:
        """Another one once somebody writes, or has written."""
        status = self._real.stat()
        return status.st_mtime_ns, status.st_size, self._wal.exists()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if not application and not version and not tables:
            if self.read_only:
                raise UserError(f"{self.path} is empty. Record something first, with mode cache.")
            self._create(connection)
        elif application != APPLICATION:
            raise UserError(f"{self.path} is a database, but no cassette. Give another file.")
        elif version not in READABLE:
            raise UserError(
                f"{self.path} is a cassette of version {version}, this is {VERSION}. Update deepmmsearch, or give "
                "another file."
            )
        refuse_schema(connection, self.path)
        if version not in (0, VERSION) and not self.read_only:
            self._upgrade(connection)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA mmap_size = 268435456")

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        # another process may have been faster
        if not connection.execute("PRAGMA application_id").fetchone()[0]:
            for table in SCHEMA:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DROP TABLE IF EXISTS turns")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")

    def _explain(self, error: Exception) -> UserError:
        if sentence := refusal(error):
            return UserError(sentence)
        if (code := _code(error)) in _REFUSED:
            return UserError(_REFUSED[code].format(path=self.path))
        if isinstance(error, sqlite3.OperationalError) and _is_busy(error):
            return UserError(f"{self.path} is locked by another program. Close it, or give another file.")
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            return UserError(f"{self.path} is no cassette (no SQLite file). Give another file.")
        told = str(error)
        if isinstance(error, UnicodeDecodeError) or "malformed" in told or "Could not decode" in told:
            return UserError(f"{self.path} is damaged ({error}). Restore a copy, or record it again.")
        return UserError(f"{self.path} cannot be used: {error}. Check the disk and its permissions.")


class Busy(UserError):
    """The row could not be read at that instant (another process repairs the file); try again soon."""


def _try(file: int, place: int) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
    return True


def _code(error: Exception) -> int:
    """SQLite's own, without what it adds to it; 0 where Python raised the error."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return "locked" in str(error) or "busy" in str(error)


def _place(key: bytes) -> int:
    # Byte 0 is the writers'. Two keys may share a byte, which makes one of them wait and no more.
    return 1 + (int.from_bytes(key[:8], "big") >> 2)


def read_calls(text: str) -> tuple[Call, ...]:
    """The calls of an entry or a failure. Raises UserError for what are none."""
    try:
        calls: tuple[Call, ...] = PLAIN.decode(parse_json(text), tuple[Call, ...], no_picture)
    except ValueError as error:
        raise UserError(f"A cassette holds calls that cannot be read ({error}). Record it again.") from None
    return calls


def put_image(image: Image) -> tuple[str, Statement]:
    """Its hash, and what stores it: exact, once."""
    sha, buffer = images.digest(image), io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", compress_level=3)
    return sha, ("INSERT OR IGNORE INTO images VALUES (?, ?)", (sha, buffer.getvalue()))


def put_entry(key: bytes, tool: str, asked: str, entry: CassetteEntry) -> Statement:
    row = (key, tool, entry.provider, asked, entry.result, entry.images, entry.calls, entry.owner, entry.created)
    return "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row


def put_failure(key: bytes, asker: str, tool: str, provider: str, asked: str, failure: Failure) -> Statement:
    row = (key, asker, tool, provider, asked, failure.kind, failure.message, failure.calls, failure.created)
    return "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row


def forget_failure(key: bytes, asker: str) -> Statement:
    return "DELETE FROM failures WHERE key = ? AND asker = ?", (key, asker)


def disown(key: bytes) -> Statement:
    return "UPDATE entries SET owner = NULL WHERE key = ?", (key,)


def hash_key(asked: str) -> bytes:
    return hashlib.sha256(asked.encode("ascii")).digest()
