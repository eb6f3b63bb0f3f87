"""Connections to checked addresses only: where the client's rules meet the socket.

httpcore keeps the connections; it asks the backend here for each new one, so there is no way around the check, and the
name is resolved once: what was checked is what is connected to. Certificates and SNI stay those of the name.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address

import httpcore2
import httpx2

from deepmmsearch.tools.addresses import HostRules, Refused, blocked, read_address
from deepmmsearch.tools.lookups import Lookups

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]

KEEPALIVE = 20.0
MAX_ADDRESSES = 8


class WireLimit(Exception):
    """More bytes were sent than the request allows."""


class GuardedTransport(httpx2.AsyncBaseTransport):
    """An httpx transport under `rules`. `max_bytes` bounds the body as it is sent; a request may lower or raise it with
    the extension "max_bytes"."""

    def __init__(
        self,
        rules: HostRules,
        *,
        max_bytes: int,
        connections: int = 100,
        resolve: Resolver | None = None,
        backend: httpcore2.AsyncNetworkBackend | None = None,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self.rules, self.max_bytes = rules, max_bytes
        self._connections, self._verify = connections, verify
        self._backend = CheckedBackend(rules, resolve or Lookups(), backend or httpcore2.AnyIOBackend())
        self._pools: dict[str, httpcore2.AsyncConnectionPool] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises Refused, or httpcore's exceptions."""
        target = read_address(str(request.url))
        self.rules.check(target)
        reply = await self._pool(target.scheme).handle_async_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=target.scheme.encode("ascii"),
                    host=target.host.encode("ascii"),
                    port=target.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        limit = int(request.extensions.get("max_bytes", self.max_bytes))
        return httpx2.Response(
            reply.status, headers=reply.headers, stream=_CountedStream(reply, limit), extensions=reply.extensions
        )

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    def _pool(self, scheme: str) -> httpcore2.AsyncConnectionPool:
        """One for each scheme, made when it is needed: reading the system's certificates takes 50 ms."""
        if scheme not in self._pools:
            self._pools[scheme] = httpcore2.AsyncConnectionPool(
                ssl_context=None if scheme == "http" else self._verify or httpx2.create_ssl_context(),
                max_connections=self._connections,
                max_keepalive_connections=min(self._connections, 20),
                keepalive_expiry=KEEPALIVE,
                network_backend=self._backend,
            )
        return self._pools[scheme]


class _CountedStream(httpx2.AsyncByteStream):
    def __init__(self, reply: httpcore2.Response, limit: int) -> None:
        self._reply, self._limit = reply, limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        count = 0
        async for part in self._reply.aiter_stream():
            count += len(part)
            if count > self._limit:
                raise WireLimit
            yield part

    async def aclose(self) -> None:
        await self._reply.aclose()


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves, checks every address, and lets `inner` connect to one of those."""

    def __init__(self, rules: HostRules, resolve: Resolver, inner: httpcore2.AsyncNetworkBackend) -> None:
        self.rules, self.resolve, self.inner = rules, resolve, inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._checked(host, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from None
        share = timeout / len(addresses) if timeout is not None else None
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self.inner.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError("no address")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[SocketOption] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        raise Refused("Unix sockets are refused.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _checked(self, host: str, port: int) -> list[str]:
        """The addresses of a host, in the order they should be tried. One that is blocked condemns all: a public host
        has no reason to name one, a rebinding attack has."""
        private = self.rules.is_private(host, port)
        addresses = [host] if _is_address(host) else list(dict.fromkeys(await self.resolve(host, port)))
        if not addresses:
            raise httpcore2.ConnectError("the name has no address")
        for address in addresses:
            kind = blocked(address, private=private) or ("own" if not private and is_own(address) else None)
            if kind:
                raise Refused(f"{host} is refused: it leads to {_article(kind)} address.")
        return addresses[:MAX_ADDRESSES]


def is_own(address: str) -> bool:
    """Is it an address of this machine, though a public one? Only those can be bound to."""
    # Where the kernel lets anything be bound to (ip_nonlocal_bind), binding tells nothing.
    return _can_bind(address) and not _can_bind("2001:db8::1" if ":" in address else "192.0.2.1")


def _can_bind(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
            return True
    except OSError:
        return False


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiouIAEO' else 'a'} {kind}"
