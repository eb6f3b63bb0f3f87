"""Where an HTML page leads."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any
from urllib.parse import urljoin

from deepmmsearch.reading.document import clean
from deepmmsearch.redaction import without_login
from deepmmsearch.types import Link

MAX_LINKS = 300
_WEB = re.compile(r"https?://[^/\s]", re.IGNORECASE)
_WEB_OR_PATH = re.compile(r"https?://[^/\s]|(?![a-z][a-z\d+.-]{0,20}:)[^\s]", re.IGNORECASE)
_MENUS = frozenset(("nav", "footer", "form", "button"))


def links_of(body: Any, address: str, base: str) -> tuple[Link, ...]:
    """Each address once, in the order of the page; none that stands in a menu, or leads to another part of the page.
    Those of a file (`address` "") may be relative to it."""
    found: dict[str, Link] = {address.partition("#")[0]: Link("", "")}
    for anchor in islice(body.iter("a"), 20 * MAX_LINKS):
        text = clean(anchor.text_content())[:200] if anchor.get("href") else ""
        if not text or any(a.tag in _MENUS for a in anchor.iterancestors()):
            continue
        try:
            joined = urljoin(urljoin(address, base), anchor.get("href").strip())
        except ValueError:
            continue
        url = without_login(joined.partition("#")[0])
        if (_WEB if address else _WEB_OR_PATH).match(url) and len(url) <= 2_000:
            found.setdefault(url, Link(text, url))
        if len(found) > MAX_LINKS:
            break
    return tuple(found.values())[1:]
