"""A file or a page of the web -> its readable text, the pictures it shows and what it says of itself.

Pure: bytes in, a Document out, Unreadable when refused. What is parsed here was written by strangers: `worker` runs it
in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.collection import Collection
from deepmmsearch.reading.document import Document, Origin
from deepmmsearch.reading.docx import from_docx
from deepmmsearch.reading.epub import from_epub
from deepmmsearch.reading.formats import (
    asciidoc_document,
    markdown_document,
    org_document,
    page_name,
    readable_name,
    rst_document,
    text_document,
)
from deepmmsearch.reading.json_records import from_record, json_entries
from deepmmsearch.reading.mail import from_mail
from deepmmsearch.reading.mailbox_file import mbox_entries
from deepmmsearch.reading.mediawiki import from_wikitext, mediawiki_entries
from deepmmsearch.reading.notebook import from_notebook
from deepmmsearch.reading.opendocument import from_opendocument
from deepmmsearch.reading.outlook import from_msg
from deepmmsearch.reading.pdf import from_pdf
from deepmmsearch.reading.pptx import from_pptx
from deepmmsearch.reading.rtf import from_rtf
from deepmmsearch.reading.sheets import from_separated, from_workbook
from deepmmsearch.reading.vector_picture import from_svg
from deepmmsearch.reading.warc import warc_entries
from deepmmsearch.reading.webpage import from_html
from deepmmsearch.reading.zim import zim_entries

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")


COLLECTIONS: Mapping[str, Collection] = {
    ".zim": zim_entries,
    **dict.fromkeys((".warc", ".warc.gz"), warc_entries),
    **dict.fromkeys((".xml", ".xml.bz2"), mediawiki_entries),
    ".mbox": mbox_entries,
    **dict.fromkeys((".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"), json_entries),
}
"""Files that hold many documents, by extension."""


@dataclass(frozen=True)
class FileKind:
    """`suffixes`: how its files are called; `largest`: bytes of a file that is read. `patience`: how many times as long
    as a page it may take, since it may be a whole book."""

    name: str
    suffixes: tuple[str, ...]
    largest: int
    read: Callable[[Origin, bytes], Document]
    patience: int = 1


KINDS = {
    kind.name: kind
    for kind in (
        # trafilatura needs 14 s for a page of 10 MB; nothing written by people is that long in one page
        FileKind("html", (".html", ".htm", ".xhtml", ".shtml"), 2_000_000, from_html),
        FileKind("markdown", (".md", ".markdown", ".mdx", ".mkd", ".qmd"), 8_000_000, markdown_document),
        FileKind("rst", (".rst", ".rest"), 8_000_000, rst_document),
        FileKind("text", (".txt", ".text", ".log"), 8_000_000, text_document),
        FileKind("asciidoc", (".adoc", ".asciidoc", ".asc"), 8_000_000, asciidoc_document),
        FileKind("org", (".org",), 8_000_000, org_document),
        FileKind("svg", (".svg",), 8_000_000, from_svg),
        FileKind("pdf", (".pdf",), 64_000_000, from_pdf, 4),
        FileKind("docx", (".docx", ".docm", ".dotx"), 64_000_000, from_docx, 2),
        FileKind("pptx", (".pptx", ".pptm", ".ppsx"), 64_000_000, from_pptx),
        FileKind("workbook", (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), 32_000_000, from_workbook, 2),
        FileKind("separated", (".csv", ".tsv"), 16_000_000, from_separated),
        FileKind("opendocument", (".odt", ".odp"), 64_000_000, from_opendocument),
        FileKind("rtf", (".rtf",), 16_000_000, from_rtf),
        FileKind("epub", (".epub",), 64_000_000, from_epub, 4),
        FileKind("mail", (".eml", ".mht", ".mhtml"), 64_000_000, from_mail),
        FileKind("msg", (".msg",), 64_000_000, from_msg),
        FileKind("notebook", (".ipynb",), 32_000_000, from_notebook),
        # entries of collections
        FileKind("record", (), 64_000_000, from_record),
        FileKind("wikitext", (), 16_000_000, from_wikitext),
    )
}
_BY_SUFFIX = {suffix: kind for kind in KINDS.values() for suffix in kind.suffixes}
PAGES = tuple(_BY_SUFFIX)
"""The extensions of what is read as a page."""


def file_origin(path: str, content: bytes) -> Origin:
    """By its extension. Raises Unreadable for what is empty or too large."""
    kind = _BY_SUFFIX[PurePosixPath(path).suffix.lower()]
    if not content.strip():
        raise Unreadable("empty file")
    if len(content) > kind.largest:
        raise Unreadable(f"larger than {kind.largest // 1_000_000} MB")
    return Origin(kind.name, readable_name(path))


def page_origin(url: str, declared: str, charset: str, content: bytes, longest: int) -> Origin:
    """By its first bytes and the type that its server declared. Raises Unreadable for what is not a page."""
    if content[:1024].lstrip().startswith(b"%PDF-"):
        kind = "pdf"
    elif declared in ("text/html", "application/xhtml+xml") or (not declared and b"<" in content[:1024]):
        kind = "html"
    elif declared == "text/markdown":
        kind = "markdown"
    elif declared == "text/x-rst":
        kind = "rst"
    elif declared in ("", "text/plain"):
        kind = "text"
    else:
        raise Unreadable(f"it is not a page, but {declared[:80]}")
    return Origin(kind, page_name(url), charset, url, longest)


def read(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable with the reason; MissingExtra."""
    if not content.strip():
        raise Unreadable("it is empty")
    if origin.address and origin.kind != "pdf":
        # main text comes early, and trafilatura takes seconds for more
        content = content[: KINDS["html"].largest if origin.kind == "html" else 4 * origin.longest]
    document = KINDS[origin.kind].read(origin, content)
    text = document.text[: origin.longest]
    text = text.rstrip() if document.marks else text.strip()  # which count from the text's beginning
    if not text.strip() and (origin.address or not document.pictures):
        raise Unreadable("no text found" + ("; it may be made by scripts" if origin.kind == "html" else ""))
    return replace(document, title=document.title[:300], text=text)


def extract(path: str, content: bytes) -> Document:
    """The document of a page file, by its extension. Raises Unreadable with the reason; MissingExtra."""
    return read(file_origin(path, content), content)
