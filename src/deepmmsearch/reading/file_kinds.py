"""A file or a page of the web -> its readable text, the pictures it shows and what it says of itself.

Pure: bytes in, a Document out, Unreadable when refused. What is parsed here was written by strangers: `worker` runs it
in a process of its own.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.collection import Collection
from deepmmsearch.reading.document import Document, Origin
from deepmmsearch.reading.titles import page_name, readable_name


@dataclass(frozen=True)
class Later:
    """A function of this package, as `module.name`, imported when it is called: who adds one file waits for one reader,
    not for twenty."""

    function: str

    @property
    def module(self) -> str:
        return f"{__package__}.{self.function.partition('.')[0]}"

    def __call__(self, *given: Any) -> Any:
        return getattr(import_module(self.module), self.function.partition(".")[2])(*given)


PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")


COLLECTIONS: Mapping[str, Collection] = {
    ".zim": Later("zim.zim_entries"),
    **dict.fromkeys((".warc", ".warc.gz"), Later("warc.warc_entries")),
    **dict.fromkeys((".xml", ".xml.bz2"), Later("mediawiki.mediawiki_entries")),
    ".mbox": Later("mailbox_file.mbox_entries"),
    **dict.fromkeys(
        (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"), Later("json_records.json_entries")
    ),
}
"""Files that hold many documents, by extension."""


@dataclass(frozen=True)
class FileKind:
    """`suffixes`: how its files are called; `largest`: bytes of a file that is read. `patience`: how many times as long
    as a page it may take, since it may be a whole book. `read` takes an Origin and bytes, of what `is_text` the decoded
    text and the page's name; it gives a Document, and raises Unreadable with the reason, or MissingExtra."""

    name: str
    suffixes: tuple[str, ...]
    largest: int
    read: Later
    patience: int = 1
    is_text: bool = False


# sections of the manual, as its files end
_MANUAL = (*(f".{n}" for n in range(1, 10)), ".1p", ".3p", ".3pm", ".1ssl", ".3ssl", ".5ssl", ".7ssl", ".3perl", ".man")

KINDS = {
    kind.name: kind
    for kind in (
        # trafilatura needs 14 s for a page of 10 MB; nothing written by people is that long in one page
        FileKind("html", (".html", ".htm", ".xhtml", ".shtml"), 2_000_000, Later("webpage.from_html")),
        FileKind(
            "markdown",
            (".md", ".markdown", ".mdx", ".mkd", ".qmd"),
            8_000_000,
            Later("markdown.from_markdown"),
            is_text=True,
        ),
        FileKind("rst", (".rst", ".rest"), 8_000_000, Later("rst.from_rst"), is_text=True),
        FileKind("text", (".txt", ".text", ".log"), 8_000_000, Later("plain_text.from_text"), is_text=True),
        FileKind("asciidoc", (".adoc", ".asciidoc", ".asc"), 8_000_000, Later("asciidoc.from_asciidoc"), is_text=True),
        FileKind("org", (".org",), 8_000_000, Later("org.from_org"), is_text=True),
        FileKind("manual", _MANUAL, 4_000_000, Later("manual_page.from_manual_page"), is_text=True),
        FileKind("svg", (".svg",), 8_000_000, Later("vector_picture.from_svg")),
        FileKind("pdf", (".pdf",), 64_000_000, Later("pdf.from_pdf"), 4),
        FileKind("docx", (".docx", ".docm", ".dotx"), 64_000_000, Later("docx.from_docx"), 2),
        FileKind("pptx", (".pptx", ".pptm", ".ppsx"), 64_000_000, Later("pptx.from_pptx")),
        FileKind("workbook", (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), 32_000_000, Later("sheets.from_workbook"), 2),
        FileKind("separated", (".csv", ".tsv"), 16_000_000, Later("sheets.from_separated")),
        FileKind("opendocument", (".odt", ".odp"), 64_000_000, Later("opendocument.from_opendocument")),
        FileKind("rtf", (".rtf",), 16_000_000, Later("rtf.from_rtf")),
        FileKind("epub", (".epub",), 64_000_000, Later("epub.from_epub"), 4),
        FileKind("mail", (".eml", ".mht", ".mhtml"), 64_000_000, Later("mail.from_mail")),
        FileKind("msg", (".msg",), 64_000_000, Later("outlook.from_msg")),
        FileKind("notebook", (".ipynb",), 32_000_000, Later("notebook.from_notebook")),
        # entries of collections
        FileKind("record", (), 64_000_000, Later("json_records.from_record")),
        FileKind("wikitext", (), 16_000_000, Later("mediawiki.from_wikitext")),
    )
}
_BY_SUFFIX = {suffix: kind for kind in KINDS.values() for suffix in kind.suffixes}
_PACKED = ".gz"
PAGES = (*_BY_SUFFIX, *(f"{s}{_PACKED}" for s, kind in _BY_SUFFIX.items() if kind.is_text or kind.name == "html"))
"""The extensions of what is read as a page."""
TEXT_NAME = re.compile(
    r"(readme|licen[cs]e|copying|copyright|notice|changelog|changes|news|history|release[_-]?notes|authors|contributors"
    r"|contributing|maintainers|credits|thanks|acknowledge?ments|install|faq|todo)(-\w{1,20})?"
    r"(\.(debian|amd64|source|lesser|lib|old|orig|emacs|linux|windows|macos|unix|packagers?|dev|mit|bsd|gpl|apache)){0,2}"
    r"(\.gz)?",
    re.I,
)
"""Files that are text, though no extension says so: `README`, `LICENSE-MIT`, `changelog.Debian.gz`."""
READERS = tuple(dict.fromkeys(kind.read.module for kind in KINDS.values()))
"""The modules that `read` imports when it needs them."""


def file_origin(path: str, content: bytes) -> Origin:
    """By its extension. Raises Unreadable for what is empty or too large."""
    name = path[: -len(_PACKED)] if path.lower().endswith(_PACKED) else path
    kind = _BY_SUFFIX.get(PurePosixPath(name).suffix.lower(), KINDS["text"])
    if not content.strip():
        raise Unreadable("empty file")
    if len(content) > kind.largest:
        raise Unreadable(f"larger than {kind.largest // 1_000_000} MB")
    return Origin(kind.name, readable_name(name))


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
    kind = KINDS[origin.kind]
    if content.startswith(b"\x1f\x8b") and not origin.address:
        content = _unpacked(content, kind.largest)
    document: Document = _decoded(kind.read, origin, content) if kind.is_text else kind.read(origin, content)
    text = document.text[: origin.longest]
    text = text.rstrip() if document.marks else text.strip()  # which count from the text's beginning
    if not text.strip() and (origin.address or not document.pictures):
        raise Unreadable("no text found" + ("; it may be made by scripts" if origin.kind == "html" else ""))
    return replace(document, title=document.title[:300], text=text)


def _unpacked(content: bytes, most: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        try:
            found = file.read(most + 1)
        except (OSError, EOFError, zlib.error):
            raise Unreadable("a damaged gzip file") from None
    if len(found) > most:
        raise Unreadable(f"unpacks to more than {most // 1_000_000} MB")
    return found


def _decoded(reader: Later, origin: Origin, content: bytes) -> Document:
    from deepmmsearch.reading.charset import decode

    text, guessed = decode(content, origin.charset)
    # a page of the web stands where it was read
    return replace(reader(text, origin.name), charset=guessed, **({"url": None} if origin.address else {}))


def extract(path: str, content: bytes) -> Document:
    """The document of a page file, by its extension. Raises Unreadable with the reason; MissingExtra."""
    return read(file_origin(path, content), content)
