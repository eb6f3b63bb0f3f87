"""Small archives of many documents, written by hand."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Sequence
from typing import NamedTuple

PACKINGS = ("none", "xz", "zstd")


class Item(NamedTuple):
    name: str
    mime: str
    content: bytes = b""
    title: str = ""
    redirect: bool = False


def zim(items: Sequence[Item], packing: str = "none", minor: int = 1, per_cluster: int = 2) -> bytes:
    """Version 6.`minor`; names are with their namespace ("C/Oru"), as the file has them apart."""
    mimes = list(dict.fromkeys(item.mime for item in items if not item.redirect))
    head = 80
    listed = b"".join(mime.encode() + b"\0" for mime in mimes) + b"\0"
    entries, places, clusters, blobs = [], [], [], list[list[bytes]]()
    for item in items:
        namespace, _, name = item.name.partition("/")
        told = name.encode() + b"\0" + item.title.encode() + b"\0"
        if item.redirect:
            entries.append(struct.pack("<HBcII", 0xFFFF, 0, namespace.encode(), 0, 0) + told)
            continue
        if not blobs or len(blobs[-1]) == per_cluster:
            blobs.append([])
        blobs[-1].append(item.content)
        where = (len(blobs) - 1, len(blobs[-1]) - 1)
        entries.append(struct.pack("<HBcIII", mimes.index(item.mime), 0, namespace.encode(), 0, *where) + told)
    for held in blobs:
        offsets, at = [], 4 * (len(held) + 1)
        for blob in held:
            offsets.append(at)
            at += len(blob)
        clusters.append(_packed(struct.pack(f"<{len(held) + 1}I", *offsets, at) + b"".join(held), packing))
    body = head + len(listed)
    for entry in entries:
        places.append(body)
        body += len(entry)
    urls = body
    body += 8 * len(entries)
    starts = []
    pointers = body
    body += 8 * len(clusters)
    for cluster in clusters:
        starts.append(body)
        body += len(cluster)
    header = struct.pack(
        "<IHH16sIIQQQQIIQ",
        *(72_173_914, 6, minor, bytes(16), len(entries), len(clusters), urls, urls, pointers, head),
        *(0xFFFFFFFF, 0xFFFFFFFF, body),
    )
    return b"".join(
        (
            *(header, listed, *entries, struct.pack(f"<{len(places)}Q", *places)),
            *(struct.pack(f"<{len(starts)}Q", *starts), *clusters, bytes(16)),
        )
    )


def _packed(content: bytes, packing: str) -> bytes:
    if packing == "xz":
        return b"\4" + lzma.compress(content)
    if packing == "zstd":
        import zstandard

        return b"\5" + zstandard.compress(content)
    return b"\1" + content


def dump(pages: Sequence[tuple[str, int, str]]) -> bytes:
    """MediaWiki's export: title, namespace and text of each page."""
    written = "".join(
        f"  <page>\n    <title>{title}</title>\n    <ns>{ns}</ns>\n    <id>{n}</id>\n"
        + ('    <redirect title="x" />\n' if text.startswith("#REDIRECT") else "")
        + f"    <revision><timestamp>2021-03-04T10:00:00Z</timestamp><text>{text}</text></revision>\n"
        "  </page>\n"
        for n, (title, ns, text) in enumerate(pages)
    )
    return (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="en">\n  <siteinfo>\n'
        f"    <base>https://en.wiki.example/wiki/Main_Page</base>\n  </siteinfo>\n{written}</mediawiki>\n"
    ).encode()
