"""A run's folder on this machine, put up to object storage while it grows, and brought here where a run goes on."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deepmmsearch.errors import Failed, UserError
from deepmmsearch.files import write_json
from deepmmsearch.object_storage.filesystems import inner_path
from deepmmsearch.object_storage.remote_folders import FilePiece, Manifest, RemoteFolder, digest_of_file, object_name
from deepmmsearch.progress import Watch, silent

EVERY = 60.0
"""Seconds between two times at which what is new is put up."""
_STATE = ".object-storage.json"
_GROWING = ".jsonl"
# what says that other files are complete: read before them
_TELLING = (_GROWING, ".json")
_SQLITE = b"SQLite format 3\0"
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
_OURS = (*_TELLING, ".png", ".parquet")
_PIECE = 64 << 20
_MOST_PIECES = 256
_AT_ONCE = 8


class WorkingCopy:
    """While it is entered, what is finished in `folder` is put up to `address` every `every` seconds and at the end,
    also when the run fails. What is there already, and not here, is fetched first. Files of SQLite stay here.

    Raises UserError where the address lies in the folder or the two went separate ways, Failed where the storage cannot
    be used at the end: then all is still in `folder`.
    """

    def __init__(self, folder: Path, address: str, watch: Watch = silent, every: float = EVERY) -> None:
        self.folder, self.remote, self._watch, self._every = folder, RemoteFolder(address), watch, every
        if self.remote.lies_in(folder):
            raise UserError(
                f"{self.remote.address} lies in {folder}, the folder that is to be put up there. Give another place."
            )
        self._manifest: Manifest | None = None
        self._known: dict[str, tuple[Any, tuple[FilePiece, ...]]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._put_up_again_and_again, daemon=True)

    def __enter__(self) -> Self:
        self._manifest = self.remote.manifest()
        if self._manifest is None:
            self._refuse_foreign()
        elif not any(_files(self.folder)):
            for name in self._manifest.files:
                self.remote.fetch(self._manifest, name, self.folder / inner_path(name))
            self._remember(self._manifest.id)
            if self._manifest.files:
                self._watch(f"{len(self._manifest.files):,} files came from {self.remote.address}")
        elif self._manifest.id not in self._remembered():
            raise UserError(
                f"{self.folder} and {self.remote.address} were written apart from each other. Give another --out, or "
                f"another output; or remove {self.folder}, then the run goes on from what is at {self.remote.address}."
            )
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        try:
            self._put_up()
        except UserError as problem:
            if error is not None:
                self._watch(str(problem))
                return
            raise Failed(f"{problem} Everything is in {self.folder}.") from None
        if self._manifest is not None:
            self._watch(f"Everything is at {self.remote.address} too")

    def _put_up_again_and_again(self) -> None:
        told = ""
        while not self._over.wait(self._every):
            try:
                self._put_up(steady=True)
            except (UserError, OSError) as problem:
                # at the end it is raised, and until then the storage may come back
                if str(problem) != told:
                    self._watch(str(problem))
                told = str(problem)

    def _refuse_foreign(self) -> None:
        if self.remote.holds_anything():
            raise UserError(
                f"There is something at {self.remote.address} that this program did not write. Give another address."
            )

    def _put_up(self, steady: bool = False) -> None:
        """With `steady` not at all where files that belong together changed meanwhile."""
        if self._manifest is None and not any(_files(self.folder)):
            return
        former = self.remote.manifest()
        if former is not None and former.id not in {*self._remembered(), self._manifest.id if self._manifest else ""}:
            raise UserError(
                f"Another run has written to {self.remote.address} meanwhile. Give each an address of its own."
            )
        if former is None:
            self._known.clear()
            # a reader sees nothing until all is there
            self._commit(former := Manifest())
        telling = [path for path in _files(self.folder) if path.suffix in _TELLING]
        # what is told later first: a reader may miss something, but nothing that another file relies on
        before = {path: _stamp(path) for path in sorted(telling, reverse=True)}
        ends = {path: _whole_lines(path) for path in before if path.suffix == _GROWING}
        texts = {path: path.read_bytes() for path in before if path.suffix != _GROWING and path.exists()}
        others = [path for path in _files(self.folder) if path.suffix not in _TELLING]
        with ThreadPoolExecutor(_AT_ONCE if self.remote.address.startswith("s3:") else 1) as pool:
            put = {path: pool.submit(self._whole, path, former) for path in others}
            files = {self._name(path): found for path, one in put.items() if (found := one.result()) is not None}
        for path, end in ends.items():
            with suppress(FileNotFoundError):  # it was removed meanwhile
                files[self._name(path)] = self._grown(path, before[path], end, former)
        for path, text in texts.items():
            files[self._name(path)] = self._text(path, text, former)
        if steady and any(_stamp(path) != stamp for path, stamp in before.items() if path in texts):
            return
        if files != former.files:
            self._commit(Manifest(files), former)

    def _commit(self, manifest: Manifest, former: Manifest | None = None) -> None:
        named, old = _objects(manifest), _objects(former or Manifest())
        for name in old:
            inner_path(name)
        self._remember(manifest.id, *([former.id] if former else []))
        self.remote.commit(manifest)
        self._manifest = manifest
        self._remember(manifest.id)
        self.remote.remove(sorted(old - named))

    def _whole(self, path: Path, former: Manifest) -> tuple[FilePiece, ...] | None:
        """None where it was removed or replaced meanwhile."""
        name = self._name(path)
        try:
            stamp = _stamp(path)
            if self._known.get(name, (None,))[0] == stamp:
                return self._known[name][1]
            pieces = self._at_once(name, path, path.stat().st_size, digest_of_file(path), former)
            if _stamp(path) != stamp:
                return None
        except FileNotFoundError:
            return None
        self._known[name] = stamp, pieces
        return pieces

    def _text(self, path: Path, text: bytes, former: Manifest) -> tuple[FilePiece, ...]:
        return self._at_once(self._name(path), text, len(text), _digest(text), former)

    def _at_once(
        self, name: str, data: bytes | Path, size: int, sha256: str, former: Manifest
    ) -> tuple[FilePiece, ...]:
        """The one piece of a file: that which is there, where it holds the same."""
        pieces = former.files.get(name, ())
        if [(piece.size, piece.sha256) for piece in pieces] == [(size, sha256)]:
            return pieces
        piece = FilePiece(object_name(name, sha256, bool(pieces)), size, sha256)
        self.remote.put(piece.object, data)
        return (piece,)

    def _grown(self, path: Path, stamp: tuple[int, ...], end: int, former: Manifest) -> tuple[FilePiece, ...]:
        """The pieces that are there, where the file begins with them, and one for what is new. `stamp`: of before `end`
        was found."""
        name = self._name(path)
        pieces = former.files.get(name, ())
        if self._known.get(name) == (stamp, pieces):
            return pieces
        # all of it is read again: an inode is used again, and what was rewritten in place may end as before
        if len(pieces) >= _MOST_PIECES or not _begins_with(path, end, pieces):
            pieces = ()
        there = sum(piece.size for piece in pieces)
        taken = bool(former.files.get(name))
        with path.open("rb") as file:
            file.seek(there)
            while data := file.read(min(_PIECE, end - there)):
                sha256 = _digest(data)
                piece = FilePiece(object_name(name, sha256, taken), len(data), sha256)
                self.remote.put(piece.object, data)
                pieces, there, taken = (*pieces, piece), there + len(data), True
        self._known[name] = stamp, pieces
        return pieces

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _remember(self, *ids: str) -> None:
        write_json(self.folder / _STATE, {"address": self.remote.address, "ids": ids}, private=True)

    def _remembered(self) -> list[str]:
        """Which states of the storage this folder holds: the last, and while it is put up the next."""
        try:
            found = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))
            return list(found["ids"]) if found["address"] == self.remote.address else []
        except (OSError, ValueError, KeyError, TypeError):
            return []


def _objects(manifest: Manifest) -> set[str]:
    return {piece.object for pieces in manifest.files.values() for piece in pieces}


def _files(folder: Path) -> Iterator[Path]:
    """All that is to be put up: no hidden files, drafts and locks among them, no links, nothing of SQLite."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink() and not _is_sqlite(path):
                yield path


def _is_sqlite(path: Path) -> bool:
    """Or what it keeps beside."""
    if path.suffix in _OURS:
        return False
    try:
        with path.open("rb") as file:
            return path.name.endswith(_BESIDE_SQLITE) or file.read(len(_SQLITE)) == _SQLITE
    except FileNotFoundError:
        return True


def _stamp(path: Path) -> tuple[int, ...]:
    """Another one once the file is another one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def _whole_lines(path: Path) -> int:
    """Bytes up to the last line end."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - _PIECE)
                file.seek(start)
                if (found := file.read(end - start).rfind(b"\n")) >= 0:
                    return start + found + 1
                end = start
    except FileNotFoundError:
        pass
    return 0


def _begins_with(path: Path, end: int, pieces: tuple[FilePiece, ...]) -> bool:
    place = 0
    for piece in pieces:
        if place + piece.size > end or digest_of_file(path, place, piece.size) != piece.sha256:
            return False
        place += piece.size
    return True


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refuse_taken(address: str) -> None:
    if RemoteFolder(address).holds_anything():
        raise UserError(f"{address} is there already. Give another place.")


def put_new(made: Path, address: str) -> None:
    """Puts a folder, or a file with what was written beside it, to an address at which nothing is. Raises UserError,
    Failed."""
    refuse_taken(address)
    if made.is_dir():
        with WorkingCopy(made, address):
            return
    above = RemoteFolder(address.rpartition("/")[0])
    beside = [path for path in _files(made.parent) if path != made]
    for path in beside:
        refuse_taken(f"{above.address}/{path.relative_to(made.parent).as_posix()}")
    # the file that names the others last
    for path in (*beside, made):
        above.put(path.relative_to(made.parent).as_posix(), path)
