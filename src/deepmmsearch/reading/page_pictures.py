"""The pictures that an HTML page shows, wherever it names their files, and what it says of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

from deepmmsearch.reading.document import EMPTY_ALT, Showing, clean

MAX_PICTURES = 500
LONGEST_ADDRESS = 2_000

# where scripts that load pictures late find their addresses
_LATE = (
    "data-src",
    "data-original",
    "data-lazy-src",
    "data-lazy",
    "data-url",
    "data-image",
    "data-echo",
    "data-hi-res-src",
)
_LATE_SETS = ("data-srcset", "data-lazy-srcset", "data-original-set")
_DESCRIPTOR = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)[wxh]")


def pictures_of(body: Any, base: str = "") -> list[Showing]:
    """`base`: what its addresses are relative to, where that is not the page."""
    shown: list[Showing] = []
    for image in body.iter("img"):
        src = next(
            (src for src in _sources(image) if src and not src.startswith("data:") and len(src) <= LONGEST_ADDRESS), ""
        )
        if not src:
            continue
        boilerplate = any(a.tag in ("nav", "footer", "header") for a in image.iterancestors())
        alt = clean(image.get("alt") or image.get("title") or "")
        alt = "" if EMPTY_ALT.match(alt) else alt
        caption = _caption(image)
        near = _near(image)
        rank = 2.0 * bool(alt) + 1.0 * bool(caption) + 0.5 * bool(near) - 2.0 * boilerplate - 0.01 * min(len(shown), 50)
        snippet = " ".join(part for part in (caption if alt else "", near) if part)
        shown.append(Showing(_joined(base, src), (alt or caption)[:300], snippet[:600], rank))
        if len(shown) == MAX_PICTURES:
            break
    return shown


def has_address(image: Any) -> bool:
    return any(src and not src.startswith("data:") for src in _sources(image))


def _sources(image: Any) -> Iterator[str]:
    """The likeliest first: a picture that names a late one beside its own shows a placeholder."""
    yield from ((image.get(name) or "").strip() for name in _LATE)
    yield from (_largest(image.get(name) or "") for name in _LATE_SETS)
    yield (image.get("src") or "").strip()
    yield _largest(image.get("srcset") or "")
    parent = image.getparent()
    while parent is not None and parent.tag == "source":  # the parser lets pictures stand within an open <source>
        parent = parent.getparent()
    if parent is not None and parent.tag == "picture":
        for source in parent.iter("source"):
            yield _largest(source.get("srcset") or source.get("data-srcset") or "")


def _largest(candidates: str) -> str:
    """The address of a `srcset` that is said to be the widest or densest."""
    found = list(_candidates(candidates[:10_000]))
    return max(found, key=lambda each: each[0])[1] if found else ""


def _candidates(text: str) -> Iterator[tuple[float, str]]:
    """Size and address of each, as HTML reads them: an address may hold commas, and end with the one that follows."""
    address, size = "", 1.0
    for token in text.split():
        ends = not address and token.endswith(",")
        if not address:
            address = token.strip(",")
        else:
            said, comma, rest = token.partition(",")
            if described := _DESCRIPTOR.fullmatch(said):
                size = float(described[1])
            if comma:
                yield size, address
                address, size, ends = rest.rstrip(","), 1.0, rest.endswith(",")
        if ends and address:
            yield size, address
            address = ""
    if address:
        yield size, address


def _joined(base: str, src: str) -> str:
    try:
        if not base or urlsplit(src).scheme or src.startswith("/"):
            return src if src.startswith("//") or not base else urljoin(base, src)
        # urljoin drops the dots of a relative base, which only the page's own place resolves
        return (
            urljoin(base, src) if urlsplit(base).scheme or base.startswith("/") else f"{base.rpartition('/')[0]}/{src}"
        )
    except ValueError:
        return src


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
