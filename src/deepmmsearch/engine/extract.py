"""One file -> its readable text and the pictures it shows. Pure: bytes in, a Document out, `Unreadable` when refused.

Long pages go through trafilatura; short ones through a plain walk that loses nothing of the main text (main-text
finders drop the few sentences that a short page consists of).
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from deepmmsearch.errors import MissingExtra

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
SHORT_PAGE = 6_000  # characters of body text up to which the plain walk is used

_BLOCKS = frozenset(
    word
    for line in (
        "address article aside blockquote body caption dd details dialog div dl dt fieldset figcaption figure footer",
        "h1 h2 h3 h4 h5 h6 header hr li main ol p pre section summary table tbody thead tfoot tr ul br",
    )
    for word in line.split()
)
_DROPPED = frozenset(
    word
    for line in ("script style noscript template nav footer form button", "select option svg iframe head object")
    for word in line.split()
)
_SPACES = re.compile(r"\s+")
_DECLARED_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_\-]+)", re.I)
_EMPTY_ALT = re.compile(r"^(image|img|photo|picture|logo|icon|thumbnail|untitled)?\W*$", re.I)


class Unreadable(Exception):
    """The file is not indexed; the message is the reason, in the words of the build summary."""


@dataclass(frozen=True)
class Showing:
    """A picture that a page shows: where it is (as written in the page), what the page says of it, and how telling
    that is (`rank`)."""

    src: str
    title: str
    snippet: str
    rank: float


@dataclass(frozen=True)
class Document:
    """`url` is the canonical one that the page itself names, or None."""

    title: str
    text: str
    url: str | None = None
    pictures: tuple[Showing, ...] = field(default=())


def readable_name(path: str) -> str:
    """`paris_eiffel-tower_01.jpg` -> `paris eiffel tower 01`"""
    return _clean(re.sub(r"[_\-+.]+", " ", PurePosixPath(path).stem)) or PurePosixPath(path).name


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
    return Document(document.title[:300], document.text[:MAX_TEXT], document.url, document.pictures)


def decode(content: bytes, declared: str | None = None) -> str:
    """UTF-8, or what a byte order mark or the page itself declares; anything else is refused rather than guessed."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        declared = "utf-16"
    for encoding in filter(None, ("utf-8-sig", declared)):
        try:
            text = content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        if "\0" in text:
            break
        return text
    raise Unreadable("not text in UTF-8 or a declared encoding")


def from_text(text: str, name: str) -> Document:
    first, _, rest = text.strip().partition("\n")
    title = _clean(first) if rest and 0 < len(first.strip()) <= 100 else name
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
        title = _clean(str((reader.metadata.title if reader.metadata else None) or "")) or name
        text = "\n".join(page.extract_text() for page in reader.pages[:MAX_PDF_PAGES])
    except Unreadable:
        raise
    except Exception as error:  # pypdf raises nearly anything on a damaged file
        raise Unreadable("damaged PDF") from error
    return Document(title, text)


def from_markdown(text: str, name: str) -> Document:
    heading = re.search(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", text, re.M)
    pictures = []
    for match in re.finditer(r"!\[([^\]\n]{0,500})\]\(\s*<?([^)\s>]{1,1000})>?(?:\s+\"[^\"\n]*\")?\s*\)", text):
        near = _plain_markdown(_around(text, match.start(), match.end()))
        alt = "" if _EMPTY_ALT.match(match[1]) else _clean(match[1])
        pictures.append(Showing(match[2], alt, near[:400], 2.0 if alt else 0.0))
    title = _clean(_plain_markdown(heading[1])) if heading else ""
    return Document(title or name, _plain_markdown(text), None, tuple(pictures))


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


def from_html(content: bytes, name: str) -> Document:
    try:
        from lxml import html
    except ImportError:
        raise MissingExtra("Reading HTML pages", "engine") from None
    declared = _DECLARED_CHARSET.search(content[:4096])
    source = decode(content, declared[1].decode("ascii") if declared else None)
    # lxml refuses a str that declares an encoding of its own
    source = re.sub(r"^\s*<\?xml[^>]*\?>", "", source)
    try:
        tree = html.document_fromstring(source)
    except Exception as error:  # ParserError, and ValueError on control characters
        raise Unreadable("not readable as HTML") from error
    if _too_deep(tree):
        raise Unreadable("nested too deeply")
    title = _first(tree, "//title") or _first(tree, "//h1") or name
    canonical = (tree.xpath("string(//link[@rel='canonical']/@href)") or "").strip()
    body = tree.find("body")
    text = _page_text(body if body is not None else tree, source)
    pictures = tuple(_pictures(body if body is not None else tree))
    return Document(title, text, canonical if _is_web_address(canonical) else None, pictures)


def _is_web_address(url: str) -> bool:
    return bool(re.match(r"https?://[^\s<>\"]{1,2000}$", url))


def _too_deep(tree: Any, limit: int = 200) -> bool:
    from lxml import etree

    depth = 0
    for event, _ in etree.iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > limit:
            return True
    return False


def _page_text(body: Any, source: str) -> str:
    whole = visible_text(body)
    mains = [visible_text(element) for element in body.xpath(".//main | .//article")]
    main = max(mains, key=len, default="")
    plain = main if len(main) >= 0.4 * len(whole) else whole
    if len(plain) <= SHORT_PAGE:
        return plain
    try:
        import trafilatura
    except ImportError:
        raise MissingExtra("Reading HTML pages", "engine") from None
    found = trafilatura.extract(source, fast=True, include_comments=False, include_tables=True) or ""
    return found if len(found) >= 0.25 * len(plain) else plain


def visible_text(element: Any) -> str:
    """The text a reader sees, one line per block; a table's row is one line, its cells joined by ": " or " | "."""
    parts: list[str] = []
    _walk(element, parts)
    lines = (_SPACES.sub(" ", line).strip(" |") for line in "".join(parts).split("\x00"))
    return "\n".join(line for line in lines if line.strip(":| "))


def _walk(root: Any, parts: list[str]) -> None:
    from lxml import etree

    skipping = None
    for event, element in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        if event in ("comment", "pi"):
            if skipping is None and element.tail:
                parts.append(element.tail)
            continue
        tag = element.tag
        if event == "start":
            if skipping is None and tag in _DROPPED:
                skipping = element
            elif skipping is None:
                parts.append(_opening(element))
                parts.append(element.text or "")
            continue
        if skipping is element:
            skipping = None
        elif skipping is not None:
            continue
        else:
            parts.append("\x00" if tag in _BLOCKS and tag != "dt" else "")
        if element is not root:
            parts.append(element.tail or "")


def _opening(element: Any) -> str:
    if element.tag in ("td", "th"):
        before = element.getprevious()
        if before is None:
            return ""
        return ": " if before.tag == "th" or len(element.getparent()) == 2 else " | "
    if element.tag == "dd" and (before := element.getprevious()) is not None and before.tag == "dt":
        return ": "
    return "\x00" if element.tag in _BLOCKS else ""


def _first(tree: Any, path: str) -> str:
    found = tree.xpath(path)
    return _clean(found[0].text_content()) if found else ""


def _clean(text: str) -> str:
    return _SPACES.sub(" ", text).strip()


def _pictures(body: Any) -> list[Showing]:
    shown: list[Showing] = []
    for image in body.iter("img"):
        src = (image.get("src") or image.get("data-src") or "").strip()
        if not src or src.startswith("data:") or len(src) > 2_000:
            continue
        boilerplate = any(a.tag in ("nav", "footer", "header") for a in image.iterancestors())
        alt = _clean(image.get("alt") or image.get("title") or "")
        alt = "" if _EMPTY_ALT.match(alt) else alt
        caption = _caption(image)
        near = _near(image)
        rank = 2.0 * bool(alt) + 1.0 * bool(caption) + 0.5 * bool(near) - 2.0 * boilerplate - 0.01 * min(len(shown), 50)
        snippet = " ".join(part for part in (caption if alt else "", near) if part)
        shown.append(Showing(src, (alt or caption)[:300], snippet[:600], rank))
        if len(shown) == 500:
            break
    return shown


def _caption(image: Any) -> str:
    for ancestor in image.iterancestors("figure"):
        captions = ancestor.xpath(".//figcaption")
        return _clean(captions[0].text_content()) if captions else ""
    return ""


def _near(image: Any) -> str:
    """The paragraph that holds the picture, or else the next one, or else the one before."""
    for ancestor in image.iterancestors("p", "td", "li"):
        if len(text := _clean(ancestor.text_content())) > 20:
            return text[:400]
    for axis in ("following::p[normalize-space()][1]", "preceding::p[normalize-space()][1]"):
        for element in image.xpath(axis):
            return _clean(element.text_content())[:400]
    return ""
