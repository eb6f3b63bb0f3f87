"""The address and the language that a page names as its own."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(?=[-_]|$)")


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
