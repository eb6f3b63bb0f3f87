"""The only way out of this process: an HTTP client that cannot be led into the networks it runs in.

Schemes, hosts, resolved addresses, redirects, sizes (as sent and as decompressed) and time are bounded here. Messages
name hosts and reasons alone: addresses, headers and bodies can hold keys.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from deepmmsearch import __version__
from deepmmsearch.errors import MissingExtra, ToolError
from deepmmsearch.tools.addresses import HostRules, Refused, Target, read_address

if TYPE_CHECKING:
    import ssl

    import httpcore2
    import httpx2

    from deepmmsearch.tools.transport import GuardedTransport

MAX_BYTES = 10_000_000
MAX_REDIRECTS = 5
USER_AGENT = f"deepmmsearch/{__version__}"

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

# what may follow a redirect to another host; all else could be a credential
_PUBLIC_HEADERS = ("accept", "accept-language", "user-agent", "accept-encoding")
_REDIRECTS = (301, 302, 303, 307, 308)


class TooLarge(ToolError):
    """The reply has more bytes than asked for, as sent or as decompressed; reading stopped there."""


class TimedOut(ToolError):
    """The whole request, with resolving, redirects and body, took longer than its time."""


class Unreachable(ToolError):
    """No such host, nothing listens, or the connection broke."""


class BadReply(ToolError):
    """The reply is not what it says it is: broken compression, no JSON, no HTTP."""


class BadStatus(ToolError):
    """The server refused. `retry_after`: seconds it asks to wait, where it says so. `body`: the first bytes of its
    reply, which may repeat a key; never show it unread."""

    def __init__(self, host: str, status: int, retry_after: float | None = None, body: bytes = b"") -> None:
        wait = f", asks to wait {retry_after:g} s" if retry_after is not None else ""
        super().__init__(f"{host} answered HTTP {status}{wait}.")
        self.status, self.retry_after, self.body = status, retry_after, body


@dataclass(frozen=True)
class Response:
    """A whole reply with a status below 300. `url`: after redirects (may hold a key); `headers`: names in lower case,
    without cookies; `content`: decompressed; `wire_bytes`: of the body as it was sent; `sent_bytes`: of the request's
    body; `seconds`: with redirects and resolving."""

    status: int
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    wire_bytes: int = 0
    sent_bytes: int = 0
    seconds: float = 0.0

    @property
    def content_type(self) -> str:
        """Lower case, without parameters; "" where the server names none."""
        return media_type(self.headers.get("content-type", ""))

    @property
    def charset(self) -> str | None:
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'") or None
        return None

    def text(self) -> str:
        """In the charset the server names, else UTF-8; what cannot be decoded is replaced."""
        if self.content.startswith(b"\xef\xbb\xbf"):
            return self.content[3:].decode("utf-8", "replace")
        try:
            return self.content.decode(self.charset or "utf-8", "replace")
        except (LookupError, ValueError):  # no such charset, or one that is no text encoding
            return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Raises BadReply."""
        try:
            return json.loads(self.content)
        # hostile JSON: too deep, or numbers of thousands of digits
        except (ValueError, RecursionError):
            kind = self.content_type or "nothing"
            raise BadReply(
                f"{read_address(self.url).host} answered no JSON ({len(self.content)} bytes of {kind})."
            ) from None


class GuardedClient:
    """Fetches from public hosts, and from private ones only where the user named them.

    `allow_hosts`, `block_hosts`: domains of this run, with all below them. `allow_private`: hosts ("localhost:8888")
    that may lie in private networks; a redirect from elsewhere never leads there. Give a client with it to the provider
    that needs it, never to what follows links. `timeout`: seconds for a whole request; `max_bytes`: of a body, as sent
    and as decompressed. Proxies of the environment are ignored: a proxy would resolve names by itself, unchecked.
    `resolve`, `backend`, `verify`: how names become addresses, what connects to a checked address, and which
    certificates are trusted, for tests and networks of one's own.

    Usable without `async with`: connections open on first use, one set per event loop.
    """

    def __init__(
        self,
        allow_hosts: Sequence[str] = (),
        block_hosts: Sequence[str] = (),
        allow_private: Sequence[str] = (),
        *,
        timeout: float = 20.0,
        connect_timeout: float = 8.0,
        max_bytes: int = MAX_BYTES,
        max_redirects: int = MAX_REDIRECTS,
        connections: int = 100,
        user_agent: str = USER_AGENT,
        resolve: Resolver | None = None,
        backend: httpcore2.AsyncNetworkBackend | None = None,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self.rules = HostRules.read(allow_hosts, block_hosts, allow_private)
        self.timeout, self.connect_timeout, self.max_bytes = timeout, connect_timeout, max_bytes
        self.max_redirects, self.connections, self.user_agent = max_redirects, connections, user_agent
        self._resolve, self._backend, self._verify = resolve, backend, verify
        self._transports: tuple[asyncio.AbstractEventLoop, GuardedTransport] | None = None
        self._httpx = _httpx()

    async def __aenter__(self) -> GuardedClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes what is open; the client can be used again afterwards."""
        if self._transports is not None and self._transports[0] is asyncio.get_running_loop():
            await self._transports[1].aclose()
        self._transports = None

    async def get(
        self,
        url: str,
        *,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        accept: Sequence[str] = (),
        max_bytes: int | None = None,
    ) -> Response:
        return await self.request(
            "GET", url, params=params, headers=headers, timeout=timeout, accept=accept, max_bytes=max_bytes
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: Mapping[str, str] | bytes | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
        timeout: float | None = None,
        accept: Sequence[str] = (),
        max_bytes: int | None = None,
    ) -> Response:
        """The reply, whole. `params` are added to the query of `url`; `files`: field -> (name, content, type);
        `accept`: content types such as "text/html" or "image/*" (none: all), sent along and demanded of the reply.

        Raises Refused, TooLarge, TimedOut, Unreachable, BadStatus (from 300 on) or BadReply, all ToolError.
        """
        began = time.perf_counter()
        target = read_address(url)
        seconds = self.timeout if timeout is None else timeout
        request = self._first(method, target, params, headers, json, data, files, accept)
        try:
            async with asyncio.timeout(seconds):
                return await self._follow(request, target, accept, max_bytes or self.max_bytes, began)
        except TimeoutError:
            raise TimedOut(f"{target.host} did not finish within {seconds:g} s.") from None

    def _first(
        self,
        method: str,
        target: Target,
        params: Mapping[str, str | int | float] | None,
        headers: Mapping[str, str] | None,
        json: Any,
        data: Mapping[str, str] | bytes | None,
        files: Mapping[str, tuple[str, bytes, str]] | None,
        accept: Sequence[str],
    ) -> httpx2.Request:
        url = self._httpx.URL(target.url)
        plain = {
            "Accept": ", ".join(accept) or "*/*",
            "Accept-Encoding": "gzip, deflate, br, zstd",
            "User-Agent": self.user_agent,
        }
        return self._httpx.Request(
            method.upper(),
            url.copy_merge_params(dict(params)) if params else url,
            headers={**plain, **(headers or {})},
            json=json,
            data=data if isinstance(data, Mapping) else None,
            content=data if isinstance(data, bytes) else None,
            files=files,
        )

    async def _follow(
        self, request: httpx2.Request, target: Target, accept: Sequence[str], max_bytes: int, began: float
    ) -> Response:
        sent = 0
        for _ in range(self.max_redirects + 1):
            sent += len(request.content)
            reply = await self._send(request, target, max_bytes)
            try:
                location = reply.headers.get("location")
                if reply.status_code not in _REDIRECTS or location is None:
                    content = await _read(reply, target, accept, max_bytes)
                    return _response(reply, str(request.url), content, sent, time.perf_counter() - began)
            finally:
                await reply.aclose()
            request, target = self._redirected(request, target, reply.status_code, location)
        raise Refused(f"{target.host} is refused: more than {self.max_redirects} redirects.")

    async def _send(self, request: httpx2.Request, target: Target, max_bytes: int) -> httpx2.Response:
        request.extensions = {"timeout": {"connect": self.connect_timeout}, "max_bytes": max_bytes}
        with _named(target.host):
            return await self._transport().handle_async_request(request)

    def _redirected(
        self, request: httpx2.Request, target: Target, status: int, location: str
    ) -> tuple[httpx2.Request, Target]:
        """The request that follows a redirect. To another host go neither credentials nor a body; nor does a redirect
        lead to a private host, allowed or not: only the user's own requests do."""
        read_address("http://h/" + location if "://" not in location else location)  # before urljoin repairs it
        goal = read_address(urljoin(target.url, location))
        away = goal.origin != target.origin
        if away and self.rules.is_private(goal.host, goal.port):
            raise Refused(f"{target.host} is refused: it redirects to the private host {goal.host}.")
        keeps_method = status in (307, 308) or request.method in ("GET", "HEAD")
        if away and keeps_method and request.content:
            raise Refused(f"{target.host} is refused: it redirects a request with a body to {goal.host}.")
        dropped = ("host", "content-length") if keeps_method else ("host", "content-length", "content-type")
        headers = [
            (name, value)
            for name, value in request.headers.multi_items()
            if name.lower() not in dropped and (not away or name.lower() in _PUBLIC_HEADERS)
        ]
        method = request.method if keeps_method else "GET"
        content = request.content if keeps_method else None
        return self._httpx.Request(method, goal.url, headers=headers, content=content or None), goal

    def _transport(self) -> GuardedTransport:
        """That of the running event loop: connections must not be used in another."""
        loop = asyncio.get_running_loop()
        if self._transports is None or self._transports[0] is not loop:
            self._transports = (loop, self.transport())
        return self._transports[1]

    def transport(self) -> GuardedTransport:
        """The checked connections alone, for libraries that bring an httpx client of their own. The total time and the
        decompressed size are then theirs to bound."""
        from deepmmsearch.tools.transport import GuardedTransport

        return GuardedTransport(
            self.rules,
            max_bytes=self.max_bytes,
            connections=self.connections,
            resolve=self._resolve,
            backend=self._backend,
            verify=self._verify,
        )


def media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


async def _read(reply: httpx2.Response, target: Target, accept: Sequence[str], max_bytes: int) -> bytes:
    from deepmmsearch.tools.transport import WireLimit

    host = target.host
    if reply.status_code >= 300:
        raise BadStatus(host, reply.status_code, _retry_after(reply.headers.get("retry-after")), await _excerpt(reply))
    found = media_type(reply.headers.get("content-type", ""))
    if accept and found and not any(_accepts(wanted, found) for wanted in accept):
        raise Refused(f"{host} answered {found[:80]}, expected {' or '.join(accept)}.")
    encoding = reply.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "deflate", "br", "zstd"):
        raise BadReply(f"{host} answered in an encoding that is not known, or in several.")
    if (length := reply.headers.get("content-length", "")).isdecimal() and int(length[:20]) > max_bytes:
        raise TooLarge(f"{host} answered more than {_mega(max_bytes)}.")
    content = bytearray()
    with _named(host):
        try:
            async for part in reply.aiter_bytes():
                content += part
                if len(content) > max_bytes:
                    raise TooLarge(f"{host} answered more than {_mega(max_bytes)} when decompressed.")
        except WireLimit:
            raise TooLarge(f"{host} answered more than {_mega(max_bytes)}.") from None
    return bytes(content)


async def _excerpt(reply: httpx2.Response, longest: int = 2_000) -> bytes:
    """The first bytes of an error page, as far as they can be had: the status is what counts."""
    content = b""
    with suppress(Exception):
        async for part in reply.aiter_bytes():
            content += part[:longest]
            if len(content) >= longest:
                break
    return content[:longest]


@contextmanager
def _named(host: str) -> Iterator[None]:
    """Errors of the library as ours, by host and kind alone: their own texts can hold addresses and headers."""
    import httpcore2
    import httpx2

    try:
        yield
    except httpcore2.PoolTimeout:
        raise TimedOut(f"No connection to {host} was free in time.") from None
    except httpcore2.ConnectTimeout:
        raise Unreachable(f"{host} cannot be reached: the connection was not made in time.") from None
    except httpcore2.ConnectError as error:
        # the certificate is worth a word; anything else a certificate error says is a stranger's text
        cause = "its certificate is not valid" if "CERTIFICATE" in str(error) else "no connection"
        raise Unreachable(f"{host} cannot be reached: {cause}.") from None
    except httpcore2.TimeoutException:
        raise TimedOut(f"{host} did not answer in time.") from None
    except httpcore2.RemoteProtocolError:
        raise BadReply(f"{host} answered something that is not HTTP, or broke off.") from None
    except httpcore2.NetworkError:
        raise Unreachable(f"{host} broke the connection.") from None
    except httpx2.DecodingError:
        raise BadReply(f"{host} answered with broken compression.") from None
    except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol):
        raise Refused(f"The request to {host} is refused: it cannot be written as HTTP.") from None


def _response(reply: httpx2.Response, url: str, content: bytes, sent: int, seconds: float) -> Response:
    headers = {name: value for name, value in reply.headers.items() if name != "set-cookie"}
    return Response(reply.status_code, url, headers, content, reply.num_bytes_downloaded, sent, seconds)


def _accepts(wanted: str, found: str) -> bool:
    return wanted in (found, "*/*") or (wanted.endswith("/*") and found.startswith(wanted[:-1]))


def _retry_after(header: str | None) -> float | None:
    """Seconds from a number or a date; None for what is neither."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _mega(count: int) -> str:
    return f"{count / 1e6:g} MB"


def _httpx() -> ModuleType:
    try:
        import httpx2
    except ImportError:
        raise MissingExtra("Fetching from the web", "web") from None
    return httpx2
