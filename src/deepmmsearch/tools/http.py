"""The only way out of this process: an HTTP client that cannot be led into the networks it runs in.

Schemes, hosts, resolved addresses, redirects, sizes (as sent and as decompressed) and time are bounded here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from deepmmsearch import __version__
from deepmmsearch.agent.metering import received
from deepmmsearch.errors import MissingExtra
from deepmmsearch.redaction import Redaction
from deepmmsearch.tools.addresses import HostRules, Refused, Target, join_address, read_address, site_of
from deepmmsearch.tools.reply import (
    BadReply,
    BadStatus,
    Response,
    TimedOut,
    TooLarge,
    Unreachable,
    named_errors,
    read_body,
)

if TYPE_CHECKING:
    import ssl

    import httpcore2
    import httpx2

    from deepmmsearch.tools.transport import GuardedTransport

__all__ = [
    "BadReply",
    "BadStatus",
    "GuardedClient",
    "Refused",
    "Response",
    "TimedOut",
    "TooLarge",
    "Unreachable",
]

MAX_BYTES = 10_000_000
MAX_REDIRECTS = 5
USER_AGENT = f"deepmmsearch/{__version__}"

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

# what may follow a redirect to another host; all else could be a credential
_PUBLIC_HEADERS = ("accept", "accept-language", "user-agent", "accept-encoding")
_REDIRECTS = (301, 302, 303, 307, 308)


class GuardedClient:
    """Fetches from public hosts, and from private ones only where the user named them.

    `allow_hosts`, `block_hosts`: domains of this run, with all below them. `allow_private`: hosts ("localhost:8888")
    that may lie in private networks; a redirect from elsewhere never leads there. `outside`: the client for addresses
    that a reply names, where this one may reach what those must not: a provider's own address. `secrets`: keys that are
    sent; where a reply repeats one, it does not get beyond this client. `timeout`: seconds for a whole request;
    `max_bytes`: of a body, as sent and as decompressed; `connections`: at once, `of_a_site`: of them to hosts below one
    domain, so that a slow one leaves some to the others. Proxies of the environment are ignored: a proxy would resolve
    names by itself, unchecked. `resolve`, `backend`, `verify`: how names become addresses, what connects to a checked
    address, and which certificates are trusted, for tests and networks of one's own.

    Usable without `async with`: connections open on first use, one set per event loop.
    """

    def __init__(
        self,
        allow_hosts: Sequence[str] = (),
        block_hosts: Sequence[str] = (),
        allow_private: Sequence[str] = (),
        *,
        outside: GuardedClient | None = None,
        secrets: Iterable[str] = (),
        timeout: float = 20.0,
        connect_timeout: float = 8.0,
        max_bytes: int = MAX_BYTES,
        max_redirects: int = MAX_REDIRECTS,
        connections: int = 100,
        of_a_site: int | None = None,
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
        self._outside, self._redaction = outside, Redaction(secrets)
        self._of_a_site = of_a_site
        self._sites: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._httpx = _httpx()

    @property
    def outside(self) -> GuardedClient:
        """The client for addresses that strangers wrote: in hits, pages, replies."""
        return self._outside or self

    async def __aenter__(self) -> GuardedClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes what is open; the client can be used again afterwards."""
        if self._outside is not None:
            await self._outside.aclose()
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
        request = self._httpx.Request(
            method.upper(),
            url.copy_merge_params(dict(params)) if params else url,
            headers={**plain, **(headers or {})},
            json=json,
            data=data if isinstance(data, Mapping) else None,
            content=data if isinstance(data, bytes) else None,
            files=files,
        )
        request.read()  # a multipart body is a stream until it is read, and a redirect may send it again
        return request

    async def _follow(
        self, request: httpx2.Request, target: Target, accept: Sequence[str], max_bytes: int, began: float
    ) -> Response:
        sent = 0
        for _ in range(self.max_redirects + 1):
            sent += len(request.content)
            async with self._place(target.host):
                reply = await self._send(request, target, max_bytes)
                try:
                    location = reply.headers.get("location") if reply.status_code in _REDIRECTS else None
                    if location is None:
                        return await self._response(request, reply, target.host, accept, max_bytes, sent, began)
                finally:
                    received(reply.num_bytes_downloaded)
                    await reply.aclose()
            request, target = self._redirected(request, target, reply.status_code, location)
        raise Refused(f"{target.host} is refused: more than {self.max_redirects} redirects.")

    async def _response(
        self,
        request: httpx2.Request,
        reply: httpx2.Response,
        host: str,
        accept: Sequence[str],
        max_bytes: int,
        sent: int,
        began: float,
    ) -> Response:
        hide = self._redaction
        content = hide.content(await read_body(reply, host, accept, max_bytes, hide))
        headers = {name: hide.text(value) for name, value in reply.headers.items() if name != "set-cookie"}
        url, seconds = hide.text(str(request.url)), time.perf_counter() - began
        return Response(reply.status_code, url, headers, content, reply.num_bytes_downloaded, sent, seconds)

    def _place(self, host: str) -> AbstractAsyncContextManager[None]:
        """One of those that the host's site may have."""
        if self._of_a_site is None:
            return nullcontext()
        self._transport()  # they belong to the same event loop
        return self._sites.setdefault(site_of(host), asyncio.Semaphore(self._of_a_site))

    async def _send(self, request: httpx2.Request, target: Target, max_bytes: int) -> httpx2.Response:
        request.extensions = {"timeout": {"connect": self.connect_timeout}, "max_bytes": max_bytes}
        with named_errors(target.host):
            return await self._transport().handle_async_request(request)

    def _redirected(
        self, request: httpx2.Request, target: Target, status: int, location: str
    ) -> tuple[httpx2.Request, Target]:
        """The request that follows a redirect. To another host go neither credentials nor a body; nor does a redirect
        lead to a private host, allowed or not: only the user's own requests do."""
        goal = join_address(target, location)
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
            self._sites.clear()
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


def _httpx() -> ModuleType:
    try:
        import httpx2
    except ImportError:
        raise MissingExtra("Fetching from the web", "web") from None
    return httpx2
