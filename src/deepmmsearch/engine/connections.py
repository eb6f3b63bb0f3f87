"""An HTTP server whose clients cannot keep it from others: connections, threads, sizes and times are bounded."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from deepmmsearch.hosts import Hosts

MOST_CONNECTIONS = 64
"""And as many threads."""
MAX_HEAD = 16_384
"""Bytes of a request's first line and headers together."""
MAX_BODY = 1_000_000
"""Bytes."""
SECONDS = 30.0
"""For a request to come in, and for its answer to be taken."""


class BadRequest(Exception):
    """The message is what the client is told."""


class BoundedServer(ThreadingHTTPServer):
    """One thread a connection. A client that lets it wait longer than SECONDS is let go; where there are already
    MOST_CONNECTIONS, the one that lets it wait longest makes room for the next."""

    # of those that are not yet taken: where it is full, clients wait a second before they try again
    request_queue_size = 1024

    def __init__(self, host: str, port: int, handler: type[BoundedHandler], hosts: Hosts) -> None:
        self.hosts = hosts
        self._waiting: dict[Any, float] = {}
        self._working: set[Any] = set()
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        # HTTPServer's asks a name server for the name of this machine
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._waiting) + len(self._working) >= MOST_CONNECTIONS
            if full and self._waiting:
                self._let_go(next(iter(self._waiting)))
                full = False
            if not full:
                self._waiting[request] = time.monotonic()
        if full:
            # all are being answered
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    @contextlib.contextmanager
    def working(self, request: Any) -> Iterator[None]:
        """While the block lasts it is not the client who is waited for."""
        with self._lock:
            self._waiting.pop(request, None)
            self._working.add(request)
        try:
            yield
        finally:
            with self._lock:
                self._working.discard(request)
                self._waiting[request] = time.monotonic()

    def answered(self, request: Any) -> None:
        """The time of the next request begins."""
        with self._lock:
            if self._waiting.pop(request, None) is not None:
                self._waiting[request] = time.monotonic()

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._waiting.pop(request, None)
        super().close_request(request)

    def service_actions(self) -> None:
        late = time.monotonic() - SECONDS
        with self._lock:
            for request in [request for request, since in self._waiting.items() if since < late]:
                self._let_go(request)

    def _let_go(self, request: Any) -> None:
        del self._waiting[request]
        # its thread wakes up and closes it
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


class BoundedHandler(BaseHTTPRequestHandler):
    """The requests of one connection; those that are not for this server are refused. Nothing is logged: what is asked
    is the user's."""

    server: BoundedServer
    rfile: _Head
    timeout = SECONDS
    protocol_version = default_request_version = "HTTP/1.1"
    server_version, sys_version = "deepmmsearch", ""
    rbufsize = 0

    def setup(self) -> None:
        super().setup()
        self.rfile = _Head(self.rfile)

    def handle(self) -> None:
        # the client is gone, or was let go
        with contextlib.suppress(OSError):
            super().handle()

    def handle_one_request(self) -> None:
        self.rfile.left = MAX_HEAD
        super().handle_one_request()
        self.server.answered(self.connection)

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.headers.defects:
            self.send_error(400, "A line among the headers is not a header.")
            return False
        arrived = str(self.connection.getsockname()[0])
        if refusal := self.server.hosts.refuse(self.headers.items(), arrived, self.path):
            self.send_error(*refusal)
            return False
        if not self.path.startswith("/"):
            self.path = urlsplit(self.path).path or "/"
        return True

    def body(self) -> bytes:
        """What the client sends with the request. Raises BadRequest."""
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) != 1 or not re.fullmatch("[0-9]+", lengths[0]):
            raise BadRequest("A Content-Length is needed.")
        if len(lengths[0]) > 9 or int(lengths[0]) > MAX_BODY:
            raise BadRequest(f"The body is larger than {MAX_BODY} bytes.")
        return self.rfile.read(int(lengths[0]))

    def send_json(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        if status != 200:  # an unread body would be taken for the next request
            self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status != 200:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        if status != 200:
            self._read_on()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.send_json(code, {"error": message or self.responses[HTTPStatus(code)][0]})

    def _read_on(self) -> None:
        """A client that is still sending would lose the answer if the connection ended now."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(1)
        left = MAX_BODY
        while left > 0 and (piece := self.rfile.read1(65_536)):
            left -= len(piece)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Head(io.BufferedReader):
    """`left`: how many bytes the lines that are still to be read may have together."""

    left = MAX_HEAD

    def readline(self, size: int | None = -1) -> bytes:
        if self.left <= 0:
            raise LineTooLong("head")
        line = super().readline(self.left)
        self.left -= len(line)
        return line
