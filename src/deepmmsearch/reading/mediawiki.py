"""Dumps of a wiki (MediaWiki's XML export, packed with bzip2 or not): each article a document, read one by one."""

from __future__ import annotations

import bz2
import contextlib
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.collection import CollectionEntry
from deepmmsearch.reading.composition import Composition
from deepmmsearch.reading.document import Document, Origin, clean
from deepmmsearch.reading.zipped import first_text, parsed

_PIECE, _LARGEST = 1 << 20, 16_000_000
_BASE = re.compile(rb"<base>([^<]{1,500})</base>")
_TITLE = re.compile(rb"<title>([^<]{1,1000})</title>")
# bold and italic
_QUOTES = re.compile(r"'{2,5}")
# what only lies beside the text, in the languages with the most articles
_ASIDE = frozenset(
    word
    for line in (
        "file image category media datei bild kategorie fichier catégorie archivo imagen categoría categoria immagine",
        "arquivo ficheiro plik grafika kategoria bestand afbeelding categorie fil kategori файл изображение категория",
        "ファイル 画像 カテゴリ 文件 檔案 分类 分類 ملف تصنيف",
    )
    for word in line.split()
)


def mediawiki_entries(path: Path, after: str) -> Iterator[CollectionEntry]:
    """The articles of the main namespace, without redirects. Raises Unreadable."""
    try:
        with bz2.open(path) if path.suffix.lower() == ".bz2" else path.open("rb") as file:
            head, pages = _pages(file)
            base = _BASE.search(head)
            folder = unescape(base[1].decode("utf-8", "replace")).rpartition("/")[0] if base else ""
            for number, page in enumerate(pages, 1):
                if number <= int(after or 0):
                    continue
                title = _TITLE.search(page[:4_000])
                if title is None or b"<ns>0</ns>" not in page[:4_000] or b"<redirect " in page[:4_000]:
                    continue
                name = unescape(title[1].decode("utf-8", "replace"))
                address = f"{folder}/{quote(name.replace(' ', '_'))}" if folder.startswith("http") else ""
                if len(page) > _LARGEST:
                    yield CollectionEntry(name, str(number), problem="larger than 16 MB")
                else:
                    yield CollectionEntry(name, str(number), page, Origin("wikitext", name), address)
    except (OSError, EOFError, ValueError):
        raise Unreadable("a damaged dump of a wiki") from None


def _pages(file: IO[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """What stands before the first page, and each page from its first sign to its last."""
    head = file.read(_PIECE)
    if b"<mediawiki" not in head[:4_096]:
        raise Unreadable("XML that is not a dump of a wiki")
    return head.partition(b"<page>")[0], _split(file, head)


def _split(file: IO[bytes], waiting: bytes) -> Iterator[bytes]:
    while True:
        start = waiting.find(b"<page>")
        end = waiting.find(b"</page>", start) if start >= 0 else -1
        if end >= 0:
            yield waiting[start : end + 7]
            waiting = waiting[end + 7 :]
            continue
        # of a page that is too long its beginning is enough to tell so
        kept = waiting[max(start, 0) :] if start >= 0 else waiting[-6:]
        piece = file.read(max(_PIECE, len(kept)))
        if not piece:
            return
        waiting = kept + piece


def from_wikitext(origin: Origin, content: bytes) -> Document:
    """A `<page>` of a dump. Raises Unreadable, MissingExtra."""
    try:
        import mwparserfromhell
    except ImportError:
        raise MissingExtra("Reading dumps of wikis", "archives") from None
    tree = parsed(content)
    written = first_text(tree, "text")
    if not written:
        raise Unreadable("no text found")
    text = Composition(origin.longest)
    code = mwparserfromhell.parse(written[: 2 * origin.longest], skip_style_tags=True)
    for template in code.filter_templates(recursive=False):
        if str(template.name).strip().lower().startswith(("infobox", "taxobox", "speciesbox")):
            _box(text, template)
    for section in code.get_sections(flat=True, include_lead=True):
        for heading in section.filter_headings()[:1]:
            text.head(heading.title.strip_code(), heading.level)
            section.remove(heading)
        for link in section.filter_wikilinks():
            if str(link.title).partition(":")[0].strip().lower() in _ASIDE and ":" in str(link.title):
                _remove(section, link)
        for line in section.strip_code(normalize=True, collapse=True).split("\n"):
            text.add(clean(_QUOTES.sub("", line)))
    return text.document(origin.name, first_text(tree, "timestamp"))


def _remove(section: Any, link: Any) -> None:
    with contextlib.suppress(ValueError):  # it stood within another one
        section.remove(link)


def _box(text: Composition, template: Any) -> None:
    for parameter in template.params:
        value = clean(_QUOTES.sub("", parameter.value.strip_code()))
        if value and parameter.showkey and len(value) <= 300:
            text.add(f"{clean(str(parameter.name)).replace('_', ' ')}: {value}")
