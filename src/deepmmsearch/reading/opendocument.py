"""OpenDocument text and presentations (ODF 1.3)."""

from __future__ import annotations

from typing import Any

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.composition import Composition, given_title
from deepmmsearch.reading.declared import language_code
from deepmmsearch.reading.document import Document, Origin, clean
from deepmmsearch.reading.zipped import Zipped, first_text, joined, local

_UNSEEN = frozenset(("tracked-changes", "annotation", "forms", "sequence-decls", "variable-decls", "settings"))
_LEVEL = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}outline-level"
_HREF = "{http://www.w3.org/1999/xlink}href"


def from_opendocument(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    archive = Zipped(content, "OpenDocument file")
    if b"encryption-data" in archive.read("META-INF/manifest.xml"):
        raise Unreadable("an encrypted OpenDocument file")
    tree = archive.xml("content.xml")
    body = next((one for one in tree.iter() if local(one) == "body"), None) if tree is not None else None
    if body is None:
        raise Unreadable("a damaged OpenDocument file")
    reader = _Reader(archive, Composition(origin.longest))
    reader.blocks(body)
    meta = archive.xml("meta.xml")
    title = given_title(first_text(meta, "title")) or reader.title or reader.text.first_line or origin.name
    return reader.text.document(
        title,
        first_text(meta, "creation-date") or first_text(meta, "date"),
        language_code(first_text(meta, "language")),
    )


class _Reader:
    def __init__(self, archive: Zipped, text: Composition) -> None:
        self.archive, self.text, self.title = archive, text, ""
        self._slides = 0

    def blocks(self, parent: Any) -> None:
        for element in parent:
            if self.text.full:
                return
            name = local(element)
            if name in _UNSEEN or not name:
                continue
            match name:
                case "h":
                    level = element.get(_LEVEL, "1")
                    self.text.head(line := clean(_words(element)), int(level) if level in "123456789" else 1)
                    self.title = self.title or line
                    self._pictures(element)
                case "p":
                    self.text.add("\n".join(filter(None, map(clean, _words(element).split("\n")))))
                    self._pictures(element)
                case "table-row":
                    self.text.row([_words(cell).replace("\n", " ") for cell in element if local(cell) == "table-cell"])
                    self._pictures(element)
                case "page":
                    self._slide(element)
                case "frame" if any(local(one) == "image" for one in element):
                    self._pictures(element)
                case _:
                    self.blocks(element)

    def _slide(self, page: Any) -> None:
        self._slides += 1
        self.text.mark(f"slide={self._slides}")
        for shape in page:
            kind = next((value for name, value in shape.attrib.items() if name.endswith("}class")), "")
            if local(shape) == "notes":
                said = " ".join(clean(_words(one)) for one in shape.iter() if local(one) == "text-box")
                self.text.add(f"Notes: {said}" if said.strip() else "")
            elif kind == "title":
                self.text.head(line := clean(_words(shape)))
                self.title = self.title or line
            else:
                self.blocks([shape])

    def _pictures(self, element: Any) -> None:
        for image in element.iter():
            if local(image) != "image" or not (target := image.get(_HREF, "")):
                continue
            beside = image.getparent()
            told = [first_text(beside, name) for name in ("title", "desc")] if beside is not None else []
            self.text.show(" ".join(filter(None, told)), self.archive.read(joined("", target)))


def _words(element: Any) -> str:
    parts: list[str] = []

    def walk(one: Any) -> None:
        name = local(one)
        if name in _UNSEEN or name in ("title", "desc", "image"):
            return
        if name in ("p", "h") and parts:
            parts.append("\n")
        elif name == "s":
            parts.append(" ")
        elif name in ("tab", "line-break"):
            parts.append(" " if name == "tab" else "\n")
        if name:
            parts.append(one.text or "")
            for child in one:
                walk(child)
                parts.append(child.tail or "")

    walk(element)
    return "".join(parts)
