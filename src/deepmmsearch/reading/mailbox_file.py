"""Mailboxes in one file (mbox): each message a document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.collection import CollectionEntry
from deepmmsearch.reading.document import Origin

_LARGEST = 64_000_000


def mbox_entries(path: Path, after: str) -> Iterator[CollectionEntry]:
    """Raises Unreadable."""
    with path.open("rb") as file:
        if not file.readline(10_000).startswith(b"From "):
            raise Unreadable("not a mailbox")
        number, lines, size, blank = 1, list[bytes](), 0, False
        while line := file.readline(1_000_000):
            if blank and line.startswith(b"From "):
                yield from _message(number, lines, size, after)
                number, lines, size = number + 1, [], 0
            elif size <= _LARGEST:
                lines.append(line.removeprefix(b">") if line.startswith(b">From ") else line)
                size += len(line)
            blank = not line.strip()
        yield from _message(number, lines, size, after)


def _message(number: int, lines: list[bytes], size: int, after: str) -> Iterator[CollectionEntry]:
    if number <= int(after or 0):
        return
    if size > _LARGEST:
        yield CollectionEntry(str(number), str(number), problem=f"larger than {_LARGEST // 1_000_000} MB")
    else:
        yield CollectionEntry(str(number), str(number), b"".join(lines), Origin("mail", f"message {number}"))
