"""Offline copies of Wikipedia and other sites: ZIM files (openzim.org, versions 5 and 6), read without unpacking.

Pages and pictures come in the order of the clusters that hold them, so that each cluster is unpacked once.
"""

from __future__ import annotations

import lzma
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.collection import CollectionEntry
from deepmmsearch.reading.document import Origin

if TYPE_CHECKING:
    import numpy as np

_MAGIC = 72_173_914
_HEADER = struct.Struct("<IHH16sIIQQQQIIQ")
_ENTRY = struct.Struct("<HBcIII")
_NO_CONTENT = 0xFFFD
"""From here on: what was deleted, what leads to a link, and redirects."""
_LARGEST = 64_000_000
_KINDS = {"text/html": "html", "application/pdf": "pdf", "text/plain": "text", "application/epub+zip": "epub"}
_PICTURES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff")


class _Found(NamedTuple):
    kind: str
    name: str
    title: str


def zim_entries(path: Path, after: str) -> Iterator[CollectionEntry]:
    """Raises Unreadable, MissingExtra."""
    with path.open("rb") as file:
        try:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError:  # it is empty
            raise Unreadable("a damaged ZIM file") from None
        try:
            archive = _Archive(content)
            yield from archive.entries(int(after or 0))
        except (struct.error, IndexError, ValueError, OverflowError, lzma.LZMAError, UnicodeDecodeError):
            raise Unreadable("a damaged ZIM file") from None


class _Archive:
    def __init__(self, content: memoryview) -> None:
        self._content = content
        magic, major, minor, _, self._count, self._clusters, urls, _, clusters, mimes, *_ = _HEADER.unpack_from(content)
        if magic != _MAGIC or major not in (5, 6):
            raise Unreadable("not a ZIM file of a version that is read (5 and 6)")
        # all content is in one namespace since 6.1; before it articles and pictures had one each
        self._namespaces = {b"C": ""} if (major, minor) >= (6, 1) else {b"A": "A/", b"I": "I/", b"U": "U/"}
        # the process that reads pages would be started with it for each of them
        import numpy as np

        self._urls = np.frombuffer(content, "<u8", self._count, urls)
        self._places = np.frombuffer(content, "<u8", self._clusters, clusters)
        self._kinds = self._mimes(mimes)

    def _mimes(self, place: int) -> list[str]:
        end = bytes(self._content[place : place + 100_000]).index(b"\0\0")
        return [name.split(";")[0].strip() for name in self._text(place, end).split("\0")]

    def _text(self, place: int, length: int) -> str:
        return bytes(self._content[place : place + length]).decode("utf-8", "replace")

    def entries(self, after: int) -> Iterator[CollectionEntry]:
        order = self._order()
        held = -1
        cluster: _Cluster | None = None
        for number in range(after, len(order)):
            index, place, blob = (int(value) for value in order[number])
            found = self._entry(index)
            cursor = str(number + 1)
            try:
                if place != held or cluster is None:
                    cluster, held = _Cluster(self._content, int(self._places[place])), place
                content = cluster.blob(blob)
            except (struct.error, IndexError, ValueError, lzma.LZMAError) as error:
                cluster = None
                yield CollectionEntry(found.name, cursor, problem=f"damaged in its archive ({type(error).__name__})")
                continue
            if found.kind in _PICTURES:
                yield CollectionEntry(found.name, cursor, content)
            else:
                yield CollectionEntry(found.name, cursor, content, Origin(_KINDS[found.kind], found.title))

    def _order(self) -> np.ndarray:
        """(entry, cluster, blob) of each page and picture, by cluster. Shape (n, 3)."""
        import numpy as np

        wanted = np.zeros(len(self._kinds), bool)
        wanted[[n for n, kind in enumerate(self._kinds) if kind in _KINDS or kind in _PICTURES]] = True
        found = np.empty((self._count, 3), np.int64)
        count = 0
        for index, place in enumerate(self._urls.tolist()):
            mime, _, namespace, _, cluster, blob = _ENTRY.unpack_from(self._content, place)
            if mime < min(_NO_CONTENT, len(wanted)) and wanted[mime] and namespace in self._namespaces:
                found[count] = index, cluster, blob
                count += 1
        found = found[:count]
        return found[np.lexsort((found[:, 2], found[:, 1]))]

    def _entry(self, index: int) -> _Found:
        place = int(self._urls[index])
        mime, _, namespace, *_ = _ENTRY.unpack_from(self._content, place)
        written = bytes(self._content[place + _ENTRY.size : place + _ENTRY.size + 10_000]).split(b"\0", 2)
        url, title = (part.decode("utf-8", "replace") for part in written[:2])
        return _Found(self._kinds[mime], self._namespaces[namespace] + url, title or url)


class _Cluster:
    """Several blobs, packed together."""

    def __init__(self, content: memoryview, place: int) -> None:
        info = content[place]
        self._wide = 8 if info & 0x10 else 4
        rest = content[place + 1 :]
        match info & 0x0F:
            case 0 | 1:
                self._data: memoryview = rest
            case 4:
                unpacker = lzma.LZMADecompressor(memlimit=4 * _LARGEST)
                self._data = memoryview(unpacker.decompress(rest, _LARGEST))
            case 5:
                self._data = memoryview(_unzstd(rest))
            case other:
                raise ValueError(f"packing {other}")

    def blob(self, number: int) -> bytes:
        kind = "<Q" if self._wide == 8 else "<I"
        count = struct.unpack_from(kind, self._data)[0] // self._wide - 1
        if not 0 <= number < count:
            raise IndexError(number)
        start, end = (struct.unpack_from(kind, self._data, self._wide * n)[0] for n in (number, number + 1))
        if not start <= end <= len(self._data) or end - start > _LARGEST:
            raise ValueError("a blob outside of its cluster")
        return bytes(self._data[start:end])


def _unzstd(packed: memoryview) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise MissingExtra("Reading ZIM files", "archives") from None
    try:
        # the frame ends before the file does, and is told by itself
        with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(packed) as reader:
            return bytes(reader.read(_LARGEST))
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
