"""`index serve` on the wire: who is refused, and that no client keeps it from the others."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from deepmmsearch import cli
from deepmmsearch.engine import connections
from deepmmsearch.engine.connections import MOST_CONNECTIONS, BoundedHandler, BoundedServer
from deepmmsearch.engine.server import make_server
from deepmmsearch.hosts import Hosts

BODY = json.dumps({"query": "x"}).encode()


class Words:
    """An index as far as the server asks it; `hold` keeps every search."""

    def __init__(self) -> None:
        self.hold = threading.Event()
        self.hold.set()
        self.asked = threading.Semaphore(0)

    def search_text(self, query: str, k: int) -> list[object]:
        self.asked.release()
        assert self.hold.wait(60)
        return []


@contextmanager
def serving(server: BoundedServer) -> Iterator[BoundedServer]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running(index: Words, host: str = "127.0.0.1", *allowed: str) -> Iterator[BoundedServer]:
    with serving(make_server(index, 0, host, allowed)) as server:  # type: ignore[arg-type]
        try:
            yield server
        finally:
            index.hold.set()


@pytest.fixture
def index() -> Words:
    return Words()


@pytest.fixture
def server(index: Words) -> Iterator[BoundedServer]:
    with running(index) as started:
        yield started


def connected(server: BoundedServer) -> socket.socket:
    return socket.create_connection(server.server_address[:2], timeout=30)  # type: ignore[arg-type]


def answer(line: socket.socket) -> tuple[int, str]:
    """The status and all that follows it until the server ends the connection."""
    said = b""
    while piece := line.recv(65_536):
        said += piece
    return int(said.split()[1]) if said else 0, said.decode()


def ask(server: BoundedServer, *headers: str, first: str = "POST /retrieve HTTP/1.1", body: bytes = BODY) -> int:
    lines = [first, *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    with closing(connected(server)) as line:
        line.sendall("\r\n".join(lines).encode("latin-1") + body)
        return answer(line)[0]


def open_connections(server: BoundedServer) -> int:
    return len(server._waiting) + len(server._working)


def eventually(true: object) -> None:
    for _ in range(1000):
        if true():  # type: ignore[operator]
            return
        time.sleep(0.02)
    raise AssertionError("it did not come about")


def test_own_names_are_answered(server: BoundedServer) -> None:
    port = server.server_address[1]
    for host in ("localhost", f"localhost:{port}", f"LOCALHOST.:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert ask(server, f"Host: {host}") == 200
        assert ask(server, f"Host: {host}", f"Origin: http://{host.lower()}") == 200
    assert ask(server, f"Host: localhost:{port}", first=f"POST http://localhost:{port}/retrieve HTTP/1.1") == 200
    assert ask(server, "Host: localhost", first="POST /retrieve HTTP/1.0") == 200


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (403, ["Host: evil.example"]),
        (403, ["Host: evil.example:8000", "Origin: http://evil.example:8000"]),
        (403, ["Host: localhost", "Origin: http://evil.example"]),
        (403, ["Host: localhost", "Origin: null"]),
        (403, ["Host: localhost", "ORIGIN: http://evil.example"]),
        (400, []),
        (400, ["Host: localhost", "Host: evil.example"]),
        (400, ["Host: evil.example", "Host: localhost"]),
        (400, ["Host: localhost,evil.example"]),
        (400, ["Host: localhost", " evil.example"]),
        (400, ["Host: localhost", "Host : evil.example"]),
        (400, ["Host : localhost"]),
        (400, ["Host:"]),
    ],
)
def test_others_are_refused(server: BoundedServer, index: Words, status: int, headers: list[str]) -> None:
    for first in ("POST /retrieve HTTP/1.1", "POST /retrieve HTTP/1.0", "GET / HTTP/1.1", "OPTIONS * HTTP/1.1"):
        assert ask(server, *headers, first=first) == status
    assert not index.asked.acquire(blocking=False)


def test_a_whole_address_counts_before_the_header(server: BoundedServer) -> None:
    assert ask(server, "Host: localhost", first="POST http://evil.example/retrieve HTTP/1.1") == 403
    assert ask(server, "Host: evil.example", first="POST http://localhost/retrieve HTTP/1.1") == 403


def test_the_user_may_allow_a_name(index: Words) -> None:
    with running(index, "127.0.0.1", "search.lan") as server:
        assert ask(server, "Host: search.lan", "Origin: https://search.lan") == 200
        assert ask(server, "Host: other.lan") == 403


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
def test_ipv6(index: Words) -> None:
    try:
        with running(index, "::1") as server:
            assert ask(server, f"Host: [::1]:{server.server_address[1]}") == ask(server, "Host: localhost") == 200
            assert ask(server, "Host: [::2]") == 403
    except OSError as error:
        pytest.skip(f"there is no IPv6: {error}")


@pytest.mark.parametrize("name", ["", "*", "http://a"])
def test_a_host_that_is_none_is_told(index: Words, name: str) -> None:
    with pytest.raises(cli.UserError, match="not the name of a host"), running(index, name):
        pass


def test_a_head_is_bounded(server: BoundedServer) -> None:
    assert ask(server, "Host: localhost", "X: " + "x" * 15_000) == 200
    for headers in (["X: " + "x" * 17_000], ["X: y"] * 4000, ["X: " + "x" * 8_000] * 3):
        assert ask(server, "Host: localhost", *headers) == 431
    assert ask(server, "Host: localhost", first=f"POST /{'x' * 70_000} HTTP/1.1") in (400, 431)
    with closing(connected(server)) as line:
        line.sendall(b"x" * 17_000)
        assert answer(line)[0] in (400, 431)


@pytest.mark.parametrize(
    "headers",
    [
        ["Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 14"],
        ["Content-Length: 14", "Content-Length: 14"],
        ["Content-Length: +14"],
        ["Content-Length: -1"],
        ["Content-Length: 1_4"],
        [f"Content-Length: {'9' * 5000}"],
        ["Content-Length: 1000001"],
        [],
    ],
)
def test_a_body_is_bounded(server: BoundedServer, index: Words, headers: list[str]) -> None:
    with closing(connected(server)) as line:
        line.sendall("\r\n".join(["POST /retrieve HTTP/1.1", "Host: localhost", *headers, "", ""]).encode())
        for _ in range(100):
            try:
                line.sendall(b"5\r\nhello\r\n" * 100)
            except OSError:
                break
        line.shutdown(socket.SHUT_WR)
        status, said = answer(line)
    assert status == 400 and "error" in said and not index.asked.acquire(blocking=False)


def test_several_requests_of_one_connection(server: BoundedServer) -> None:
    request = f"POST /retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    with closing(connected(server)) as line:
        line.sendall(request * 3)
        line.shutdown(socket.SHUT_WR)
        assert answer(line)[1].count("HTTP/1.1 200 OK") == 3


def test_idle_clients_keep_nobody_out(server: BoundedServer) -> None:
    before = threading.active_count()
    idle = [connected(server) for _ in range(1000)]
    try:
        assert ask(server, "Host: localhost") == 200
        assert open_connections(server) <= MOST_CONNECTIONS
        # a thread of one that was let go ends; other servers of these tests may have threads, too
        eventually(lambda: threading.active_count() < before + MOST_CONNECTIONS + 20)
        # the oldest made room
        assert idle[0].recv(1) == b""
    finally:
        for line in idle:
            line.close()


def test_clients_that_drip_keep_nobody_out(server: BoundedServer) -> None:
    dripping = [connected(server) for _ in range(MOST_CONNECTIONS)]
    try:
        for line in dripping:
            line.sendall(b"POST /retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9")
        for _ in range(3):
            for line in dripping[-5:]:
                line.sendall(b"9")
            assert ask(server, "Host: localhost") == 200
        eventually(lambda: open_connections(server) <= MOST_CONNECTIONS)
    finally:
        for line in dripping:
            line.close()


def test_who_drips_is_let_go(server: BoundedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", 0.3)
    for begun in (b"", b"POST", b"POST /retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n{"):
        with closing(connected(server)) as line, pytest.raises(OSError):
            line.sendall(begun)
            for _ in range(3000):
                line.sendall(b"1")
                time.sleep(0.01)
    monkeypatch.undo()
    assert ask(server, "Host: localhost") == 200


def test_who_takes_no_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Talks(BoundedHandler):
        def do_GET(self) -> None:
            self.send_json(200, {"long": "x" * 50_000_000})

    with serving(BoundedServer("127.0.0.1", 0, Talks, Hosts())) as server, closing(connected(server)) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert line.recv(4) == b"HTTP"
        monkeypatch.setattr(connections, "SECONDS", 0.1)
        eventually(lambda: open_connections(server) == 0)


def test_who_is_answered_is_not_let_go(index: Words, server: BoundedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    index.hold.clear()
    results: list[int] = []
    asking = [
        threading.Thread(target=lambda: results.append(ask(server, "Host: localhost"))) for _ in range(MOST_CONNECTIONS)
    ]
    for thread in asking:
        thread.start()
    for _ in asking:
        assert index.asked.acquire(timeout=60)
    # there is no room now, and nobody whose fault it is
    with closing(connected(server)) as line:
        assert line.recv(1) == b""
    with monkeypatch.context() as patch:
        patch.setattr(connections, "SECONDS", 0.0)
        time.sleep(0.2)
    index.hold.set()
    for thread in asking:
        thread.join()
    assert results == [200] * MOST_CONNECTIONS


def test_nothing_is_logged(server: BoundedServer, capfd: pytest.CaptureFixture[str]) -> None:
    for first in ("POST /retrieve HTTP/1.1", "nonsense", "POST /x\x1b[2J HTTP/9.9"):
        ask(server, "Host: evil.example", first=first)
    assert capfd.readouterr() == ("", "")


def test_listening_elsewhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from commands import run
    from deepmmsearch.engine import Index

    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.txt").write_text("Veld")
    Index.build(tmp_path / "pages", tmp_path / "index")
    monkeypatch.setattr(BoundedServer, "serve_forever", lambda self: None)
    serve = ("index", "serve", "--index", tmp_path / "index", "--port", "0")
    for host in ("127.0.0.1", "localhost"):
        assert "Note" not in run(*serve, "--host", host).output
    for allowed in ((), ("--allow-host", "search.lan")):
        assert "Note: whoever reaches 0.0.0.0" in run(*serve, "--host", "0.0.0.0", *allowed).output
    for wrong in (("--host", ""), ("--allow-host", "http://search.lan")):
        assert isinstance(run(*serve, *wrong).exception, cli.UserError)
