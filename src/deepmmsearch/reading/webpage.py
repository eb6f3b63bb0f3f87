"""An HTML page -> its main text and the pictures it shows.

Long pages go through trafilatura; short ones through a plain walk that loses nothing of the main text (main-text
finders drop the few sentences that a short page consists of).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.charset import decode
from deepmmsearch.reading.document import EMPTY_ALT, SPACES, Document, Origin, Showing, clean

MAX_PICTURES = 500
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
_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(?=[-_]|$)")
_DECLARED_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=[\s\"']*([A-Za-z0-9_\-]+)", re.I)


def from_html(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    try:
        from lxml import html
    except ImportError:
        raise MissingExtra("Reading HTML pages", "web" if origin.address else "engine") from None
    declared = _DECLARED_CHARSET.search(content[:4096])
    charset = origin.charset or (declared[1].decode("ascii") if declared else "")
    # lxml refuses a str that declares an encoding of its own
    written = re.sub(r"^\s*<\?xml[^>]*\?>", "", decode(content, charset, guess=bool(origin.address)))
    try:
        tree = html.document_fromstring(written)
    except Exception as error:  # ParserError, and ValueError on control characters
        raise Unreadable("not readable as HTML") from error
    if _too_deep(tree):
        raise Unreadable("nested too deeply")
    title = _first(tree, "//title") or _first(tree, "//h1") or origin.name
    body = tree.find("body")
    body = body if body is not None else tree
    return Document(
        title,
        _page_text(body, written),
        canonical(
            # a file was read nowhere, but may say twice where it is from
            origin.address or canonical("", str(tree.xpath("string(//meta[@property='og:url']/@content)"))) or "",
            str(tree.xpath("string(//link[@rel='canonical']/@href)")),
        ),
        tuple(_pictures(body)),
        _headings(body),
        _date(tree) if origin.address else None,  # last: it takes the tree apart
        language_code(str(tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang") or "")),
    )


def canonical(address: str, named: str) -> str | None:
    """The canonical address that a page names, without fragment and default port. One that was read at an address names
    one of its own site: of the same registrable domain, by the public suffix list."""
    named = named.strip()
    if not named or len(named) > 2_000 or re.search(r"[\s\\<>\"]", named):
        return None
    try:
        own, other = urlsplit(address), urlsplit(urljoin(address, named))
        host, port = other.hostname, other.port
    except ValueError:
        return None
    if other.scheme not in ("http", "https") or "@" in other.netloc or not host:
        return None
    if address and not _same_site(own.hostname or "", host):
        return None
    told = f"[{host}]" if ":" in host else host
    place = told if port in (None, 80 if other.scheme == "http" else 443) else f"{told}:{port}"
    return other._replace(netloc=place, fragment="").geturl()


def _same_site(one: str, other: str) -> bool:
    if one == other:
        return True
    from tld import get_fld

    # alice.github.io and bob.github.io are two sites, whose names end in a public suffix that is longer than one word
    sites = [get_fld(f"https://{host}", fail_silently=True) for host in (one, other)]
    if any(sites):
        return sites[0] == sites[1]
    return re.sub(r"^(www|m|amp)\.", "", one) == re.sub(r"^(www|m|amp)\.", "", other)


def language_code(value: str) -> str | None:
    """Of a language tag: "en" of "en-GB"."""
    found = _LANGUAGE.match(value.strip())
    return found[0].lower() if found else None


def _date(tree: Any) -> str | None:
    from htmldate import find_date

    try:
        # without its extensive search: a date found somewhere in the text is rarely the page's own
        found: str | None = find_date(tree, extensive_search=False, original_date=True)
    except Exception:  # it meets hostile markup too, and a date is not worth a page
        return None
    return found


def _headings(body: Any) -> tuple[str, ...]:
    found = (clean(element.text_content()) for element in body.iter("h1", "h2", "h3", "h4", "h5", "h6"))
    return tuple(dict.fromkeys(text for text in found if text))


def _too_deep(tree: Any, limit: int = 200) -> bool:
    from lxml import etree

    depth = 0
    for event, _ in etree.iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > limit:
            return True
    return False


def _page_text(body: Any, written: str) -> str:
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
    found = trafilatura.extract(written, fast=True, include_comments=False, include_tables=True) or ""
    return found if len(found) >= 0.25 * len(plain) else plain


def visible_text(element: Any) -> str:
    """The text a reader sees, one line per block; a table's row is one line, its cells joined by ": " or " | "."""
    parts: list[str] = []
    _walk(element, parts)
    lines = (SPACES.sub(" ", line).strip(" |") for line in "".join(parts).split("\x00"))
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
    return clean(found[0].text_content()) if found else ""


def _pictures(body: Any) -> list[Showing]:
    shown: list[Showing] = []
    for image in body.iter("img"):
        src = (image.get("src") or image.get("data-src") or "").strip()
        if not src or src.startswith("data:") or len(src) > 2_000:
            continue
        boilerplate = any(a.tag in ("nav", "footer", "header") for a in image.iterancestors())
        alt = clean(image.get("alt") or image.get("title") or "")
        alt = "" if EMPTY_ALT.match(alt) else alt
        caption = _caption(image)
        near = _near(image)
        rank = 2.0 * bool(alt) + 1.0 * bool(caption) + 0.5 * bool(near) - 2.0 * boilerplate - 0.01 * min(len(shown), 50)
        snippet = " ".join(part for part in (caption if alt else "", near) if part)
        shown.append(Showing(src, (alt or caption)[:300], snippet[:600], rank))
        if len(shown) == MAX_PICTURES:
            break
    return shown


def _caption(image: Any) -> str:
    for ancestor in image.iterancestors("figure"):
        captions = ancestor.xpath(".//figcaption")
        return clean(captions[0].text_content()) if captions else ""
    return ""


def _near(image: Any) -> str:
    """The paragraph that holds the picture, or else the next one, or else the one before."""
    for ancestor in image.iterancestors("p", "td", "li"):
        if len(text := clean(ancestor.text_content())) > 20:
            return text[:400]
    for axis in ("following::p[normalize-space()][1]", "preceding::p[normalize-space()][1]"):
        for element in image.xpath(axis):
            return clean(element.text_content())[:400]
    return ""
