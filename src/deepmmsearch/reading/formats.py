"""One file -> its readable text and the pictures it shows. Pure: bytes in, a Document out, Unreadable when refused."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import PurePosixPath

from deepmmsearch.errors import MissingExtra
from deepmmsearch.reading.document import EMPTY_ALT, Document, Showing, Unreadable, clean, decode
from deepmmsearch.reading.webpage import from_html

HTML = (".html", ".htm", ".xhtml")
MARKDOWN = (".md", ".markdown")
TEXT = (".txt", ".text", ".rst")
PDF = (".pdf",)
PAGES = (*HTML, *MARKDOWN, *TEXT, *PDF)
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")

# trafilatura needs 14 s for a page of 10 MB; nothing written by people is that long in one page
MAX_BYTES = {**dict.fromkeys(HTML, 2_000_000), **dict.fromkeys((*MARKDOWN, *TEXT), 8_000_000), ".pdf": 64_000_000}
MAX_TEXT = 4_000_000
MAX_PDF_PAGES = 2_000
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", re.M)


def readable_name(path: str) -> str:
    """`paris_eiffel-tower_01.jpg` -> `paris eiffel tower 01`"""
    return clean(re.sub(r"[_\-+.]+", " ", PurePosixPath(path).stem)) or PurePosixPath(path).name


def extract(path: str, content: bytes) -> Document:
    """The document of a page file, by its extension. Raises Unreadable with the reason."""
    suffix = PurePosixPath(path).suffix.lower()
    if not content.strip():
        raise Unreadable("empty file")
    if len(content) > MAX_BYTES[suffix]:
        raise Unreadable(f"larger than {MAX_BYTES[suffix] // 1_000_000} MB")
    if suffix in HTML:
        document = from_html(content, readable_name(path))
    elif suffix in MARKDOWN:
        document = from_markdown(decode(content), readable_name(path))
    elif suffix in PDF:
        document = from_pdf(content, readable_name(path))
    else:
        document = from_text(decode(content), readable_name(path))
    if not document.text.strip() and not document.pictures:
        raise Unreadable("no text found")
    return replace(document, title=document.title[:300], text=document.text[:MAX_TEXT])


def from_text(text: str, name: str) -> Document:
    first, _, rest = text.strip().partition("\n")
    title = clean(first) if rest and 0 < len(first.strip()) <= 100 else name
    return Document(title, text)


def from_pdf(content: bytes, name: str) -> Document:
    try:
        import pypdf
    except ImportError:
        raise MissingExtra("Reading PDF files", "engine") from None
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("encrypted PDF")
        title = clean(str((reader.metadata.title if reader.metadata else None) or "")) or name
        text = "\n".join(page.extract_text() for page in reader.pages[:MAX_PDF_PAGES])
    except Unreadable:
        raise
    except Exception as error:  # pypdf raises nearly anything on a damaged file
        raise Unreadable("damaged PDF") from error
    return Document(title, text)


def from_markdown(text: str, name: str) -> Document:
    headings = tuple(clean(_plain_markdown(line)) for line in _HEADING.findall(text))
    pictures = []
    for match in re.finditer(r"!\[([^\]\n]{0,500})\]\(\s*<?([^)\s>]{1,1000})>?(?:\s+\"[^\"\n]*\")?\s*\)", text):
        near = _plain_markdown(_around(text, match.start(), match.end()))
        alt = "" if EMPTY_ALT.match(match[1]) else clean(match[1])
        pictures.append(Showing(match[2], alt, near[:400], 2.0 if alt else 0.0))
    title = headings[0] if headings else ""
    return Document(title or name, _plain_markdown(text), None, tuple(pictures), headings)


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
