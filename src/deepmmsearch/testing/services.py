"""Search services on this machine, for tests of providers: a server that answers what it is told to.

Nothing here needs a package beyond the standard library.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

KEY = "sk-secret-0123456789"


@dataclass(frozen=True)
class ServiceRow:
    """One result, before a service puts it into its own format."""

    title: str
    url: str
    text: str


ROWS = (
    ServiceRow("Veld", "https://almanac.example/veld", "The capital of Veld is Moru."),
    ServiceRow("Moru, the city", "https://travel.example/moru?a=1&b=2", "Moru lies at the sea."),
    ServiceRow("Bread", "https://other.example/bread", "How to bake."),
)


@dataclass(frozen=True)
class ServiceRequest:
    """One request; names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def form(self) -> dict[str, bytes]:
        """The fields of a multipart body."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        parts = BytesParser(policy=HTTP).parsebytes(head + self.body)
        return {
            str(p.get_param("name", header="content-disposition")): bytes(p.get_payload(decode=True))
            for p in parts.iter_parts()
        }


@dataclass(frozen=True)
class ServiceReply:
    """`body` None closes the connection without an answer."""

    status: int = 200
    body: bytes | None = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    wait: threading.Event | None = None


def as_json(value: object, status: int = 200, **headers: str) -> ServiceReply:
    return ServiceReply(status, json.dumps(value).encode(), {n.replace("_", "-"): v for n, v in headers.items()})


@dataclass
class Site:
    """A server of which the test says what it answers; it keeps what it was asked."""

    reply: Callable[[ServiceRequest], ServiceReply] = lambda _: ServiceReply(404)
    asked: list[ServiceRequest] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {n: v[0] for n, v in parse_qs(parts.query, keep_blank_values=True).items()}
            headers = {n.lower(): v for n, v in self.headers.items()}
            asked = ServiceRequest(self.command, parts.path, query, headers, body)
            state.asked.append(asked)
            reply = state.reply(asked)
            if reply.wait is not None:
                reply.wait.wait(10)
            if reply.body is None:
                self.close_connection = True
                return
            try:
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.kind)
                self.send_header("Content-Length", str(len(reply.body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)
            except OSError:
                self.close_connection = True  # the client gave up waiting

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


Answer = Callable[[ServiceRequest, tuple[ServiceRow, ...]], ServiceReply]


@dataclass(frozen=True)
class Service:
    """What a provider talks to, as its documentation describes it.

    `name` and `kind`: the provider, as a recipe names it, and what it searches with. `answer`: the service over its
    rows; it checks method, path, KEY and parameters as the real one does. `settings`: the provider's, for a service at
    an address. `results`: where in the JSON answer the list of results stands, innermost last. `unauthorised`,
    `exhausted`: how it refuses a wrong key and an empty account, None where it needs no key. `elsewhere`: beginnings of
    paths that stand for other hosts, which must never see the key. `addresses`: its hits have
    the rows' addresses, not ones that the provider makes of something else.
    """

    name: str
    kind: Literal["text", "image"]
    answer: Answer
    settings: Callable[[str], dict[str, Any]]
    results: tuple[str, ...]
    unauthorised: ServiceReply | None = None
    exhausted: ServiceReply | None = None
    elsewhere: tuple[str, ...] = ()
    addresses: bool = True

    def __str__(self) -> str:
        return self.name
