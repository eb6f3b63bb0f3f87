"""A file or a page of the web -> its readable text, the pictures it shows and what it says of itself.

Pure: bytes in, a Document out, Unreadable when refused. What is parsed here was written by strangers: `worker` runs it
in a process of its own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.charset import decode
from deepmmsearch.reading.document import EMPTY_ALT, Document, Kind, Origin, Showing, clean
from deepmmsearch.reading.webpage import MAX_PICTURES, from_html

HTML = (".html", ".htm", ".xhtml")
MARKDOWN = (".md", ".markdown")
TEXT = (".txt", ".text", ".rst")
PDF = (".pdf",)
PAGES = (*HTML, *MARKDOWN, *TEXT, *PDF)
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")

# trafilatura needs 14 s for a page of 10 MB; nothing written by people is that long in one page
MAX_BYTES = {**dict.fromkeys(HTML, 2_000_000), **dict.fromkeys((*MARKDOWN, *TEXT), 8_000_000), ".pdf": 64_000_000}
MAX_PDF_PAGES = 2_000
MAX_FRONT_LINES = 60
_PDF_DATE = re.compile(r"D:(\d{4})(\d{2})(\d{2})")
_PICTURE = re.compile(r"!\[([^\]\n]{0,500})\]\(\s*<?([^)\s>]{1,1000}+)>?(?:\s+\"[^\"\n]*\")?\s*\)")
_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*)$", re.M)


def readable_name(path: str) -> str:
    """`paris_eiffel-tower_01.jpg` -> `paris eiffel tower 01`"""
    return clean(re.sub(r"[_\-+.]+", " ", PurePosixPath(path).stem)) or PurePosixPath(path).name


def page_name(url: str) -> str:
    """The last part of the path, or else the host."""
    parts = urlsplit(url)
    return clean(re.sub(r"[_\-+]+", " ", unquote(parts.path).rstrip("/").rpartition("/")[2])) or parts.netloc


def file_origin(path: str, content: bytes) -> Origin:
    """By its extension. Raises Unreadable for what is empty or too large."""
    suffix = PurePosixPath(path).suffix.lower()
    if not content.strip():
        raise Unreadable("empty file")
    if len(content) > MAX_BYTES[suffix]:
        raise Unreadable(f"larger than {MAX_BYTES[suffix] // 1_000_000} MB")
    kinds: dict[str, Kind] = {**dict.fromkeys(HTML, "html"), **dict.fromkeys(MARKDOWN, "markdown"), ".pdf": "pdf"}
    return Origin(kinds.get(suffix, "text"), readable_name(path))


def page_origin(url: str, declared: str, charset: str, content: bytes, longest: int) -> Origin:
    """By its first bytes and the type that its server declared. Raises Unreadable for what is not a page."""
    kind: Kind
    if content[:1024].lstrip().startswith(b"%PDF-"):
        kind = "pdf"
    elif declared in ("text/html", "application/xhtml+xml") or (not declared and b"<" in content[:1024]):
        kind = "html"
    elif declared == "text/markdown":
        kind = "markdown"
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
        content = content[: MAX_BYTES[".html"] if origin.kind == "html" else 4 * origin.longest]
    match origin.kind:
        case "html":
            document = from_html(origin, content)
        case "pdf":
            document = from_pdf(origin, content)
        case "markdown":
            document = from_markdown(_decoded(origin, content), origin.name)
            if origin.address:  # a page of the web stands where it was read
                document = replace(document, url=None)
        case "text":
            document = from_text(_decoded(origin, content), origin.name)
    text = document.text[: origin.longest].strip()
    if not text and (origin.address or not document.pictures):
        raise Unreadable("no text found" + ("; it may be made by scripts" if origin.kind == "html" else ""))
    return replace(document, title=document.title[:300], text=text)


def extract(path: str, content: bytes) -> Document:
    """The document of a page file, by its extension. Raises Unreadable with the reason; MissingExtra."""
    return read(file_origin(path, content), content)


def _decoded(origin: Origin, content: bytes) -> str:
    return decode(content, origin.charset, guess=bool(origin.address))


def from_text(text: str, name: str) -> Document:
    first, _, rest = text.strip().partition("\n")
    title = clean(first) if rest and 0 < len(first.strip()) <= 100 else name
    return Document(title, text)


def from_pdf(origin: Origin, content: bytes) -> Document:
    try:
        import pypdf
    except ImportError:
        raise MissingExtra("Reading PDF files", "web" if origin.address else "engine") from None
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("encrypted PDF")
        told: Mapping[str, Any] = reader.metadata or {}
        date = _PDF_DATE.match(str(told.get("/CreationDate", "")))
        parts: list[str] = []
        length = 0
        for page in islice(reader.pages, MAX_PDF_PAGES):
            parts.append(page.extract_text())
            length += len(parts[-1])
            if length > origin.longest:
                break
    except Unreadable:
        raise
    except Exception as error:  # pypdf raises nearly anything on a damaged file
        raise Unreadable("damaged PDF") from error
    title = clean(str(told.get("/Title") or "")) or origin.name
    return Document(title, "\n".join(parts), date="-".join(date.groups()) if date else None)


def from_markdown(text: str, name: str) -> Document:
    """`title` and `url` of the front matter, where there is one, are the page's."""
    told, text = _front_matter(text)
    # with the marks that may close it
    lines = (line.rstrip("#").rstrip() or line for line in _HEADING.findall(text))
    headings = tuple(clean(_plain_markdown(line)) for line in lines)
    pictures = []
    for match in islice(_PICTURE.finditer(text), MAX_PICTURES):
        near = _plain_markdown(_around(text, match.start(), match.end()))
        alt = "" if EMPTY_ALT.match(match[1]) else clean(match[1])
        pictures.append(Showing(match[2], alt, near[:400], 2.0 if alt else 0.0))
    title = told.get("title") or (headings[0] if headings else name)
    url = told.get("url", "")
    address = url if url.startswith(("http://", "https://")) else None
    return Document(title, _plain_markdown(text), address, tuple(pictures), headings)


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    """What stands between two lines of dashes above a Markdown page, by name, and the page."""
    first, *lines = text.split("\n", MAX_FRONT_LINES + 1)
    end = next((n for n, line in enumerate(lines[:MAX_FRONT_LINES]) if line.rstrip() == "---"), None)
    if first.rstrip() != "---" or end is None:
        return {}, text
    pairs = (line.partition(":") for line in lines[:end])
    told = {name.strip().lower(): clean(value).strip("\"'") for name, _, value in pairs}
    return told, "\n".join(lines[end + 1 :])


def _around(text: str, start: int, end: int) -> str:
    """The rest of the paragraph that holds the picture, or else the next one."""
    before = text[max(0, start - 2_000) : start].rpartition("\n\n")[2]
    after, _, rest = text[end : end + 4_000].partition("\n\n")
    own = f"{before} {after}".strip()
    return own if len(own) > 20 else rest.strip().partition("\n\n")[0]


def _plain_markdown(text: str) -> str:
    text = re.sub(r"!\[([^\]\n]{0,500})\]\([^)\n]{0,1000}\)", "", text)
    text = re.sub(r"\[([^\]\n]{0,500})\]\([^)\n]{0,1000}\)", r"\1", text)
    text = re.sub(r"<[^<>\n]{1,500}>", "", text)
    text = re.sub(r"^[ \t]*(#{1,6}[ \t]+|>[ \t]?|```.*$|~~~.*$|[-=]{3,}[ \t]*$)", "", text, flags=re.M)
    text = re.sub(r"(\*\*|__|`)(.{1,500}?)\1", r"\2", text)
    text = re.sub(r"(?<!\w)([*_])(\S.{0,300}?)\1(?!\w)", r"\2", text)
    return re.sub(r"^[ \t]*[-*+][ \t]+", "", text, flags=re.M).strip()
