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
from deepmmsearch.serve.border import SECONDS
from deepmmsearch.serve.house import House

# for the head of a request, from the moment the connection stands or the former answer ended
HEAD_SECONDS = 20.0
CONNECTIONS = 4096
KEEP_ALIVE = 15
# for answers in play when the server is told to end
GRACE = 5


class ImpatientProtocol(H11Protocol):
    """Hangs up on who says nothing, or says it a byte at a time, from the first request to the last, and on who does
    not take what is sent."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._patience: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._whose_turn()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._whose_turn()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._whose_turn()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._untaken = self.loop.call_later(SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._untaken is not None:
            self._untaken.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._patience, self._untaken):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _whose_turn(self) -> None:
        """The client's time runs until its next request stands, and rests while that is answered."""
        if self.cycle is None or self.cycle.response_complete:
            if self._patience is None:
                # close would wait for what is not taken
                self._patience = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        elif self._patience is not None:
            self._patience.cancel()
            self._patience = None


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
