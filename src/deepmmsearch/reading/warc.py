"""Web archives: the pages, files and pictures of a WARC file, packed or not, each once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.collection import CollectionEntry
from deepmmsearch.reading.document import Origin
from deepmmsearch.reading.titles import page_name

_LARGEST = 64_000_000
_KINDS = {
    **dict.fromkeys(("text/html", "application/xhtml+xml"), "html"),
    "application/pdf": "pdf",
    "text/plain": "text",
    "text/markdown": "markdown",
}
_PICTURES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff")


def warc_entries(path: Path, after: str) -> Iterator[CollectionEntry]:
    """Raises Unreadable, MissingExtra."""
    try:
        from warcio.archiveiterator import ArchiveIterator
    except ImportError:
        raise MissingExtra("Reading WARC files", "archives") from None
    seen: set[int] = set()
    with path.open("rb") as file:
        try:
            for number, record in enumerate(ArchiveIterator(file), 1):
                name = _name(record)
                # a set of numbers, because an archive may hold millions
                if name and hash(name) not in seen:
                    seen.add(hash(name))
                    if number > int(after or 0) and (entry := _entry(record, name, str(number))) is not None:
                        yield entry
        except Exception:  # it raises nearly anything over a damaged file
            raise Unreadable("a damaged WARC file") from None


def _name(record: Any) -> str:
    """The address without its scheme: links lead from one to the other. "" for what is no answer of a server."""
    headers = record.rec_headers
    address = headers.get_header("WARC-Target-URI") or ""
    answered = record.rec_type == "resource" or (
        record.rec_type == "response" and record.http_headers and record.http_headers.get_statuscode() == "200"
    )
    if not answered or not address.startswith(("http://", "https://")):
        return ""
    return address.partition("://")[2].partition("#")[0]


def _entry(record: Any, name: str, cursor: str) -> CollectionEntry | None:
    told = record.http_headers.get_header("Content-Type") if record.http_headers else None
    told = told or record.rec_headers.get_header("Content-Type") or ""
    mime, _, parameters = told.partition(";")
    mime = mime.strip().lower()
    if mime not in _KINDS and mime not in _PICTURES:
        return None
    content = record.content_stream().read(_LARGEST + 1)
    if len(content) > _LARGEST:
        return CollectionEntry(name, cursor, problem=f"larger than {_LARGEST // 1_000_000} MB")
    if mime in _PICTURES:
        return CollectionEntry(name, cursor, content)
    charset = parameters.partition("charset=")[2].strip(" \"'").partition(";")[0]
    address = record.rec_headers.get_header("WARC-Target-URI").partition("#")[0]
    if not urlsplit(address).hostname:
        return None
    # as a page of the web: its encoding is guessed where nothing else helps, and it may name an address of its own site
    return CollectionEntry(name, cursor, content, Origin(_KINDS[mime], page_name(address), charset, address), address)
