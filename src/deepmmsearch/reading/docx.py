"""Word documents: paragraphs, tables, notes and pictures of WordprocessingML (ECMA-376, part 1)."""

from __future__ import annotations

from typing import Any

from deepmmsearch.reading.composition import Composition, given_title
from deepmmsearch.reading.declared import language_code
from deepmmsearch.reading.document import Document, Origin, clean
from deepmmsearch.reading.zipped import R, Zipped, first_text, joined, local

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
# what was deleted or moved away, and what stands twice for older programs
_UNSEEN = frozenset(("del", "moveFrom", "Fallback", "instrText", "delText", "pPr", "rPr"))
_BREAKS = frozenset(("br", "cr", "tab"))
# a title stands above all chapters, what stands below it heads none of them
_TITLES = {"title": 1, "subtitle": 9}
_NOTES = ("footnotes", "endnotes")


def from_docx(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    archive = Zipped(content, "DOCX")
    main, tree, core = archive.package("word/document.xml", "document", "DOCX")
    reader = _Reader(archive, main, Composition(origin.longest))
    body = next((element for element in tree if local(element) == "body"), tree)
    reader.blocks(body)
    for kind, target in reader.relations.values():
        if kind in _NOTES and (notes := archive.xml(target)) is not None:
            for note in notes:
                if note.get(f"{_W}type") is None:  # the others are the lines that set notes apart
                    reader.blocks(note)
    title = given_title(first_text(core, "title")) or reader.title or reader.text.first_line or origin.name
    return reader.text.document(
        title, first_text(core, "created") or first_text(core, "modified"), language_code(first_text(core, "language"))
    )


class _Reader:
    def __init__(self, archive: Zipped, main: str, text: Composition) -> None:
        self.archive, self.text = archive, text
        self.relations = archive.relations(main)
        self.title = ""
        self._levels = _levels(archive.xml(joined(main.rpartition("/")[0], "styles.xml")))

    def blocks(self, parent: Any) -> None:
        """Paragraphs and tables, also those in content controls and tracked insertions."""
        for element in parent:
            if self.text.full:
                return
            match local(element):
                case "p":
                    self._paragraph(element)
                case "tbl":
                    self._table(element)
                case "" | "sectPr" | "moveFrom" | "del" | "Fallback":
                    pass
                case _:
                    self.blocks(element)

    def _paragraph(self, paragraph: Any) -> None:
        text = self._words(paragraph)
        style = paragraph.find(f"{_W}pPr/{_W}pStyle")
        level = self._levels.get(style.get(f"{_W}val", "") if style is not None else "", 0)
        line = clean(text)
        if level and line and len(line) <= 300:
            self.text.head(line, level)
            self.title = self.title or line
        else:
            self.text.add("\n".join(filter(None, map(clean, text.split("\n")))))
        # where in the paragraph they stand is of no account
        self._pictures(paragraph)

    def _words(self, element: Any) -> str:
        """The text of a paragraph, and of the boxes that are anchored in it."""
        parts: list[str] = []
        waiting: list[Any] = [element]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                parts.append(one)
                continue
            name = local(one)
            if name in _UNSEEN or not name:
                continue
            if name == "txbxContent":
                waiting.append("\n")
            if name == "t":
                parts.append("".join(one.itertext()))
            elif name in _BREAKS:
                parts.append(" " if name == "tab" else "\n")
            elif name == "noBreakHyphen":
                parts.append("-")
            elif name == "p" and one is not element:
                parts.append("\n")
            waiting += reversed(one)
        return "".join(parts)

    def _table(self, table: Any) -> None:
        for row in table.iter(f"{_W}tr"):
            if next(row.iterancestors(f"{_W}tbl"), None) is table:
                self.text.row([self._words(cell).replace("\n", " ") for cell in row.iter(f"{_W}tc") if _of(cell, row)])
        self._pictures(table)

    def _pictures(self, element: Any) -> None:
        for one in element.iter():
            if local(one) not in ("blip", "imagedata"):
                continue
            _, target = self.relations.get(one.get(f"{R}embed") or one.get(f"{R}id") or "", ("", ""))
            if target and not any(local(above) == "Fallback" for above in one.iterancestors()):
                self.text.show(_described(one), self.archive.read(target))


def _of(cell: Any, row: Any) -> bool:
    return next(cell.iterancestors(f"{_W}tr"), None) is row


def _described(blip: Any) -> str:
    for above in blip.iterancestors():
        if local(above) in ("inline", "anchor"):
            told = next((one for one in above if local(one) == "docPr"), None)
            return (told.get("descr") or told.get("title") or "") if told is not None else ""
        if local(above) == "p":
            break
    return ""


def _levels(styles: Any) -> dict[str, int]:
    """Of the styles of headings by their ids. Word names its own in English in all languages."""
    found: dict[str, int] = {}
    for style in styles if styles is not None else ():
        if local(style) != "style":
            continue
        called, outline = _value(style, "name").lower(), _value(style, f"pPr/{_W}outlineLvl")
        number = outline or called.removeprefix("heading").strip()
        level = int(number) + bool(outline) if number in tuple("012345678") else 1
        if called in _TITLES or called.startswith("heading") or outline in tuple("012345678"):
            found[style.get(f"{_W}styleId", "")] = _TITLES.get(called, level)
    return found


def _value(style: Any, name: str) -> str:
    found = style.find(f"{_W}{name}")
    return str(found.get(f"{_W}val", "")) if found is not None else ""
