"""Slides: text, tables, diagrams, notes and pictures of PresentationML (ECMA-376, part 1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deepmmsearch.reading.composition import Composition, given_title
from deepmmsearch.reading.document import Document, Origin, clean
from deepmmsearch.reading.zipped import R, Zipped, first_text, local

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
# of each slide: its number, date and foot
_REPEATED = frozenset(("ftr", "sldNum", "dt", "hdr"))
_TITLES = frozenset(("title", "ctrTitle"))
_DRAWN = frozenset(("diagramData", "chart"))


def from_pptx(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    archive = Zipped(content, "PPTX")
    main, tree, core = archive.package("ppt/presentation.xml", "presentation", "PPTX")
    relations = archive.relations(main)
    text = Composition(origin.longest)
    listed = [relations.get(one.get(f"{R}id", ""), ("", "")) for one in tree.iter() if local(one) == "sldId"]
    for number, (kind, target) in enumerate(listed, 1):
        if kind == "slide" and not text.full:
            text.mark(f"slide={number}")
            _slide(archive, target, text)
    title = given_title(first_text(core, "title")) or text.first_heading or text.first_line or origin.name
    return text.document(title, first_text(core, "created") or first_text(core, "modified"))


def _slide(archive: Zipped, part: str, text: Composition) -> None:
    tree = archive.xml(part)
    if tree is None:
        return
    relations = archive.relations(part)
    shapes = [one for one in tree.iter() if local(one) in ("sp", "graphicFrame", "pic")]
    shapes = [shape for shape in shapes if not any(local(above) == "Fallback" for above in shape.iterancestors())]
    for shape in sorted(shapes, key=lambda shape: _role(shape) not in _TITLES):
        role = _role(shape)
        if role in _TITLES:
            text.head(" ".join(_paragraphs(shape)))
        elif local(shape) == "pic":
            _picture(archive, relations, shape, text)
        elif role not in _REPEATED:
            _shape(shape, text)
    for kind, target in relations.values():
        if kind in _DRAWN and (drawn := archive.xml(target)) is not None:
            text.add("\n".join(_paragraphs(drawn)))
        elif kind == "notesSlide" and (notes := archive.xml(target)) is not None:
            bodies = [one for one in notes.iter() if local(one) == "sp" and _role(one) == "body"]
            said = "\n".join(line for body in bodies for line in _paragraphs(body))
            text.add(f"Notes: {said}" if said else "")


def _role(shape: Any) -> str:
    found = next((one for one in shape.iter() if local(one) == "ph"), None)
    return found.get("type", "body") if found is not None else ""


def _shape(shape: Any, text: Composition) -> None:
    rows = list(shape.iter(f"{_A}tr"))
    for row in rows:
        text.row([" ".join(_paragraphs(cell)) for cell in row.iter(f"{_A}tc")])
    if not rows:
        text.add("\n".join(_paragraphs(shape)))


def _paragraphs(element: Any) -> Iterator[str]:
    for paragraph in element.iter(f"{_A}p"):
        parts = (" " if local(one) == "br" else one.text or "" for one in paragraph.iter(f"{_A}t", f"{_A}br"))
        if line := clean("".join(parts)):
            yield line


def _picture(archive: Zipped, relations: dict[str, tuple[str, str]], shape: Any, text: Composition) -> None:
    blip = next((one for one in shape.iter() if local(one) == "blip"), None)
    told = next((one for one in shape.iter() if local(one) == "cNvPr"), None)
    _, target = relations.get(blip.get(f"{R}embed", "") if blip is not None else "", ("", ""))
    if target:
        text.show(told.get("descr", "") if told is not None else "", archive.read(target))
