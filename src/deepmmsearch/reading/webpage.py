"""An HTML page -> its main text and the pictures it shows.

Long pages go through trafilatura; short ones through a plain walk that loses nothing of the main text (main-text
finders drop the few sentences that a short page consists of).
"""

from __future__ import annotations

import re
from typing import Any

from deepmmsearch.errors import MissingExtra
from deepmmsearch.reading.document import EMPTY_ALT, SPACES, Document, Showing, Unreadable, clean, decode

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
_DECLARED_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_\-]+)", re.I)


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
    body = body if body is not None else tree
    url = canonical if _is_web_address(canonical) else None
    return Document(title, _page_text(body, source), url, tuple(_pictures(body)), _headings(body))


def _headings(body: Any) -> tuple[str, ...]:
    found = (clean(element.text_content()) for element in body.iter("h1", "h2", "h3", "h4", "h5", "h6"))
    return tuple(dict.fromkeys(text for text in found if text))


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
        if len(shown) == 500:
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
