"""The guarded client: nothing leads into the networks it runs in, what is public passes, everything is bounded."""

from __future__ import annotations

import ast
import asyncio
import gzip
import json
import socket
import ssl
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx2")

import brotli

from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.tools.addresses import blocked, read_address, read_host
from deepmmsearch.tools.http import (
    BadReply,
    BadStatus,
    GuardedClient,
    Refused,
    Response,
    TimedOut,
    TooLarge,
    Unreachable,
)
from ssrf import (
    BLOCKED_ADDRESSES,
    BLOCKED_ANSWERS,
    BLOCKED_LOCATIONS,
    OTHER,
    PUBLIC,
    PUBLIC6,
    SPELLINGS,
    Internet,
    Request,
    reply,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SOURCE = Path(__file__).parent.parent / "src" / "deepmmsearch"
NAMES = {
    "public.example": [[PUBLIC]],
    "other.example": [[OTHER]],
    "xn--bcher-kva.example": [[PUBLIC]],
    "dual.example": [[PUBLIC6, PUBLIC]],
    "nat64.example": [["64:ff9b::5db8:d822"]],
    "under_score.example": [[PUBLIC]],
    "www.allowed.example": [[PUBLIC]],
    "internal.example": [["10.9.8.7"]],
    "searx.private": [["192.168.7.7"]],
}


# read once: that takes 50 ms
SYSTEM = ssl.create_default_context()


def client(internet: Internet, **settings: Any) -> GuardedClient:
    given = {"timeout": 60.0, "verify": SYSTEM, **settings}
    return GuardedClient(resolve=internet.resolve, backend=internet.backend, **given)


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


async def refused(internet: Internet, url: str, **settings: Any) -> ToolError:
    """The one error the address ends with; the connections it was allowed to make are the caller's to check."""
    async with client(internet, **settings) as web:
        with pytest.raises(ToolError) as raised:
            await web.get(url)
    return raised.value


# --- what must not be reached


@pytest.mark.parametrize("address", BLOCKED_ADDRESSES)
async def test_no_connection_to_a_blocked_address(address: str) -> None:
    async with Internet() as internet:
        for scheme in ("http", "https"):
            error = await refused(internet, f"{scheme}://{bracketed(address)}/")
            assert isinstance(error, Refused), error
        assert internet.connected == [] and internet.accepted == 0


@pytest.mark.parametrize("url", SPELLINGS)
async def test_no_spelling_is_repaired(url: str) -> None:
    async with Internet({**NAMES, "localhost": [["127.0.0.1"]]}) as internet:
        assert isinstance(await refused(internet, url), Refused)
        assert internet.connected == [] and internet.accepted == 0


@pytest.mark.parametrize("answers", BLOCKED_ANSWERS, ids=lambda a: a[-1] if len(a) < 9 else "many")
async def test_one_blocked_address_of_a_name_condemns_it(answers: tuple[str, ...]) -> None:
    async with Internet({"evil.example": [answers]}) as internet:
        error = await refused(internet, "http://evil.example/")
        assert isinstance(error, Refused) and "evil.example" in str(error)
        assert internet.connected == [] and internet.accepted == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", BLOCKED_LOCATIONS)
async def test_redirects_are_checked_anew(location: str, status: int) -> None:
    def handler(request: Request) -> bytes:
        return reply(status=status, Location=location)

    async with Internet(NAMES, handler) as internet:
        error = await refused(internet, "http://public.example/", allow_private=["searx.private:8888"])
        assert isinstance(error, Refused), error
        assert internet.connected == [PUBLIC] and internet.accepted == 1


async def test_redirects_end() -> None:
    async with Internet(NAMES, lambda request: reply(status=302, Location="/again")) as internet:
        assert "5 redirects" in str(await refused(internet, "http://public.example/"))
        assert len(internet.requests) == 6


async def test_the_checked_address_is_the_one_connected_to() -> None:
    """Rebinding: a name that is public when checked and private when looked up again."""
    names = {"rebind.example": [[PUBLIC], ["127.0.0.1"]]}
    async with Internet(names, lambda request: reply("once", Connection="close")) as internet:
        async with client(internet) as web:
            assert (await web.get("http://rebind.example/")).text() == "once"
            assert internet.lookups == ["rebind.example"]
            with pytest.raises(Refused):
                await web.get("http://rebind.example/")
        assert internet.connected == [PUBLIC] and internet.accepted == 1


async def test_a_redirect_back_to_a_rebound_name_is_refused() -> None:
    names = {"rebind.example": [[PUBLIC], ["127.0.0.1"]], "public.example": [[OTHER]]}

    def handler(request: Request) -> bytes:
        other = "public" if request.headers["host"].startswith("rebind") else "rebind"
        return reply(status=302, Location=f"http://{other}.example/", Connection="close")

    async with Internet(names, handler) as internet:
        await refused(internet, "http://rebind.example/")
        assert internet.connected == [PUBLIC, OTHER] and internet.accepted == 2


async def test_the_system_s_own_resolver_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real look-up and the real connection, a name that flips between two answers reaches no listener."""
    answers = iter([[(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, 80))]])
    asked: list[str] = []

    def flipping(host: str, port: int, *rest: Any, **options: Any) -> Any:
        asked.append(host)
        return next(answers, [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))])

    monkeypatch.setattr(socket, "getaddrinfo", flipping)
    async with Internet() as internet, GuardedClient(backend=internet.backend) as web:
        assert (await web.get("http://flip.example/")).status == 200
        assert asked == ["flip.example"] and internet.connected == [PUBLIC]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.9.9.9"])
async def test_a_listener_on_this_machine_is_not_reached(host: str) -> None:
    """Nothing in place of the network: the real resolver, the real socket, a real listener."""
    async with Internet() as internet, GuardedClient(timeout=60) as web:
        with pytest.raises(Refused):
            await web.get(f"http://{host}:{internet.port}/")
        assert internet.accepted == 0


async def test_an_own_public_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepmmsearch.tools import transport

    assert transport.is_own("127.0.0.1") and not transport.is_own("192.0.2.7")
    monkeypatch.setattr(transport, "is_own", lambda address: address == PUBLIC)
    async with Internet(NAMES) as internet:
        assert "an own address" in str(await refused(internet, "http://public.example/"))
        assert internet.accepted == 0


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Internet() as proxy, Internet(NAMES) as internet:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with client(internet) as web:
            await web.get("http://public.example/")
        assert proxy.accepted == 0 and internet.connected == [PUBLIC]


async def test_private_hosts_only_by_name_and_never_metadata() -> None:
    names = {"searx.private": [["192.168.7.7"]], "meta.private": [["169.254.169.254"]], "alias.example": [["10.0.0.1"]]}
    async with Internet(names) as internet:
        async with client(internet, allow_private=["searx.private:8888", "meta.private"]) as web:
            assert (await web.get("http://searx.private:8888/search")).text() == "ok"
            for url in (
                "http://searx.private/",
                "http://192.168.7.7:8888/",
                "http://alias.example/",
                "http://meta.private/",
            ):
                with pytest.raises(Refused):
                    await web.get(url)
        assert internet.connected == ["192.168.7.7"]


async def test_allow_and_block_lists() -> None:
    async with Internet({**NAMES, "notallowed.example": [[PUBLIC]], "bad.allowed.example": [[PUBLIC]]}) as internet:
        lists = {"allow_hosts": ["allowed.example"], "block_hosts": ["*.bad.allowed.example"]}
        async with client(internet, **lists) as web:
            assert (await web.get("http://www.allowed.example/")).status == 200
            for url in ("http://notallowed.example/", "http://public.example/", "http://bad.allowed.example/"):
                with pytest.raises(Refused, match="list"):
                    await web.get(url)
    for wrong in ("http://allowed.example", "a b", "1.2.3", ""):
        with pytest.raises(UserError, match="is no domain"):
            GuardedClient(allow_hosts=[wrong])
        with pytest.raises(UserError, match="is no host"):
            GuardedClient(allow_private=[wrong])


def test_the_corpus_is_as_large_as_promised() -> None:
    setups = 2 * len(BLOCKED_ADDRESSES) + len(SPELLINGS) + len(BLOCKED_ANSWERS) + 5 * len(BLOCKED_LOCATIONS) + 10
    assert setups >= 80, setups


# --- what must pass


def encoded(encoding: str, content: bytes = b"text " * 100) -> bytes:
    compress: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "br": brotli.compress,
        "zstd": zstd.compress,
        "deflate": zlib.compress,
        "raw": lambda data: zlib.compress(data)[2:-4],
    }
    name = "deflate" if encoding == "raw" else encoding
    return reply(compress[encoding](content), Content_Encoding=name, Content_Type="text/plain")


def hops(request: Request) -> bytes:
    """/hop/3 -> /hop/2 -> ... -> /hop/0"""
    number = int(request.path.rpartition("/")[2] or 0) if "/hop/" in request.path else 0
    return reply(status=302, Location=f"/hop/{number - 1}") if number else reply("arrived")


LEGITIMATE: dict[str, tuple[str, str, Callable[[Request], bytes]]] = {
    "plain": ("http://public.example/", "ok", lambda r: reply("ok")),
    "port": ("http://public.example:8080/", "public.example:8080", lambda r: reply(r.headers["host"])),
    "query": ("http://public.example/a/b?c=d%20e&f#g", "/a/b?c=d%20e&f", lambda r: reply(r.path)),
    "path in other letters": ("http://public.example/bücher", "/b%C3%BCcher", lambda r: reply(r.path)),
    "international name": ("http://bücher.example/", "xn--bcher-kva.example", lambda r: reply(r.headers["host"])),
    "punycode": ("http://xn--bcher-kva.example/", "ok", lambda r: reply("ok")),
    "capitals": ("HTTP://Public.EXAMPLE/", "public.example", lambda r: reply(r.headers["host"])),
    "underscore": ("http://under_score.example/", "ok", lambda r: reply("ok")),
    "address": (f"http://{PUBLIC}/", PUBLIC, lambda r: reply(r.headers["host"])),
    "IPv6 address": (f"http://[{PUBLIC6}]/", f"[{PUBLIC6}]", lambda r: reply(r.headers["host"])),
    "two addresses": ("http://dual.example/", "ok", lambda r: reply("ok")),
    "NAT64 of a public address": ("http://nat64.example/", "ok", lambda r: reply("ok")),
    "allowed private host": ("http://searx.private:8888/", "ok", lambda r: reply("ok")),
    "5 redirects": ("http://public.example/hop/5", "arrived", hops),
    "redirect to another host": (
        "http://public.example/",
        "other.example",
        lambda r: (
            reply(status=302, Location="http://other.example/x")
            if r.headers["host"] == "public.example"
            else reply(r.headers["host"])
        ),
    ),
    "gzip": ("http://public.example/", "text " * 100, lambda r: encoded("gzip")),
    "br": ("http://public.example/", "text " * 100, lambda r: encoded("br")),
    "zstd": ("http://public.example/", "text " * 100, lambda r: encoded("zstd")),
    "deflate": ("http://public.example/", "text " * 100, lambda r: encoded("deflate")),
    "deflate without its head": ("http://public.example/", "text " * 100, lambda r: encoded("raw")),
    "no body": ("http://public.example/", "", lambda r: reply(status=204)),
    "Latin-1": ("http://public.example/", "é", lambda r: reply(b"\xe9", Content_Type="text/plain; charset=latin-1")),
    "chunks": (
        "http://public.example/",
        "abcd",
        lambda r: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n",
    ),
}


@pytest.mark.parametrize("case", LEGITIMATE)
async def test_what_is_public_passes(case: str) -> None:
    url, text, handler = LEGITIMATE[case]
    dead = frozenset({PUBLIC6} if case == "two addresses" else ())
    async with (
        Internet(NAMES, handler, dead=dead) as internet,
        client(internet, allow_private=["searx.private:8888"]) as web,
    ):
        response = await web.get(url)
    assert response.text() == text and internet.accepted > 0


def test_at_least_twenty_legitimate_ones() -> None:
    assert len(LEGITIMATE) >= 20


async def test_tls_is_that_of_the_name() -> None:
    import trustme

    authority = trustme.CA()
    server, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("public.example").configure_cert(server)
    authority.configure_trust(trusted)
    named: list[str | None] = []
    server.sni_callback = lambda connection, name, context: named.append(name)
    async with Internet(NAMES, tls=server) as internet:
        async with client(internet, verify=trusted) as web:
            assert (await web.get("https://public.example/")).text() == "ok"
            with pytest.raises(Unreachable, match="certificate"):
                await web.get("https://other.example/")
        assert named == ["public.example", "other.example"]
        async with client(internet, verify=None) as web:
            with pytest.raises(Unreachable, match="certificate"):
                await web.get("https://public.example/")


async def test_bodies_are_sent() -> None:
    def echo(request: Request) -> bytes:
        return reply(request.body, Content_Type=request.headers.get("content-type", ""), X_Path=request.path)

    async with Internet(NAMES, echo) as internet, client(internet) as web:
        url = "http://public.example/x?a=1"
        sent = await web.request("POST", url, json={"q": "é"}, params={"b": "2 3"})
        assert sent.json() == {"q": "é"} and sent.headers["x-path"] == "/x?a=1&b=2+3"
        assert sent.sent_bytes == len(sent.content) == sent.wire_bytes
        form = await web.request("POST", url, data={"q": "a b"})
        assert form.text() == "q=a+b" and form.content_type == "application/x-www-form-urlencoded"
        file = await web.request("POST", url, files={"image": ("a.png", b"\x89PNG", "image/png")})
        assert b'filename="a.png"' in file.content and b"\x89PNG" in file.content
        assert (await web.request("POST", url, data=b"raw")).content == b"raw"


# --- keys


SECRET = "sk-very-secret"


async def test_credentials_do_not_follow_to_another_host() -> None:
    def handler(request: Request) -> bytes:
        if request.headers["host"] == "public.example" and request.path != "/home":
            target = "/home" if request.path.startswith("/near") else "http://other.example/"
            return reply(status=302, Location=target)
        return reply("ok")

    headers = {"Authorization": SECRET, "X-API-KEY": SECRET, "Cookie": SECRET, "X-Subscription-Token": SECRET}
    async with Internet(NAMES, handler) as internet, client(internet) as web:
        await web.get("http://public.example/far", headers=headers, params={"api_key": SECRET})
        assert SECRET in str(internet.requests[0]) and SECRET not in str(internet.requests[1])
        await web.get("http://public.example/near", headers=headers)
        assert internet.requests[-1].path == "/home" and internet.requests[-1].headers["x-api-key"] == SECRET
        await web.request("POST", "http://public.example/far", json={"api_key": SECRET})
        assert internet.requests[-1].method == "GET" and internet.requests[-1].body == b""


async def test_a_body_does_not_follow_to_another_host() -> None:
    def handler(request: Request) -> bytes:
        away = request.headers["host"] == "public.example" and request.path == "/far"
        if away or request.path == "/near":
            return reply(status=307, Location="http://other.example/" if away else "/home")
        return reply(request.body)

    async with Internet(NAMES, handler) as internet, client(internet) as web:
        with pytest.raises(Refused, match="with a body"):
            await web.request("POST", "http://public.example/far", json={"api_key": SECRET})
        assert internet.connected == [PUBLIC]
        assert (await web.request("POST", "http://public.example/near", json={"a": 1})).json() == {"a": 1}


async def test_no_key_in_any_message_or_repr() -> None:
    def handler(request: Request) -> bytes:
        match request.path.partition("?")[0]:
            case "/redirect":
                return reply(status=302, Location=f"http://127.0.0.1/{SECRET}")
            case "/status":
                return reply(f"bad key {SECRET}", status=401)
            case "/json":
                return reply(f"<html>{SECRET}", Content_Type="text/html")
            case "/type":
                return reply(SECRET, Content_Type="text/html")
            case "/nonsense":
                return f"no http {SECRET}\r\n\r\n".encode()
            case "/large":
                return reply(SECRET * 1000)
            case "/gzip":
                return reply(SECRET, Content_Encoding="gzip")
        return b""

    async with Internet(NAMES, handler) as internet, client(internet, max_bytes=5000) as web:
        asked = {"headers": {"Authorization": SECRET}, "params": {"api_key": SECRET}}
        said = []
        for path in ("redirect", "status", "type", "nonsense", "large", "gzip", "silent"):
            with pytest.raises(ToolError) as raised:
                timeout = 0.2 if path == "silent" else None
                accept = ["text/plain", "application/json"]
                await web.get(f"http://public.example/{path}", accept=accept, timeout=timeout, **asked)
            said += [str(raised.value), repr(raised.value)]
        response = await web.get("http://public.example/json", **asked)
        with pytest.raises(BadReply) as raised_json:
            response.json()
        with pytest.raises(Refused) as raised_header:
            await web.get("http://public.example/", headers={"Authorization": f"{SECRET}\nX: y"})
        with pytest.raises(Unreachable) as raised_name:
            await web.get(f"http://unknown.example/{SECRET}")
        said += [str(raised_json.value), repr(response), str(raised_header.value), str(raised_name.value)]
    assert not [line for line in said if SECRET in line]


async def test_no_cookie_is_kept() -> None:
    handler = lambda request: reply("ok", Set_Cookie="a=b")  # noqa: E731
    async with Internet(NAMES, handler) as internet, client(internet) as web:
        assert "set-cookie" not in (await web.get("http://public.example/")).headers
        await web.get("http://public.example/")
        assert "cookie" not in internet.requests[1].headers


# --- bounds


async def drip(internet: Internet, head: bytes, piece: bytes) -> None:
    """From now on the listener sends `head`, then `piece` every 20 ms for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        internet.accepted += 1
        try:
            writer.write(head)
            while True:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    internet.port = server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 302 Found\r\nX: ", b"x"),
    ],
    ids=["known length", "until closed", "headers", "chunks", "100 continue", "one header"],
)
async def test_what_never_ends_ends(head: bytes, piece: bytes) -> None:
    async with Internet(NAMES) as internet:
        await drip(internet, head, piece)
        async with asyncio.timeout(60):
            assert isinstance(await refused(internet, "http://public.example/", timeout=0.4), TimedOut)


async def test_a_slow_name_and_a_slow_redirect_chain_end() -> None:
    async def slow(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return [PUBLIC]

    async def dawdle(request: Request) -> bytes:
        await asyncio.sleep(0.15)
        return reply(status=302, Location="/again")

    async with Internet(NAMES, dawdle) as internet:
        async with GuardedClient(resolve=slow, backend=internet.backend, timeout=0.3) as web:
            with pytest.raises(TimedOut):
                await web.get("http://public.example/")
        assert isinstance(await refused(internet, "http://public.example/", timeout=0.4), TimedOut)


async def test_sizes_as_sent_and_as_decompressed() -> None:
    async with Internet(NAMES, lambda r: reply(b"x" * 5000)) as internet, client(internet, max_bytes=4999) as web:
        with pytest.raises(TooLarge, match=r"more than 0\.004999 MB"):
            await web.get("http://public.example/")
        assert len((await web.get("http://public.example/", max_bytes=5000)).content) == 5000
        internet.handler = lambda r: b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 5000
        with pytest.raises(TooLarge):
            await web.get("http://public.example/")
        for encoding in ("gzip", "br", "zstd", "deflate"):
            internet.handler = lambda r, e=encoding: encoded(e, b"x" * 5000)  # type: ignore[misc]
            with pytest.raises(TooLarge, match="decompressed"):
                await web.get("http://public.example/")
        # data that decompresses to nothing is still counted as it was sent
        hollow = zlib.compressobj(wbits=31)
        empty = hollow.compress(b"x") + b"".join(hollow.flush(zlib.Z_FULL_FLUSH) for _ in range(4000))
        internet.handler = lambda r: (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + empty + b"\0\0\0\xff\xff" * 5000
        )
        with pytest.raises(TooLarge):
            await web.get("http://public.example/")


@pytest.mark.parametrize("encoding", ["gzip, gzip", "compress", "exi", "gzip,br"])
async def test_unknown_and_stacked_encodings_are_refused(encoding: str) -> None:
    async with Internet(NAMES, lambda r: reply(b"x", Content_Encoding=encoding)) as internet:
        assert isinstance(await refused(internet, "http://public.example/"), BadReply)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate"])
async def test_broken_compression_is_an_error(encoding: str) -> None:
    async with Internet(NAMES, lambda r: reply(b"\xff" * 50, Content_Encoding=encoding)) as internet:
        assert "broken compression" in str(await refused(internet, "http://public.example/"))


async def test_types_are_demanded() -> None:
    async with (
        Internet(NAMES, lambda r: reply("x", Content_Type="Image/PNG; a=b")) as internet,
        client(internet) as web,
    ):
        assert (await web.get("http://public.example/", accept=["image/*"])).content_type == "image/png"
        assert internet.requests[-1].headers["accept"] == "image/*"
        with pytest.raises(Refused, match="expected text/html"):
            await web.get("http://public.example/", accept=["text/html"])
        internet.handler = lambda r: reply("x")
        assert (await web.get("http://public.example/", accept=["text/html"])).content_type == ""


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("9" * 400, None),
    ],
)
async def test_a_refusal_says_how_long_to_wait(header: str, seconds: float | None) -> None:
    async with Internet(NAMES, lambda r: reply("slow down", status=429, Retry_After=header)) as internet:
        error = await refused(internet, "http://public.example/")
    assert isinstance(error, BadStatus)
    assert (error.status, error.retry_after, error.body) == (429, seconds, b"slow down")


@pytest.mark.parametrize("status", [300, 304, 302, 404, 500])
async def test_every_other_status_is_an_error(status: int) -> None:
    async with Internet(NAMES, lambda r: reply(status=status)) as internet:
        error = await refused(internet, "http://public.example/")
    assert isinstance(error, BadStatus) and error.status == status


async def test_faults_have_their_reasons() -> None:
    async with Internet(NAMES, lambda r: b"") as internet:
        assert isinstance(await refused(internet, "http://unknown.example/"), Unreachable)
        internet.handler = lambda r: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhal"
        internet.handler = lambda r: b"SSH-2.0-OpenSSH_9.6\r\n\r\n"
        assert isinstance(await refused(internet, "http://public.example/"), BadReply)
        internet.handler = lambda r: b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n"
        assert isinstance(await refused(internet, "http://public.example/"), BadReply)
        internet._server.close()
        assert isinstance(await refused(internet, "http://public.example/"), Unreachable)


async def test_hostile_json() -> None:
    def parsed(content: bytes) -> Any:
        return Response(200, "http://public.example/", {}, content).json()

    assert parsed(b'{"a": [1]}') == {"a": [1]}
    for content in (b"", b"{", b"<html>", b"[" * 200_000, b"9" * 10_000, b"\xff\xfe{", json.dumps({}).encode()[:-1]):
        with pytest.raises(BadReply, match=r"public\.example answered no JSON"):
            parsed(content)


async def test_connections_are_kept_and_the_client_outlives_its_loop() -> None:
    async with Internet(NAMES) as internet, client(internet) as web:
        for _ in range(5):
            await web.get("http://public.example/")
        assert internet.accepted == 1 and len(internet.requests) == 5
        await asyncio.gather(*(web.get("http://public.example/") for _ in range(20)))
        assert len(internet.requests) == 25


def test_a_client_works_in_one_event_loop_after_another() -> None:
    web: list[GuardedClient] = []

    async def once() -> int:
        async with Internet(NAMES) as internet:
            web.append(web[0] if web else client(internet))
            web[0]._resolve, web[0]._backend = internet.resolve, internet.backend
            return (await web[0].get("http://public.example/")).status

    assert [asyncio.run(once()) for _ in range(3)] == [200] * 3


def test_addresses_have_one_form() -> None:
    assert read_address("HTTP://BÜCHER.example:80/a b?c#d").url == "http://xn--bcher-kva.example/a%20b?c"
    assert read_host("[2606:2800:0220:0001:0248:1893:25C8:1946]") == PUBLIC6
    assert blocked(PUBLIC) is blocked(PUBLIC6) is blocked("64:ff9b::808:808") is None
    assert blocked("10.0.0.1", private=True) is blocked("::1", private=True) is None
    assert blocked("::ffff:10.0.0.1", private=True) is not None


# --- no other way out

NETWORK = {
    *("socket", "ssl", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp", "websockets"),
    *("http", "ftplib", "smtplib", "poplib", "imaplib", "telnetlib", "xmlrpc", "socketserver", "asyncssh", "paramiko"),
    *(
        "openai",
        "huggingface_hub",
        "ddgs",
        "PicImageSearch",
        "primp",
        "curl_cffi",
        "pycurl",
        "anyio",
        "trio",
        "fsspec",
        "boto3",
        "grpc",
    ),
}
CALLS = {
    *("urlopen", "urlretrieve", "open_connection", "create_connection", "create_datagram_endpoint", "getaddrinfo"),
    *("gethostbyname", "fetch_url", "snapshot_download", "hf_hub_download", "create_subprocess_shell"),
}
# Models and data sets that a recipe names on the hub come through the hub's own client, inside these packages.
HUB = {"from_pretrained", "load_dataset", "SentenceTransformer"}
HUB_USERS = ("policies.local", "engine.encoders", "tools.grounding.dino", "train", "data.tables")
# Every way out that is not the client, and why it may be.
KNOWN = {
    "tools.transport": {"socket", "ssl", "httpx2", "httpcore2"},  # the client itself
    "tools.lookups": {"socket", "httpcore2", "getaddrinfo"},  # how it resolves names
    "tools.http": {"ssl", "httpx2", "httpcore2"},
    "tools.reply": {"httpx2", "httpcore2"},
    "tools.mcp_server": {"httpx2"},  # what the MCP SDK takes, over the client's own connections
    "policies.connection": {"openai", "ssl"},  # to the endpoint the user names, with the vendor's own client
    "policies.chat.chat_policy": {"openai"},  # its exceptions
    "policies.vllm.remote": {"openai"},  # likewise
    # an extra that has to be switched on with `unguarded: true`, and not through a proxy that nobody named to it
    "tools.providers.ddgs": {"ddgs"},
    "tools.providers.picimagesearch": {"PicImageSearch"},  # likewise
    "tools.providers.unguarded": {"urllib"},  # only reads which proxies the system names
    "engine.server": {"http"},  # listens, never connects
    "engine.table_writer": {"socket"},  # the name of this machine
    "engine.connections": {"http", "socket", "socketserver"},  # likewise
    "serve.running": {"socket"},  # likewise
    "digests": {"huggingface_hub"},  # looks into its cache on the disk
    "compose.check_parts": {"huggingface_hub"},  # likewise
    "testing.services": {"http"},  # a service for tests, which listens on this machine
    "testing.contract.provider": {"ssl"},  # how its client is told to believe that service
    "object_storage.filesystems": {"fsspec"},  # to the address the user names, with the vendors' own clients
    "scale.verl.episode_player": {"from_pretrained"},  # the checkpoint that verl loads
    "tools.mcp_replies": {"anyio"},  # the pipes of a program on this machine
    "scale.ray_workers": {"socket", "create_connection"},  # whether anything answers at the address that Ray is to use
    "bundled.pretrain": {"socket"},  # finds a free port for the processes of one training on this machine
}


def ways_out(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute | ast.Name):
            yield f"call.{node.attr if isinstance(node, ast.Attribute) else node.id}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (f"program.{p}" for p in ("curl", "wget", "nc") if node.value == p)


def test_the_client_is_the_only_way_out() -> None:
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for name in ways_out(ast.parse(path.read_text(encoding="utf-8"))):
            head, _, tail = name.partition(".")
            if head == "program":
                found.setdefault(module, set()).add(name)
            elif head == "call":
                found.setdefault(module, set()).update(
                    {tail} & (CALLS if module.startswith(HUB_USERS) else CALLS | HUB)
                )
            elif head in NETWORK or name.startswith(("urllib.request", "trafilatura.downloads")):
                found.setdefault(module, set()).add(head)
    beyond = {m: names - KNOWN.get(m, set()) for m, names in found.items()}
    assert not {m: names for m, names in beyond.items() if names}
