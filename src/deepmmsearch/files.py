"""Files and folders that appear whole or not at all, or are for their owner alone; locks between processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from deepmmsearch.errors import UserError

if sys.platform != "win32":
    import fcntl

_ADDRESS = re.compile(r"(s3|gs|gcs|hf|https?|memory|file):/")
_DRAFT = re.compile(r"\..+\.[0-9a-f]{8}\.part")


def for_owner(path: str, flags: int) -> int:
    """The `opener` of files that hold questions or answers: nobody but their owner can ever open one that is new."""
    return os.open(path, flags, 0o600)


def make_folder(folder: Path, *, private: bool = False) -> None:
    """With the folders above it. `private`: for its owner alone, if it is new. Raises UserError for an address."""
    if _ADDRESS.match(folder.as_posix()):
        raise UserError(
            f"{folder} is an address, where a file or folder of this machine is needed. Give one; a run is put up to "
            "object storage with --out ADDRESS of `deepmmsearch eval` and `deepmmsearch data build`."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(0o700 if private else 0o777, exist_ok=True)


@contextmanager
def replacing(path: Path, *, durable: bool = False, private: bool = False) -> Iterator[Path]:
    """Where to write what is to stand at `path`, a file or a folder: it gets there when the block ends, and nothing is
    left of it when the block fails.

    Processes may write the same path at once, the last one wins. A file keeps the permissions of the one it replaces;
    what a replaced folder holds and the new one does not stays in it. `durable`: a file is on the disk before it
    replaces the former one. `private`: a file, for its owner alone if it is new, as is the folder that it lies in.
    """
    make_folder(path.parent, private=private)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        if private:
            open(draft, "xb", opener=for_owner).close()
        yield draft
        if draft.is_dir():
            _replace_folder(draft, path)
            return
        if durable:
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(path, draft)
        draft.replace(path)
    except BaseException as error:
        _remove(draft)
        if isinstance(error, OSError) and error.filename is None:
            # a full disk does not say of which file
            error.filename = str(path)
        raise


def write_text(path: Path, text: str, *, durable: bool = False, private: bool = False, errors: str = "strict") -> None:
    with replacing(path, durable=durable, private=private) as draft:
        draft.write_text(text, encoding="utf-8", errors=errors)


def write_json(path: Path, value: Any, *, durable: bool = False, private: bool = False) -> None:
    """Halves of surrogate pairs, which UTF-8 cannot hold, stay as JSON writes them."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    if any("\ud800" <= letter <= "\udfff" for letter in set(text)):
        text = json.dumps(value, indent=1)
    write_text(path, text + "\n", durable=durable, private=private)


def lies_in(path: Path, *folders: Path) -> bool:
    """Does it lie in one of the folders, links and `..` followed? False for what leads nowhere."""
    try:
        found = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # a loop, a name with a zero in it
        return False
    return any(found.is_relative_to(folder.resolve()) for folder in folders)


def remove_drafts(folder: Path) -> None:
    """Removes what killed processes left half-written in `folder`. Nobody may be writing there."""
    for path in folder.iterdir():
        if _DRAFT.fullmatch(path.name):
            _remove(path)


@contextmanager
def locked(path: Path, *, wait: bool = True, private: bool = False) -> Iterator[bool]:
    """Holds a lock file, which the system lets go of when the process dies. Gives False instead of waiting where `wait`
    is off and another process holds it. `private`: for its owner alone if it is new, as is the folder that it lies in.
    """
    from filelock import FileLock, Timeout  # which asyncio comes with

    make_folder(path.parent, private=private)
    lock = FileLock(path, mode=0o600) if private and not path.exists() else FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def lock_open_file(file: BinaryIO) -> None:
    """Holds a file that is appended to until it is closed: no lock file stays beside it, and it excludes writers of
    older versions, which lock it in the same way. On Windows, where a locked byte cannot be read by others either,
    nothing is locked."""
    if sys.platform != "win32":
        # polled, because a thread that waits within the call cannot be interrupted
        while True:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.002)


def _replace_folder(draft: Path, folder: Path) -> None:
    """A rename onto a folder that is not empty fails, so the former one is moved aside first."""
    former = draft.with_name(f"{draft.name}-former")
    if folder.is_symlink():
        # what it leads to is somebody's own
        folder.unlink()
    elif folder.is_dir():
        folder.rename(former)
    try:
        draft.rename(folder)
    except OSError:
        if former.exists():
            former.rename(folder)
        raise
    if former.exists():
        for path in list(former.rglob("*")):
            place = folder / path.relative_to(former)
            if (path.is_symlink() or not path.is_dir()) and not os.path.lexists(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                path.rename(place)
        shutil.rmtree(former)


def _remove(path: Path) -> None:
    """Where that is refused, too, there is an error already that says more."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
