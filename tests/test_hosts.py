"""A server answers those who call it by its own names, and no page of another site."""

from __future__ import annotations

import pytest

from deepmmsearch.errors import UserError
from deepmmsearch.hosts import Hosts

OWN = [
    "localhost",
    "localhost:8000",
    "LocalHost:8000",
    "localhost.",
    "localhost.:8000",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.0.0.1:9",
    "[::1]",
    "[::1]:8000",
    "[0:0:0:0:0:0:0:1]:8000",
    "[::ffff:127.0.0.1]:8000",
    " localhost:8000 ",
    "localhost:",
]
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "evil.localhost",
    "127.0.0.1.evil.example",
    "127.0.0.2",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "0.0.0.0:8000",
    "192.168.1.7",
    "[::2]",
    "[::ffff:10.0.0.1]",
    "search.lan",
    "localhost..",
    "xn--localhost-9d0b",
]
MALFORMED = [
    "",
    " ",
    ":8000",
    "localhost:x",
    "localhost:123456",
    "evil.example@localhost",
    "localhost@evil.example",
    "localhost/evil.example",
    "localhost, evil.example",
    "localhost evil.example",
    "localhost\tevil.example",
    "localhost\r\n evil.example",
    "http://localhost",
    "::1",
    "[::1",
    "[localhost]:8000]",
    "lоcalhost",
    "localhost\x00",
    "localhost?evil",
    "*",
]


def status(*headers: tuple[str, str], allowed: tuple[str, ...] = (), at: str = "127.0.0.1", target: str = "/") -> int:
    refusal = Hosts(allowed).refuse(headers, at, target)
    return refusal.status if refusal else 200


@pytest.mark.parametrize("host", OWN)
def test_own_names(host: str) -> None:
    assert status(("Host", host)) == status(("hOsT", host), ("Accept", "evil.example")) == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_foreign_names(host: str) -> None:
    assert status(("Host", host)) == 403
    assert status(("Host", "localhost"), target=f"http://{host}/retrieve") == 403


@pytest.mark.parametrize("host", MALFORMED)
def test_malformed_names(host: str) -> None:
    assert status(("Host", host)) == 400
    assert status(("Host", host), allowed=("evil.example",)) == 400


def test_exactly_one_host() -> None:
    assert status() == status(("X-Host", "localhost")) == 400
    assert status(("Host", "localhost"), ("Host", "localhost")) == 400
    assert status(("Host", "localhost"), ("host", "evil.example")) == 400


@pytest.mark.parametrize("name", ["search.lan", "SEARCH.LAN.", "10.0.0.7", "::2", "[::2]", "fe80::1", "my_index"])
def test_names_that_the_user_allows(name: str) -> None:
    called = f"[{name}]" if ":" in name and "[" not in name else name
    assert status(("Host", f"{called}:80")) == 403
    assert status(("Host", f"{called}:80"), allowed=(name,)) == status(("Host", "localhost"), allowed=(name,)) == 200
    assert 200 not in (
        status(("Host", other), allowed=(name,)) for other in ("evil.example", f"x{called}", f"{called}x")
    )


@pytest.mark.parametrize("name", ["", "*", "http://search.lan", "search.lan:80", "[::1]:80", "a b", "a/b", "ä.a\n"])
def test_what_cannot_be_allowed(name: str) -> None:
    with pytest.raises(UserError, match="not the name of a host"):
        Hosts([name])


def test_the_address_at_which_a_request_comes_in() -> None:
    assert status(("Host", "192.168.1.7:8000"), at="192.168.1.7") == 200
    assert status(("Host", "192.168.1.8:8000"), at="192.168.1.7") == 403
    assert status(("Host", "127.0.0.2"), at="::ffff:127.0.0.2") == 200
    assert status(("Host", "[fe80::1]:80"), at="fe80::1%eth0") == 200


@pytest.mark.parametrize(
    ("host", "origin", "wanted"),
    [
        ("localhost:8000", "http://localhost:8000", 200),
        ("localhost:8000", "http://LOCALHOST:8000", 200),
        ("127.0.0.1:8000", "http://localhost:8000", 200),
        ("[::1]:8000", "http://[::1]:8000", 200),
        ("search.lan", "http://search.lan", 200),
        ("search.lan:80", "http://search.lan", 200),
        ("search.lan", "https://search.lan", 200),
        ("localhost:8000", "http://localhost:3000", 403),
        ("localhost:8000", "http://localhost", 403),
        ("localhost:8000", "https://localhost", 403),
        ("localhost:8000", "http://evil.example:8000", 403),
        ("localhost:8000", "http://localhost.evil.example:8000", 403),
        ("localhost:8000", "http://localhost:8000@evil.example:8000", 403),
        ("localhost:8000", "null", 403),
        ("localhost:8000", "", 403),
        ("localhost:8000", "file://", 403),
        ("localhost:8000", "chrome-extension://localhost:8000", 403),
        ("localhost:8000", "http://localhost:8000 http://evil.example", 403),
        ("localhost:8000", "http://[", 403),
        ("localhost:8000", "localhost:8000", 403),
    ],
)
def test_origins(host: str, origin: str, wanted: int) -> None:
    assert status(("Host", host), ("Origin", origin), allowed=("search.lan",)) == wanted


def test_other_sites_that_the_user_allows() -> None:
    def asked(origin: str, *origins: str) -> bool:
        return Hosts((), origins).refuse([("Host", "localhost:8000"), ("Origin", origin)], "127.0.0.1") is None

    for origin in ("https://app.example", "https://APP.example:443"):
        assert asked(origin, "https://app.example/") and asked("http://localhost:8000", origin) and not asked(origin)
    for other in ("http://app.example", "https://app.example:8443", "https://app.example.evil.example", "null"):
        assert not asked(other, "https://app.example")
    for wrong in ("*", "null", "app.example", "https://app.example/page", "ftp://app.example", "https://"):
        with pytest.raises(UserError, match="not the origin"):
            Hosts((), [wrong])


@pytest.mark.parametrize(
    ("site", "mode", "wanted"),
    [
        ("cross-site", "no-cors", 403),
        ("same-site", "no-cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "no-cors", 200),
        ("none", "navigate", 200),
    ],
)
def test_pictures_and_scripts_of_other_pages(site: str, mode: str, wanted: int) -> None:
    fetched = ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode)
    assert status(("Host", "localhost:8000"), *fetched) == wanted
    # where there is an origin, it alone counts
    assert status(("Host", "localhost:8000"), ("Origin", "http://localhost:8000"), *fetched) == 200


def test_one_origin_at_most() -> None:
    own = ("Origin", "http://localhost")
    assert status(("Host", "localhost"), own) == 200 and status(("Host", "localhost"), own, own) == 403


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("/", 200),
        ("*", 200),
        ("/http://evil.example/", 200),
        ("http://localhost:8000/retrieve", 200),
        ("HTTP://127.0.0.1/retrieve", 200),
        ("http://evil.example/retrieve", 403),
        ("http://localhost@evil.example/", 403),
        ("ftp://localhost/", 403),
        ("evil.example:443", 403),
        ("localhost", 403),
        ("http://[", 403),
        ("", 403),
    ],
)
def test_a_whole_address_in_the_first_line(target: str, wanted: int) -> None:
    assert status(("Host", "localhost"), target=target) == wanted
