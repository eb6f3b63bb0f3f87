"""Files that hold many documents: each entry is a document of its own, read one after the other, from any one on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deepmmsearch.reading.document import Origin


@dataclass(frozen=True)
class CollectionEntry:
    """One document of a collection.

    name: its own in the collection; the document is called `FILE#NAME`, and links within the collection lead to names.
    content, origin: what it holds and how that is read; without an origin it is a picture.
    url: its address on the web, "" where it has none. problem: why it cannot be read, "" where it can.
    cursor: from where reading goes on after it.
    """

    name: str
    cursor: str
    content: bytes = b""
    origin: Origin | None = None
    url: str = ""
    problem: str = ""


Collection = Callable[[Path, str], Iterator[CollectionEntry]]
"""The entries of a file after a cursor, "" for all of them. Raises Unreadable for what is not of its kind or is
damaged; the entries before that are kept."""
