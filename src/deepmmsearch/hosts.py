"""Which requests a server answers: those that call it by a name of its own and come from no page of another site.

A page that somebody opens in a browser may send requests to a server on the same machine, and under the page's own name
if that name suddenly leads here (DNS rebinding). The `Origin` or the `Host` of such a request tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from deepmmsearch.errors import UserError

LOCAL = ("localhost", "127.0.0.1", "::1")
_AUTHORITY = re.compile(r"(?:\[(?P<address>[\dA-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::(?P<port>\d{1,5})?)?", re.ASCII)
_PORTS = {"http": 80, "https": 443}


class Refusal(NamedTuple):
    """A status of HTTP, and a sentence for who asked."""

    status: int
    reason: str


class Authority(NamedTuple):
    """The `name:port` of an address; the name as `_normal` writes it, the port None where it is left out."""

    name: str
    port: int | None


class PageOrigin(NamedTuple):
    """Where a page comes from; the port is never left out."""

    scheme: str
    name: str
    port: int


class Hosts:
    """The names of a server: those of this machine for itself, and those that its user allows, without a port. Raises
    UserError for what is not the name or the address of a host. origins: of other sites whose pages may ask, such as
    `https://example.org`."""

    def __init__(self, allowed: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._names = frozenset(map(_named, (*LOCAL, *allowed)))
        self._origins = frozenset(map(_other_site, origins))

    def refuse(self, headers: Iterable[tuple[str, str]], arrived: str, target: str = "/") -> Refusal | None:
        """Why a request is not answered, or None.

        headers: all of them, as they came. arrived: the address of this machine at which the connection came in, under
        which it may be called, too. target: the second word of the request's first line.
        """
        told = [(name.lower(), value.strip()) for name, value in headers]
        called = [value for name, value in told if name == "host"]
        own = self._names | {_normal(arrived)}
        host = _authority(called[0]) if len(called) == 1 else None
        if host is None:
            return Refusal(400, "The request needs one Host header with a name or an address in it.")
        if host.name not in own or not _is_own(target, own):
            return Refusal(403, "This server has another name. Whoever started it may add one: --allow-host NAME.")
        origins = [value for name, value in told if name == "origin"]
        foreign = _is_part_of_a_foreign_page(dict(told)) if not origins else len(origins) > 1
        if foreign or any(self._is_foreign(origin, host, own) for origin in origins):
            return Refusal(403, "Pages of other sites are not answered.")
        return None

    def _is_foreign(self, origin: str, host: Authority, own: frozenset[str]) -> bool:
        site = _site(origin)
        if site is None:
            return True
        usual = _PORTS[site.scheme]
        return site not in self._origins and (site.name not in own or site.port != (host.port or usual))


def _is_own(target: str, own: frozenset[str]) -> bool:
    """Only a target that is a whole address has a name, and that one counts before the header's."""
    if target.startswith("/") or target == "*":
        return True
    called = _site(target)
    return called is not None and called.name in own


def _is_part_of_a_foreign_page(told: Mapping[str, str]) -> bool:
    """As pictures and scripts are, which browsers ask for without an origin; who follows a link here is welcome."""
    return told.get("sec-fetch-site") in ("cross-site", "same-site") and told.get("sec-fetch-mode") != "navigate"


def _site(address: str) -> PageOrigin | None:
    """Of a whole address, as a browser names the site of a page."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    found = _authority(parts.netloc) if parts.scheme in _PORTS else None
    return None if found is None else PageOrigin(parts.scheme, found.name, found.port or _PORTS[parts.scheme])


def _other_site(origin: str) -> PageOrigin:
    site = _site(origin)
    if site is None or urlsplit(origin).path not in ("", "/"):
        raise UserError(f"{origin!r} is not the origin of a site. Give one such as https://example.org.")
    return site


def _authority(text: str) -> Authority | None:
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    return Authority(_normal(found["address"] or found["name"]), int(found["port"]) if found["port"] else None)


def _named(name: str) -> str:
    plain = name.partition("%")[0] if ":" in name else name
    found = _authority(f"[{plain}]" if ":" in plain and not plain.startswith("[") else plain)
    if found is None or found.port is not None:
        raise UserError(f"{name!r} is not the name of a host. Give one such as search.example.org, without a port.")
    return found.name


def _normal(name: str) -> str:
    """One way of writing for each name and address."""
    lower = name.lower().removesuffix(".")
    try:
        address = ip_address(lower.partition("%")[0])
    except ValueError:
        return lower
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
