"""Which addresses may be fetched: a strict reading of URLs, and the networks no page may lead into.

Two parsers that read one URL differently are how a check is passed and another host is reached. So there is one reader
here, it refuses what is ambiguous instead of repairing it, and the connection is made to what it read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urljoin

from deepmmsearch.errors import MissingExtra, ToolError, UserError

MAX_URL = 8_000
PORTS = {"http": 80, "https": 443}

# IANA's special-purpose registries, spelt out: what `ipaddress.is_global` says differs between releases of Python.
_PRIVATE: tuple[tuple[str, str], ...] = (
    ("10.0.0.0/8", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("127.0.0.0/8", "loopback"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("::1/128", "loopback"),
    ("fc00::/7", "private"),
)
_NEVER: tuple[tuple[str, str], ...] = (
    # Metadata services first: they lie inside networks that a user may allow (Alibaba, AWS on IPv6) or in public ones.
    ("100.100.100.200/32", "cloud metadata"),
    ("168.63.129.16/32", "cloud metadata"),
    ("fd00:ec2::254/128", "cloud metadata"),
    ("fd20:ce::254/128", "cloud metadata"),
    ("0.0.0.0/8", "unspecified"),
    ("169.254.0.0/16", "link-local"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "reserved"),
    ("192.52.193.0/24", "reserved"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.175.48.0/24", "reserved"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
    ("2001::/32", "Teredo"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("2620:4f:8000::/48", "reserved"),
)
Network = IPv4Network | IPv6Network


def _networks(rows: Iterable[tuple[str, str]]) -> tuple[tuple[Network, str], ...]:
    return tuple((IPv6Network(n) if ":" in n else IPv4Network(n), kind) for n, kind in rows)


_PRIVATE_NETWORKS, _NEVER_NETWORKS = _networks(_PRIVATE), _networks(_NEVER)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# the Fetch standard's list of ports on which something else than HTTP listens
_BAD_PORTS = frozenset(
    int(port)
    for port in """1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115
    117 119 123 135 137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636
    989 990 993 995 1719 1720 1723 2049 3659 4045 4190 5060 5061 6000 6379 6566 6665 6666 6667 6668 6669 6679 6697
    10080 11211""".split()
)

_PARTS = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::([1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_OTHER_DOTS = "\u3002\uff0e\uff61"


class Refused(ToolError):
    """The address may not be fetched, or the reply is of a kind that was not asked for; nothing of it is read."""


@dataclass(frozen=True)
class Target:
    """An address as the one strict reader understood it. `host`: lower case, ASCII, an IPv6 address without brackets;
    `rest`: path, query and fragment."""

    scheme: str
    host: str
    port: int
    rest: str

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        rest = self.rest.partition("#")[0]
        return f"{self.scheme}://{host}{port}{rest if rest.startswith('/') else '/' + rest}"


def read_address(url: str) -> Target:
    """Raises Refused for everything that two readers could understand differently: other schemes, user names, control
    characters, backslashes, escapes in the host, hosts in decimal, octal or hexadecimal, trailing dots, letters that
    normalise to ASCII, odd ports."""
    _check_characters(url)
    found = _PARTS.fullmatch(url)
    if not found:
        raise Refused("The address is refused: only http:// and https:// can be fetched.")
    scheme, authority, rest = found[1].lower(), found[2], found[3]
    if "@" in authority:
        raise Refused("An address with a user name in it is refused.")
    parts = _AUTHORITY.fullmatch(authority)
    if not parts:
        raise Refused("The address is refused: its host or port cannot be read.")
    port = int(parts[2] or PORTS[scheme])
    if port > 65535 or port in _BAD_PORTS:
        raise Refused(f"Port {port} is refused: no web server listens there.")
    return Target(scheme, read_host(parts[1]), port, rest.replace(" ", "%20"))


def join_address(base: Target, location: str) -> Target:
    """Where a redirect from `base` leads. Raises Refused."""
    # before joining, which drops some control characters without a word
    _check_characters(location)
    if location.strip().startswith("///"):
        raise Refused(f"{base.host} redirects to an address without a host.")
    try:
        return read_address(urljoin(base.url, location.strip()))
    except ValueError:  # broken brackets
        raise Refused(f"{base.host} redirects to an address that cannot be read.") from None


def _check_characters(url: str) -> None:
    if len(url) > MAX_URL:
        raise Refused(f"An address of {len(url)} characters is refused (longest: {MAX_URL}).")
    plain = url.isascii() and url.isprintable()
    if not plain and any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in url):
        raise Refused("An address with control characters is refused.")
    if "\\" in url:
        raise Refused("An address with a backslash is refused.")


def read_host(host: str) -> str:
    """The host in the one form that is resolved, sent and compared. Raises Refused."""
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1]).compressed
        except ValueError:
            raise Refused("The address is refused: its host is no IPv6 address.") from None
    name = _ascii(host)
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise Refused("The address is refused: its host is no valid name.")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise Refused("The address is refused: its host is a number, but no plain IPv4 address.") from None
    return name


def site_of(host: str) -> str:
    """Whose it is, as far as a name tells: its registrable domain. For sharing out what there is little of."""
    if ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]):
        return host
    try:
        from tld import get_fld
    except ImportError:
        raise MissingExtra("Fetching from the web", "web") from None
    known = get_fld(f"https://{host}", fail_silently=True)
    return str(known) if known else ".".join(host.split(".")[-2:])


def _ascii(host: str) -> str:
    lower = host.lower()
    if host.isascii():
        return lower
    try:
        import idna
    except ImportError:
        raise MissingExtra("An international host name", "web") from None
    # Letters that become ASCII when normalised (full-width digits, the Kelvin sign) make another host of this one.
    if any(c in lower for c in _OTHER_DOTS) or any(
        a.isascii() != b.isascii() or b != unicodedata.normalize("NFKC", a)
        for a, b in zip(host.split("."), lower.split("."), strict=True)
        if not a.isascii() and (b.isascii() or unicodedata.normalize("NFKC", a).lower() != b)
    ):
        raise Refused("The address is refused: its host is written with letters that stand for others.")
    try:
        return idna.encode(lower).decode("ascii")
    except idna.IDNAError:
        raise Refused("The address is refused: its host is no valid international name.") from None


def blocked(address: str, *, private: bool = False) -> str | None:
    """What kind of network an IP address lies in where no page may lead; None for a public one. `private`: the user
    allowed this host by name, so that loopback and private networks pass; metadata services and the like never do."""
    ip: IPv4Address | IPv6Address
    try:
        ip = ip_address(address)
    except ValueError:
        return "unreadable"
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            return "link-local"
        inner = ip.ipv4_mapped or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if inner is not None:
            kind = _kind(inner, private=False)
            return f"{'IPv4-mapped' if ip.ipv4_mapped else 'NAT64'} {kind}" if kind else None
    return _kind(ip, private=private)


def _kind(ip: IPv4Address | IPv6Address, *, private: bool) -> str | None:
    for network, kind in _NEVER_NETWORKS:
        if ip in network:
            return kind
    for network, kind in _PRIVATE_NETWORKS:
        if ip in network:
            return None if private else kind
    if isinstance(ip, IPv6Address):
        # ISATAP carries an IPv4 address of the site it is used in
        if (int(ip) >> 32) & 0xFCFFFFFF == 0x5EFE:
            return "ISATAP"
        return None if ip in _GLOBAL_UNICAST else "reserved"
    return None


@dataclass(frozen=True)
class HostRules:
    """A run's own rules. `allow`: if any, only these domains and what lies below them; `block`: never these;
    `private`: hosts, as name or name:port, whose addresses may be private."""

    allow: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    private: tuple[tuple[str, int | None], ...] = ()

    @classmethod
    def read(cls, allow: Iterable[str], block: Iterable[str], private: Iterable[str]) -> HostRules:
        """Raises UserError for what is no host."""
        return cls(tuple(map(_domain, allow)), tuple(map(_domain, block)), tuple(map(_host_and_port, private)))

    def check(self, target: Target) -> None:
        """Raises Refused."""
        if any(_below(target.host, domain) for domain in self.block):
            raise Refused(f"{target.host} is refused: it is on the block list.")
        allowed = not self.allow or self.is_private(target.host, target.port)
        if not allowed and not any(_below(target.host, domain) for domain in self.allow):
            raise Refused(f"{target.host} is refused: it is not on the allow list.")

    def is_private(self, host: str, port: int) -> bool:
        return any(host == name and allowed in (None, port) for name, allowed in self.private)


def _below(host: str, domain: str) -> bool:
    return host == domain or host.endswith("." + domain)


def _domain(entry: str) -> str:
    try:
        return read_host(entry.strip().removeprefix("*").removeprefix("."))
    except Refused:
        raise UserError(f"{entry!r} is no domain. Write one such as example.org, without scheme and path.") from None


def _host_and_port(entry: str) -> tuple[str, int | None]:
    parts = _AUTHORITY.fullmatch(entry.strip())
    try:
        if parts:
            return read_host(parts[1]), int(parts[2]) if parts[2] else None
    except Refused:
        pass
    raise UserError(f"{entry!r} is no host. Write a name such as localhost:8888, without scheme and path.")
