"""Addresses that lead where no page may lead, in every spelling we know of; and what the tests connect to instead.

`Internet` stands in for the world: names have the addresses a test gives them, and whatever is connected to lands on
one real listener on this machine, so that a connection to a blocked address is a connection that is seen.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpcore2

PUBLIC, OTHER, PUBLIC6 = "93.184.216.34", "151.101.1.140", "2606:2800:220:1:248:1893:25c8:1946"

# written as they are, or hidden inside an IPv6 address
BLOCKED_ADDRESSES = """
127.0.0.1 127.1.2.3 127.255.255.255 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1
192.168.255.255 100.64.0.1 100.127.255.255 100.100.100.200 169.254.169.254 169.254.170.2 168.63.129.16 192.0.0.192
192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1
255.255.255.255 ::1 :: ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:169.254.169.254 ::ffff:10.0.0.1 ::127.0.0.1
::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1 64:ff9b:1::1 2002:7f00:1::
2002:a9fe:a9fe::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2001:10::1 3fff::1 fe80::1 fec0::1 fc00::1
fd00:ec2::254 fd12:3456::1 ff02::1 ff0e::1 100::1 2606:4700::5efe:7f00:1 2606:4700::200:5efe:7f00:1 4000::1
""".split()

# what some parser somewhere reads as a blocked host, or as another host than a check would
SPELLINGS = (
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://0177.0.0.1/",
    "http://00000177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://0x/",
    "http://4294967295/",
    "http://127.0.0.1./",
    "http://127.0.0.01/",
    "http://127.0.0.256/",
    "http://public.example.0x7f/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://public.example./",
    "http://user@127.0.0.1/",
    "http://public.example@127.0.0.1/",
    "http://public.example:80@127.0.0.1/",
    "http://127.0.0.1@public.example/",
    "http://public.example\\@127.0.0.1/",
    "http://127.0.0.1\\@public.example/",
    "http://public.example\\.127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http:/127.0.0.1/",
    "http:127.0.0.1/",
    "http:///127.0.0.1/",
    "//127.0.0.1/",
    "127.0.0.1/",
    "http://127.0.0.1%2f@public.example/",
    "http://127%2e0%2e0%2e1/",
    "http://%31%32%37.0.0.1/",
    "http://public.example%00.127.0.0.1/",
    "http://public.example\x00.127.0.0.1/",
    "http://127.0.0.1\t/",
    "http://127.0.0.1\r\nHost: public.example/",
    "http://public.example/\r\nX-Forged: 1",
    "\x01http://127.0.0.1/",
    " http://127.0.0.1/",
    "http://127.0.0.1 /",
    "http://127。0。0。1/",
    "http://１２７.０.０.１/",
    "http://①②⑦.⓪.⓪.①/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "http://loca\u00adlhost/",
    "http://loca\u200blhost/",
    "http://\u212aube.example/",
    "http://public.example\uff0fevil/",
    "http://pub\u2100lic.example/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:0x7f.1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[127.0.0.1]/",
    "http://[::1/",
    "http://::1/",
    "http://public.example:80:80/",
    "http://public.example:+80/",
    "http://public.example: 80/",
    "http://public.example:080/",
    "http://public.example:0/",
    "http://public.example:65536/",
    "http://public.example:８０/",
    "http://public.example:/",
    "http://public.example:22/",
    "http://public.example:25/",
    "http://public.example:6379/",
    "http://public.example:11211/",
    "http://public_.example..com/",
    "http://.public.example/",
    "http://-public.example/",
    f"http://{'a' * 64}.example/",
    f"http://public.example/{'a' * 9000}",
    "file:///etc/passwd",
    "FILE://localhost/etc/passwd",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1:6379/_INFO",
    "dict://127.0.0.1:11211/stats",
    "ldap://127.0.0.1/",
    "jar:http://127.0.0.1!/",
    "data:text/html,hello",
    "javascript:alert(1)",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "ws://127.0.0.1/",
    "view-source:http://127.0.0.1/",
    "https://",
    "http://",
    "",
)

# what the names of a hostile domain may point to
BLOCKED_ANSWERS: tuple[tuple[str, ...], ...] = (
    ("127.0.0.1",),
    ("10.1.2.3",),
    ("169.254.169.254",),
    ("::1",),
    ("::ffff:127.0.0.1",),
    ("64:ff9b::7f00:1",),
    ("fd00:ec2::254",),
    ("fe80::1%eth0",),
    (PUBLIC, "127.0.0.1"),
    ("127.0.0.1", PUBLIC),
    (PUBLIC, PUBLIC6, OTHER, "192.168.1.1"),
    (*(f"93.184.216.{n}" for n in range(1, 30)), "10.0.0.1"),
    ("0.0.0.0",),
    ("100.100.100.200",),
    ("not an address",),
)

# where a public host redirects to
BLOCKED_LOCATIONS = (
    "http://127.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/",
    "//127.0.0.1/",
    "//[::1]/",
    "///127.0.0.1/",
    "http://[::ffff:127.0.0.1]/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://user:password@public.example/",
    "http://internal.example/",
    "http://public.example\\@127.0.0.1/",
    "\\\\127.0.0.1\\",
    "/\\127.0.0.1/",
    "http://127.0.0.1\t/",
    "http://[bad/",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "data:text/html,hello",
    "http://searx.private:8888/",
    "http://public.example:6379/",
)

Handler = Callable[["Request"], bytes | Awaitable[bytes]]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def reply(body: bytes | str = b"", status: int = 200, **headers: str) -> bytes:
    """A whole HTTP/1.1 message; `content_type` stands for Content-Type, and so on."""
    content = body.encode() if isinstance(body, str) else body
    lines = {"Content-Length": str(len(content)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode("latin-1") + content


@dataclass
class Internet:
    """`names`: what each resolves to, one answer per lookup, the last one repeating. `connected`: addresses in order;
    `accepted`: how many connections the listener saw; `requests`: what was asked of it, as (host header, request)."""

    names: dict[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    handler: Handler = lambda request: reply("ok")
    tls: ssl.SSLContext | None = None
    dead: frozenset[str] = frozenset()
    lookups: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)
    accepted: int = 0
    requests: list[Request] = field(default_factory=list)

    async def __aenter__(self) -> Internet:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls, limit=2**20)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.lookups.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise httpcore2.ConnectError("no such host")
        return answers[min(self.lookups.count(host), len(answers)) - 1]

    @property
    def backend(self) -> httpcore2.AsyncNetworkBackend:
        return _Detour(self)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            while True:
                request = await _read_request(reader)
                self.requests.append(request)
                answer = self.handler(request)
                writer.write(answer if isinstance(answer, bytes) else await answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()


class _Detour(httpcore2.AsyncNetworkBackend):
    def __init__(self, internet: Internet) -> None:
        self.internet, self.inner = internet, httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        if host in self.internet.dead:
            raise httpcore2.ConnectError("no route")
        self.internet.connected.append(host)
        return await self.inner.connect_tcp("127.0.0.1", self.internet.port, timeout)


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
    method, path, _ = head[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Request(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))
