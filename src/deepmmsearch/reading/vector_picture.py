"""An SVG picture -> the words that stand in it. It is not drawn: what draws one runs what a stranger wrote."""

from __future__ import annotations

from typing import Any

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.composition import Composition
from deepmmsearch.reading.document import Document, Origin, clean

_TEXTS = ("title", "desc", "text")
_SECRET = ("script", "style", "metadata")


def from_svg(origin: Origin, content: bytes) -> Document:
    """Its title, descriptions and labels, a line each. Raises Unreadable, MissingExtra."""
    try:
        from lxml import etree
    except ImportError:
        raise MissingExtra("Reading SVG pictures", "engine") from None
    # nothing is fetched, and no entity is put in
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True, huge_tree=False)
    try:
        tree = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError):
        tree = None
    if tree is None or _name(tree) != "svg":
        raise Unreadable("damaged SVG")
    text, title = Composition(origin.longest), ""
    for element in _seen(tree):
        said = clean("".join(element.itertext()))
        if _name(element) == "title" and element.getparent() is tree and not title:
            title = said
        text.add(said)
    document = text.document(title or origin.name)
    if not document.text:
        raise Unreadable("an SVG picture without words, which is not drawn")
    return document


def _seen(tree: Any) -> list[Any]:
    """The outermost elements that hold words, in order."""
    found, waiting = [], [tree]
    while waiting:
        element = waiting.pop()
        if _name(element) in _TEXTS:
            found.append(element)
        elif _name(element) not in _SECRET:
            waiting += reversed(element)
    return found


def _name(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""
