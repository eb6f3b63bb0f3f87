"""A reply of a web server -> its title, main text, date, language and canonical address.

Pure, and run by `tools.reader` in a process of its own: what is parsed here was written by strangers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from deepmmsearch.errors import MissingExtra
from deepmmsearch.reading.charset import known_charset
from deepmmsearch.reading.document import Unreadable, clean
from deepmmsearch.reading.webpage import from_html
from deepmmsearch.reading.worker import LIBRARIES, serve

# Main text comes early, and trafilatura takes seconds for more.
MAX_HTML = 2_000_000
MAX_PDF_PAGES = 500
MEMORY = 1024**3

_DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_\-]+)", re.I)
_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(?=[-_]|$)")
_PDF_DATE = re.compile(r"D:(\d{4})(\d{2})(\d{2})")


def read(request: Mapping[str, str], content: bytes) -> dict[str, Any]:
    """`request`: url, type and charset as the server named them, language likewise, and the `longest` text. The answer
    has the fields of `tools.base.Page`. Raises Unreadable with the reason."""
    url, longest = request["url"], int(request["longest"])
    if not content.strip():
        raise Unreadable("it is empty")
    kind = request["type"]
    if content[:1024].lstrip().startswith(b"%PDF-"):
        page = _pdf(content, longest)
    elif kind in ("text/html", "application/xhtml+xml") or (not kind and b"<" in content[:1024]):
        page = _html(content[:MAX_HTML], request["charset"], url)
    elif kind in ("", "text/plain", "text/markdown"):
        page = {"text": decode(content[: 4 * longest], request["charset"])}
    else:
        raise Unreadable(f"it is not a page, but {kind[:80]}")
    text = str(page["text"])[:longest].strip()
    if not text:
        raise Unreadable("it has no text; it may be made by scripts")
    language = page.get("language") or _language(request["language"])
    return {**page, "text": text, "title": str(page.get("title") or _name(url))[:300], "language": language}


def _html(content: bytes, charset: str, url: str) -> dict[str, Any]:
    declared = _DECLARED.search(content[:4096])
    source = decode(content, charset or (declared[1].decode("ascii") if declared else ""))
    document = from_html(source.encode("utf-8", "replace"), "")
    return {"title": document.title, "text": document.text, **_details(source, url)}


def _details(source: str, url: str) -> dict[str, Any]:
    """Date, language and canonical address, each where the page says it."""
    from htmldate import find_date
    from lxml import html

    tree = html.document_fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", source))
    canonical = str(tree.xpath("string(//link[@rel='canonical']/@href)")).strip()
    try:
        # without its extensive search: a date found somewhere in the text is rarely the page's own
        date = find_date(tree, extensive_search=False, original_date=True)
    except Exception:  # it meets hostile markup too, and a date is not worth a page
        date = None
    return {
        "date": date,
        "language": _language(str(tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang") or "")),
        "canonical": same_site(url, canonical),
    }


def same_site(url: str, canonical: str) -> str | None:
    """The canonical address, if it is one of the same site: a page must not pass for another's."""
    if not canonical or len(canonical) > 2_000 or re.search(r"[\s\\<>\"]", canonical):
        return None
    try:
        full = urljoin(url, canonical)
        own, other = (urlsplit(u) for u in (url, full))
        hosts = {re.sub(r"^(www|m|amp)\.", "", (u.hostname or "").lower()) for u in (own, other)}
    except ValueError:
        return None
    return full if len(hosts) == 1 and other.scheme in ("http", "https") and "@" not in other.netloc else None


def _pdf(content: bytes, longest: int) -> dict[str, Any]:
    try:
        import pypdf
    except ImportError:
        raise MissingExtra("Reading PDF files", "web") from None
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it is an encrypted PDF")
        told: Mapping[str, Any] = reader.metadata or {}
        date = _PDF_DATE.match(str(told.get("/CreationDate", "")))
        parts: list[str] = []
        for number, page in enumerate(reader.pages):
            if number == MAX_PDF_PAGES or sum(map(len, parts)) > longest:
                break
            parts.append(page.extract_text())
    except Unreadable:
        raise
    except Exception as error:  # pypdf raises nearly anything on a damaged file
        raise Unreadable("it is a damaged PDF") from error
    title = clean(str(told.get("/Title") or ""))
    return {"title": title, "text": "\n".join(parts), "date": "-".join(date.groups()) if date else None}


def decode(content: bytes, charset: str = "") -> str:
    """As text: by its byte order mark, the charset that was declared, UTF-8, or the likeliest by its letters."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    declared = known_charset(charset)
    for encoding in filter(None, (declared, "utf-8-sig")):
        text = content.decode(encoding, "replace")
        # one broken letter, or one cut in half, does not make another encoding of it
        if text.count("\ufffd") <= 1 + len(text) // 200 and "\0" not in text:
            return text
    from charset_normalizer import from_bytes

    best = from_bytes(content[:50_000]).best()
    text = content.decode(best.encoding, "replace") if best else "\0"
    if "\0" in text:
        raise Unreadable("it is not text in any encoding known")
    return text


def _language(value: str) -> str | None:
    found = _LANGUAGE.match(value.strip())
    return found[0].lower() if found else None


def _name(url: str) -> str:
    """For pages without a title: the last part of the path, or else the host."""
    parts = urlsplit(url)
    return clean(re.sub(r"[_\-+]+", " ", unquote(parts.path).rstrip("/").rpartition("/")[2])) or parts.netloc


if __name__ == "__main__":
    serve(read, MEMORY, (*LIBRARIES, "htmldate"))
