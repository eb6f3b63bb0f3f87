"""Electronic books: their chapters in order, each read like a page of the web (EPUB 2 and 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.composition import Composition, given_title
from deepmmsearch.reading.declared import language_code
from deepmmsearch.reading.document import Document, Heading, Origin, clean
from deepmmsearch.reading.page_title import squeezed
from deepmmsearch.reading.webpage import from_html
from deepmmsearch.reading.zipped import Zipped, first_text, joined, local

_CHAPTERS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_NCX = "application/x-dtbncx+xml"
MOST_ENTRIES = 5_000
_DECLARED = re.compile(rb"<\?xml[^>]{0,200}encoding=[\"']([A-Za-z0-9_-]{1,40})")


def from_epub(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    archive = Zipped(content, "EPUB")
    container = archive.xml("META-INF/container.xml")
    roots = (
        [one.get("full-path", "") for one in container.iter() if local(one) == "rootfile"]
        if container is not None
        else []
    )
    package = archive.xml(roots[0]) if roots else None
    if package is None:
        raise Unreadable("a damaged EPUB")
    text = Composition(origin.longest)
    locked = archive.read("META-INF/encryption.xml").decode("utf-8", "replace")
    chapters = list(_chapters(package, roots[0].rpartition("/")[0]))
    if chapters and all(chapter in locked for chapter in chapters):
        raise Unreadable("an encrypted EPUB")
    outline = dict(_outline(archive, package, roots[0].rpartition("/")[0]))
    for number, chapter in enumerate(chapters, 1):
        text.mark(f"chapter={number}")
        _chapter(archive, chapter, text, outline.get(chapter, Heading("")))
    metadata = next((one for one in package if local(one) == "metadata"), None)
    title = given_title(first_text(metadata, "title")) or text.first_heading or origin.name
    return text.document(title, first_text(metadata, "date"), language_code(first_text(metadata, "language")))


def _chapters(package: Any, folder: str) -> list[str]:
    items = {one.get("id"): one for one in package.iter() if local(one) == "item"}
    order = [items.get(one.get("idref")) for one in package.iter() if local(one) == "itemref"]
    return [
        joined(folder, one.get("href", "")) for one in order if one is not None and one.get("media-type") in _CHAPTERS
    ]


def _outline(archive: Zipped, package: Any, folder: str) -> Iterator[tuple[str, Heading]]:
    """What the table of contents calls the files that it names, the last first: a file is called by its first entry."""
    told = [
        joined(folder, one.get("href", ""))
        for one in package.iter()
        if local(one) == "item" and (one.get("media-type") == _NCX or "nav" in one.get("properties", "").split())
    ]
    for part in told:
        tree = archive.xml(part)
        entries = [one for one in tree.iter() if local(one) in ("navPoint", "li")] if tree is not None else []
        for entry in reversed(entries[:MOST_ENTRIES]):
            link = next((one for one in entry.iter() if local(one) in ("content", "a")), None)
            target = (link.get("src") or link.get("href") or "").partition("#")[0] if link is not None else ""
            label = next((one for one in entry if local(one) in ("navLabel", "a", "span")), None)
            if target and label is not None:
                level = 1 + sum(local(above) == local(entry) for above in entry.iterancestors())
                yield joined(part.rpartition("/")[0], target), Heading(clean("".join(label.itertext()))[:300], level)


def _chapter(archive: Zipped, part: str, text: Composition, called: Heading) -> None:
    written = archive.read(part)
    declared = _DECLARED.match(written[:300].lstrip())
    charset = declared[1].decode("ascii") if declared else ""
    try:
        page = from_html(Origin("html", "", charset), written)
    except Unreadable:  # a cover without text, or a damaged chapter
        return
    folder = part.rpartition("/")[0]
    first = page.text.partition("\n")[0]
    if page.headings or squeezed(first) != squeezed(called.text):
        text.head("" if page.headings or not page.text else called.text, called.level)
    else:  # written like a heading, but not as one
        text.headings.append(Heading(first, called.level))
    text.headings += (Heading(line, level + called.level - 1) for line, level in page.headings)
    text.add(page.text)
    for shown in page.pictures:
        text.show(shown.title, archive.read(joined(folder, shown.src)))
