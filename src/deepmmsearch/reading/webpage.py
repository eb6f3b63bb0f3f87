"""An HTML page -> its main text, the pictures it shows and what it says of itself."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import Any

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.charset import decode
from deepmmsearch.reading.declared import canonical, language_code
from deepmmsearch.reading.document import Document, Heading, Origin, clean
from deepmmsearch.reading.gates import Gates
from deepmmsearch.reading.main_content import keep_main
from deepmmsearch.reading.page_links import links_of
from deepmmsearch.reading.page_pictures import pictures_of
from deepmmsearch.reading.page_text import HEADINGS, heading_of, lines_of
from deepmmsearch.reading.page_title import site_names, without_name
from deepmmsearch.reading.seen import keep_seen

FOR_ENGINES = "(This page shows no text without scripts. What follows is what it tells search engines.)"

_DECLARED_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=[\s\"']*([A-Za-z0-9_\-]+)", re.I)


def from_html(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    try:
        from lxml import html
    except ImportError:
        raise MissingExtra("Reading HTML pages", "web" if origin.address else "engine") from None
    declared = _DECLARED_CHARSET.search(content[:4096])
    charset = origin.charset or (declared[1].decode("ascii") if declared else "")
    decoded, guessed = decode(content, charset)
    # lxml refuses a str that declares an encoding of its own
    written = re.sub(r"^\s*<\?xml[^>]*\?>", "", decoded)
    try:
        tree = html.document_fromstring(written)
    except Exception as error:  # ParserError, and ValueError on control characters
        raise Unreadable("not readable as HTML") from error
    if _too_deep(tree):
        raise Unreadable("nested too deeply")
    gates, articles = Gates(tree), _articles(tree)
    # a file was read nowhere, but may say twice where it is from
    address = origin.address or canonical("", _attribute(tree, "//meta[@property='og:url']/@content")) or ""
    url = canonical(address, _attribute(tree, "//link[@rel='canonical']/@href"))
    names = site_names(tree, url or address)
    called = (_attribute(tree, "//meta[@property='og:title']/@content"), _first(tree, "//h1"))
    base = _attribute(tree, "//base[@href][1]/@href")
    keep_seen(tree)
    title = _first(tree, "//title") or _first(tree, "//h1") or origin.name
    body = tree.find("body")
    body = body if body is not None else tree
    pictures = tuple(pictures_of(body, base))
    if reason := gates.reason(title, "\n".join(lines_of(body)), origin.address):
        raise Unreadable(reason)
    # it takes the tree apart
    date = _date(deepcopy(tree))
    keep_main(tree, body, title)
    text = "\n".join(lines_of(body)) or (f"{FOR_ENGINES}\n{articles}" if articles else "")
    links = links_of(body, origin.address, base)
    title, site = without_name(title, names, called)
    return Document(
        title,
        text,
        url,
        pictures,
        _headings(body),
        date,
        language_code(str(tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang") or "")),
        charset=guessed,
        links=links,
        site=site,
    )


def _attribute(tree: Any, path: str) -> str:
    return str(tree.xpath(f"string({path})")).strip()


def _date(tree: Any) -> str | None:
    from htmldate import find_date

    try:
        # without its extensive search: a date found somewhere in the text is rarely the page's own
        found: str | None = find_date(tree, extensive_search=False, original_date=True)
    except Exception:  # it meets hostile markup too, and a date is not worth a page
        return None
    return found


def _headings(body: Any) -> tuple[Heading, ...]:
    found = (Heading(heading_of(element), HEADINGS.index(element.tag) + 1) for element in body.iter(*HEADINGS))
    return tuple(heading for heading in found if heading.text)


def _too_deep(tree: Any, limit: int = 200) -> bool:
    from lxml import etree

    depth = 0
    for event, _ in etree.iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > limit:
            return True
    return False


def _articles(tree: Any) -> str:
    """What the page tells search engines that its articles say."""
    texts: list[str] = []
    for script in tree.xpath("//script[@type='application/ld+json']/text()"):
        try:
            waiting = [json.loads(script)]
        except (ValueError, RecursionError):
            continue
        while waiting:
            found = waiting.pop()
            if isinstance(found, dict):
                if isinstance(text := found.get("articleBody"), str):
                    texts.append(text)
                waiting += found.values()
            elif isinstance(found, list):
                waiting += found
    return max(texts, key=len, default="")


def _first(tree: Any, path: str) -> str:
    found = tree.xpath(path)
    return clean(found[0].text_content()) if found else ""
