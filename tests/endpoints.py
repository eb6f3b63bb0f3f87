"""A small OpenAI-compatible server on 127.0.0.1 that says what a test wants; it keeps what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, str, bytes]


@dataclass
class Endpoint:
    """`reply` makes status, content type and body of what was asked."""

    reply: Callable[[dict[str, Any]], Answer]
    models: list[str] = field(default_factory=lambda: ["vlm"])
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


def said(text: str, finish: str = "stop", **choice: Any) -> Answer:
    return as_json(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "vlm",
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
            "choices": [
                {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}, **choice}
            ],
        }
    )


def streamed(*pieces: str, finish: str | None = "stop") -> Answer:
    def chunk(delta: dict[str, Any], reason: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        row = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "vlm", "choices": [choice]}
        return f"data: {json.dumps(row)}\n\n"

    lines = [chunk({"role": "assistant"}, None), *(chunk({"content": p}, None) for p in pieces)]
    lines += [chunk({}, finish), "data: [DONE]\n\n"] if finish else []
    return 200, "text/event-stream", "".join(lines).encode()


def as_json(value: object, status: int = 200) -> Answer:
    return status, "application/json", json.dumps(value).encode()


def error(message: str, status: int = 400, code: str = "") -> Answer:
    return as_json({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)


def late() -> Answer:
    """Longer than anybody waits; the server's threads end with the process."""
    time.sleep(600)
    return said("late")


@contextmanager
def endpoint(
    reply: Callable[[dict[str, Any]], Answer], counts: bool = False, headers: Mapping[str, str] | None = None
) -> Iterator[Endpoint]:
    """`counts`: questions for nothing but the number of tokens are `reply`'s, too; else they are told the same for
    every picture, as by a server that counts none, and are not kept. `headers`: more of each reply."""
    state = Endpoint(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body.get("max_tokens") == 1 and not counts:
                return self._send(said(""))
            state.asked.append(body)
            state.keys.append(self.headers.get("Authorization", ""))
            state.paths.append(self.path)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            if not self.path.endswith("/v1/chat/completions"):
                return self._send((404, "text/plain", b"no such path"))
            self._send(state.reply(body))

        def do_GET(self) -> None:
            state.paths.append(self.path)
            listed = [{"id": m, "object": "model", "created": 0, "owned_by": "me"} for m in state.models]
            # whole addresses are asked of a proxy
            found = self.path.endswith("/v1/models")
            self._send(as_json({"object": "list", "data": listed} if found else {}))

        def _send(self, answer: Answer) -> None:
            status, kind, body = answer
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the client gave up waiting

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
