"""Documents that are archives of XML: parts are unpacked one by one and within bounds, and no entity is resolved."""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from typing import Any
from urllib.parse import unquote

from deepmmsearch.errors import MissingExtra, Unreadable

_LARGEST, _MOST = 64_000_000, 20_000
"""Bytes of a part, and parts."""
_ALL = 400_000_000
_STRICT = (
    (b"http://purl.oclc.org/ooxml/officeDocument/", b"http://schemas.openxmlformats.org/officeDocument/2006/"),
    (b"http://purl.oclc.org/ooxml/wordprocessingml/", b"http://schemas.openxmlformats.org/wordprocessingml/2006/"),
    (b"http://purl.oclc.org/ooxml/presentationml/", b"http://schemas.openxmlformats.org/presentationml/2006/"),
    (b"http://purl.oclc.org/ooxml/drawingml/", b"http://schemas.openxmlformats.org/drawingml/2006/"),
)
"""What the strict form of Office documents calls the namespaces of the usual one."""
R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"


class Zipped:
    """`kind` stands in what is raised, as in "a damaged EPUB"."""

    def __init__(self, content: bytes, kind: str) -> None:
        self.kind = kind
        if encrypted(content):
            raise Unreadable(f"an encrypted {kind}")
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(content))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
            raise Unreadable(f"a damaged {kind}") from None
        self._names = {info.filename: info for info in self._archive.infolist()[:_MOST]}
        self._read = 0

    @property
    def size(self) -> int:
        """Bytes of all parts, by what the archive says of itself."""
        return sum(info.file_size for info in self._names.values())

    def read(self, name: str) -> bytes:
        """b"" for a part that is not there or is damaged. Raises Unreadable."""
        info = self._names.get(name)
        if info is None:
            return b""
        if info.flag_bits & 1:
            raise Unreadable(f"an encrypted {self.kind}")
        try:
            with self._archive.open(info) as part:
                found = part.read(_LARGEST + 1)
        except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, EOFError, RuntimeError, ValueError):
            return b""
        self._read += len(found)
        if len(found) > _LARGEST or self._read > _ALL:
            raise Unreadable(f"a {self.kind} that unpacks to too much")
        return found

    def xml(self, name: str) -> Any:
        """The root of a part; None where there is none. Raises Unreadable, MissingExtra."""
        content = self.read(name)
        if b"http://purl.oclc.org/ooxml/" in content[:4096]:
            for strict, usual in _STRICT:
                content = content.replace(strict, usual)
        return parsed(content)

    def package(self, usual: str, root: str, kind: str) -> tuple[str, Any, Any]:
        """The main part's name and root, and the root of what is told of the document, None where nothing is. Of Office
        documents. Raises Unreadable where the main part is not a `root`; MissingExtra."""
        parts = self.relations("").values()
        main = next((target for relation, target in parts if relation == "officeDocument"), usual)
        tree = self.xml(main)
        if tree is None or local(tree) != root:
            raise Unreadable(f"a damaged {kind}")
        return main, tree, self.xml(next((target for relation, target in parts if relation == "core-properties"), ""))

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """By id: what kind of relation, and the part at its other end. Of Office documents."""
        folder, name = posixpath.split(part)
        tree = self.xml(f"{folder}/_rels/{name}.rels" if folder else f"_rels/{name}.rels")
        found: dict[str, tuple[str, str]] = {}
        for one in tree if tree is not None else ():
            if isinstance(one.tag, str) and one.get("TargetMode") != "External":
                target = joined(folder, one.get("Target", ""))
                found[one.get("Id", "")] = one.get("Type", "").rpartition("/")[2], target
        return found


def encrypted(content: bytes) -> bool:
    """Is it an Office document that needs a password? Those are packed into a compound file."""
    return content.startswith(b"\xd0\xcf\x11\xe0") and "EncryptedPackage".encode("utf-16-le") in content


def joined(folder: str, path: str) -> str:
    """A part's name, from how a part in `folder` calls it."""
    return posixpath.normpath(posixpath.join("/", folder, unquote(path))).lstrip("/")


def parsed(content: bytes) -> Any:
    """The root of an XML file, read as far as it is sound. None where nothing of it is. Raises MissingExtra."""
    try:
        from lxml import etree
    except ImportError:
        raise MissingExtra("Reading documents", "engine") from None
    if not content:
        return None
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, recover=True, remove_comments=True
    )
    try:
        return etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def local(element: Any) -> str:
    """Its name without the namespace."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def first_text(tree: Any, name: str) -> str:
    """Of the first element of that name."""
    if tree is None:
        return ""
    found = next((element for element in tree.iter() if local(element) == name), None)
    return "".join(found.itertext()).strip() if found is not None else ""
