"""tantivy writes a checksum at the end of each file and does not look at it: over some damage it ends the process,
which nothing can catch."""

from __future__ import annotations

import json
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from deepmmsearch.files import write_text

SEEN = "seen.json"
_MAGIC = 1337
_LONGEST = 10_000
_AT_ONCE = 1 << 20
_MOST_SEEN = 4_000_000

Seen = Mapping[str, Any]
"""By its name, what told a file from any other when it was found sound: changed, replaced or copied, it is not the
same. An index is opened without reading it all again."""


def damaged(text: Path, seen: Seen) -> tuple[Path | None, dict[str, list[int]]]:
    """The first file of the last commit that is not what was written, and those that were found sound."""
    sound: dict[str, list[int]] = {}
    for path in _committed(text):
        # another process may have merged it away since
        with suppress(FileNotFoundError), path.open("rb") as file:
            status = os.fstat(file.fileno())
            identity = _identity(status)
            if seen.get(path.name) != identity and not _sound(file, status.st_size):
                return path, sound
            sound[path.name] = identity
    return None, sound


def written(text: Path, seen: Seen) -> dict[str, Any]:
    """Those of the last commit, for the process that wrote what had not been seen before."""
    found: dict[str, Any] = {}
    for path in _committed(text):
        with suppress(FileNotFoundError):
            found[path.name] = seen.get(path.name) or _identity(path.stat())
    return found


def read_seen(folder: Path) -> Seen:
    """What an earlier process found; nothing where that cannot be read. Whoever made the index cannot vouch for
    files in it: when a file was last changed, and its number, are the system's to say."""
    path = folder / SEEN
    try:
        if path.is_symlink() or path.stat().st_size > _MOST_SEEN:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def keep_seen(folder: Path, sound: Seen) -> None:
    with suppress(OSError):  # a folder in which nothing can be written, a full disk: it is found out again
        # in one line: it is written after each change, and Python indents by itself, ten times as slowly
        write_text(folder / SEEN, json.dumps(sound))


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _committed(text: Path) -> Iterator[Path]:
    meta: dict[str, Any] = json.loads((text / "meta.json").read_bytes())
    files: dict[str, list[str]] = defaultdict(list)
    for file in sorted(entry.name for entry in os.scandir(text)):
        files[file.partition(".")[0]].append(file)
    for segment in meta["segments"]:
        name = UUID(segment["segment_id"]).hex
        deletes = segment.get("deletes")
        alive = f"{name}.{deletes['opstamp']}.del" if deletes else ""
        # what is being written beside a commit does not belong to it
        yield from (text / file for file in files[name] if not file.endswith(".del") or file == alive)


def _sound(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - 8))
    end = file.read(8)
    length, magic = int.from_bytes(end[:4], "little"), int.from_bytes(end[4:], "little")
    body = size - 8 - length
    if magic != _MAGIC or not 0 < length <= _LONGEST or body < 0:
        return False
    file.seek(body)
    try:
        told = json.loads(file.read(length))["crc"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return False
    file.seek(0)
    found = 0
    while body > 0 and (piece := file.read(min(body, _AT_ONCE))):
        found, body = zlib.crc32(piece, found), body - len(piece)
    return bool(found == told)
