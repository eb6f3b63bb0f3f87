"""The server's process: it listens, and ends in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from deepmmsearch.errors import UserError
from deepmmsearch.serve.app import make_app
from deepmmsearch.serve.house import House

# for the head of a request, from the moment the connection stands
HEAD_SECONDS = 20.0
CONNECTIONS = 4096
KEEP_ALIVE = 15
# for answers in play when the server is told to end
GRACE = 5


class ImpatientProtocol(H11Protocol):
    """Hangs up on who opens a connection and then says nothing, or says it a byte at a time."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._patience = self.loop.call_later(HEAD_SECONDS, self._lose)

    def _lose(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises UserError where that cannot be."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise UserError(f"Cannot listen on {host}:{port} ({error.strerror}). Choose another port.") from error
    bound.setblocking(False)
    return bound


def run(house: House, bound: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serves until the process is told to end (Ctrl-C, SIGTERM). `ready` is called once it answers."""
    config = uvicorn.Config(
        make_app(house),
        http=ImpatientProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=65_536,
    )
    server = uvicorn.Server(config)

    async def serve() -> None:
        task = asyncio.create_task(server.serve([bound]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        if server.started:
            ready()
        await task

    asyncio.run(serve())
