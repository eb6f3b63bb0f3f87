"""Messages as Outlook keeps them: MSG, properties in streams of a compound file ([MS-OXMSG])."""

from __future__ import annotations

import datetime
import io
import struct
from pathlib import PurePosixPath
from typing import Any

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.charset import known_charset
from deepmmsearch.reading.composition import Composition
from deepmmsearch.reading.document import Document, Origin, clean
from deepmmsearch.reading.mail import attach, readable

_SUBJECT, _BODY, _HTML, _FROM, _ADDRESS, _TO, _CC = "0037", "1000", "1013", "0C1A", "0C1F", "0E04", "0E03"
_FILE, _SHORT, _DATA, _MIME = "3707", "3704", "3701", "370E"
_SENT, _DELIVERED, _CODEPAGE = 0x0039, 0x0E06, 0x3FFD
# the standard library's own table is in files of the system, which cannot be read here
_KINDS = {
    **{".txt": "text/plain", ".htm": "text/html", ".html": "text/html", ".csv": "text/csv", ".md": "text/markdown"},
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"), "image/"),
}
_LARGEST = 64_000_000
_EPOCH = datetime.datetime(1601, 1, 1)


def from_msg(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    try:
        import olefile
    except ImportError:
        raise MissingExtra("Reading Outlook's messages", "documents") from None
    try:
        file = olefile.OleFileIO(io.BytesIO(content))
    except Exception:  # it raises nearly anything over a damaged file
        raise Unreadable("a damaged MSG") from None
    properties = _properties(_stream(file, ["__properties_version1.0"]), 32)
    charset = known_charset(f"cp{properties.get(_CODEPAGE, 1252)}") or "cp1252"
    message = _Message(file, [], charset)
    sent = _date(properties.get(_SENT) or properties.get(_DELIVERED) or 0)
    text = Composition(origin.longest)
    subject = message.text(_SUBJECT)
    text.head(subject)
    sender, address = message.text(_FROM), message.text(_ADDRESS)
    # within an organisation it is a place in its directory
    told = (
        ("From", f"{sender} <{address}>" if "@" in address else sender),
        ("To", message.text(_TO)),
        ("Cc", message.text(_CC)),
        ("Date", sent),
    )
    text.add("\n".join(f"{name}: {clean(said)}" for name, said in told if said))
    body = message.text(_BODY) or readable("text/html", message.binary(_HTML), charset)
    text.add(body)
    if not (subject or body):
        raise Unreadable("no text found")
    folders = sorted({entry[0] for entry in file.listdir(storages=True) if entry[0].startswith("__attach")})
    for folder in folders:
        attached = _Message(file, [folder], charset)
        name = clean(attached.text(_FILE) or attached.text(_SHORT))
        kind = attached.text(_MIME) or _KINDS.get(PurePosixPath(name).suffix.lower(), "")
        attach(text, name, kind.lower(), attached.binary(_DATA))
    return text.document(subject or origin.name, sent)


class _Message:
    """The properties below a storage of the file."""

    def __init__(self, file: Any, folder: list[str], charset: str) -> None:
        self._file, self._folder, self._charset = file, folder, charset

    def text(self, tag: str) -> str:
        wide = self._read(f"{tag}001F").decode("utf-16-le", "replace")
        return (wide or self._read(f"{tag}001E").decode(self._charset, "replace")).replace("\0", "").strip()

    def binary(self, tag: str) -> bytes:
        return self._read(f"{tag}0102")

    def _read(self, name: str) -> bytes:
        return _stream(self._file, [*self._folder, f"__substg1.0_{name}"])


def _stream(file: Any, path: list[str]) -> bytes:
    try:
        if not file.exists(path) or file.get_size(path) > _LARGEST:
            return b""
        return bytes(file.openstream(path).read())
    except Exception:  # as above
        return b""


def _properties(content: bytes, head: int) -> dict[int, int]:
    """Those of fixed size, by number: eight bytes each, as a whole number."""
    entries = (content[at : at + 16] for at in range(head, len(content) - 15, 16))
    return {tag >> 16: value for tag, _, value in (struct.unpack("<IIQ", entry) for entry in entries)}


def _date(ticks: int) -> str:
    try:
        return (_EPOCH + datetime.timedelta(microseconds=ticks // 10)).date().isoformat() if ticks else ""
    except OverflowError:
        return ""
