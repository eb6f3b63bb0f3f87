"""tantivy writes a checksum at the end of each file and does not look at it: over some damage it ends the process,
which nothing can catch."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

_MAGIC = 1337
_LONGEST = 10_000
_AT_ONCE = 1 << 20


def damaged(text: Path) -> Path | None:
    """The first file of the last commit that is not what was written."""
    for path in _committed(text):
        # another process may have merged it away since
        with suppress(FileNotFoundError), path.open("rb") as file:
            if not _sound(file, path.stat().st_size):
                return path
    return None


def _committed(text: Path) -> Iterator[Path]:
    meta: dict[str, Any] = json.loads((text / "meta.json").read_bytes())
    for segment in meta["segments"]:
        name = UUID(segment["segment_id"]).hex
        deletes = segment.get("deletes")
        alive = f"{name}.{deletes['opstamp']}.del" if deletes else ""
        # what is being written beside a commit does not belong to it
        yield from (path for path in sorted(text.glob(f"{name}.*")) if path.suffix != ".del" or path.name == alive)


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
