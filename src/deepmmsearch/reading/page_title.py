"""A page's title without the name of its site: `Paris - Encyclopedia of X` is called Paris.

What stands behind a dash may as well be a part of the title. It is taken off where the page itself says that it is the
site's name, or (`engine/site_names.py`) where many pages of one place end, or begin, with the same words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

# titles have single blanks
_SEPARATOR = re.compile(r"\s?[|·•»«›‹]\s?|\s(?:[-‐‑–—:~/]|::)\s|(?<=\w):\s")
_LONGEST_NAME, _LONGEST_TITLE, _MOST_CUTS = 80, 500, 12
_NAMED = ("og:site_name", "application-name", "apple-mobile-web-app-title", "twitter:site:name")
_SITES = frozenset(("website", "organization", "newsmediaorganization"))
_OF_SITES = ("publisher", "isPartOf")
_NO_NAME = frozenset("www com org net gov edu info docs blog news wiki shop html index static cdn github".split())
_FIRST_PAGES = frozenset("home homepage index welcome start startseite accueil inicio início strona główna".split())


class TitleCut(NamedTuple):
    """A title in two: what it says, and what may name the site. `end`: the latter with what parts them; `last`: it
    stands behind."""

    rest: str
    name: str
    end: str
    last: bool


def cuts_of(title: str) -> Iterator[TitleCut]:
    """The ways to take a title's end or its beginning for a name, the longest names first."""
    found = list(_SEPARATOR.finditer(title))[:_MOST_CUTS] if len(title) <= _LONGEST_TITLE else []
    for one in found:
        yield TitleCut(title[: one.start()].strip(), title[one.end() :].strip(), title[one.start() :], True)
    for one in reversed(found):
        yield TitleCut(title[one.end() :].strip(), title[: one.start()].strip(), title[: one.end()], False)


def without_name(title: str, names: Collection[str], headlines: Collection[str] = ()) -> tuple[str, str]:
    """And what was taken off: what is the same as one of the `names` (as `squeezed` leaves them), or holds one where
    the rest is what the page is called elsewhere (`headlines`). Before the rest, only where it is called so: a site's
    first page says its name and then what it is. A title that is nothing else stays."""
    called, taken = {squeezed(headline) for headline in headlines}, list[str]()
    while cut := next((cut for cut in cuts_of(title) if _is_name(cut, names, called)), None):
        title = cut.rest
        taken.append(cut.name)
    return title, " ".join(dict.fromkeys(taken))


def _is_name(cut: TitleCut, names: Collection[str], called: Collection[str]) -> bool:
    name, rest = squeezed(cut.name), squeezed(cut.rest)
    if rest in names or not says_something(cut.rest):
        return False
    if rest in called:
        return name in names or any(len(known) > 2 and (known in name or name in known) for known in names)
    return cut.last and name in names


def says_something(rest: str) -> bool:
    """A number alone is no title, and neither is what every site calls its first page."""
    letters = sum(map(str.isalpha, rest)) >= 2 or any(ord(letter) > 0x2E80 for letter in rest)
    return letters and squeezed(rest) not in _FIRST_PAGES


def squeezed(text: str) -> str:
    """Letters and digits alone, without case and a leading article."""
    return "".join(filter(str.isalnum, re.sub(r"^the\s+", "", text.strip().casefold())))


def site_names(tree: Any, address: str) -> frozenset[str]:
    """What a page (before its scripts are taken out) and its address call its site, squeezed."""
    found = list(_hosts(address))
    for meta in tree.iter("meta"):
        if (meta.get("property") or meta.get("name") or "").strip().lower() in _NAMED:
            found.append(meta.get("content") or "")
    for script in tree.xpath("//script[@type='application/ld+json']/text()"):
        try:
            found += _told(json.loads(script))
        except (ValueError, RecursionError):
            continue
    return frozenset(name for text in found if len(text) <= _LONGEST_NAME and (name := squeezed(text)))


def _hosts(address: str) -> Iterator[str]:
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return
    yield host.removeprefix("www.")
    yield host
    yield from (label for label in host.split(".") if len(label) > 3 and label not in _NO_NAME)


def _told(data: Any) -> Iterator[str]:
    """Names of the site and of the page's publisher in what is told to search engines."""
    waiting: list[tuple[Any, bool]] = [(data, False)]
    while waiting:
        found, holds_page = waiting.pop()
        if isinstance(found, list):
            waiting += [(one, holds_page) for one in found]
        elif isinstance(found, dict):
            kinds = found.get("@type")
            named = {str(kind).lower() for kind in (kinds if isinstance(kinds, list) else [kinds])}
            if (holds_page or "website" in named) and named & _SITES and isinstance(name := found.get("name"), str):
                yield name
            waiting += [(value, key in _OF_SITES) for key, value in found.items() if isinstance(value, dict | list)]
