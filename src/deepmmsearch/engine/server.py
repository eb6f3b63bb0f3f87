"""`POST /retrieve` over an index, in the two request shapes that the local corpus servers of the field speak.

{"queries": [str, ...], "topk": n, "return_scores": bool} -> {"result": [[...], ...]}, one list per query, each entry a
document {"id", "contents"} or, with scores, {"document": {...}, "score": f}; contents = '"title"\\ntext'.
{"query": str} is the same with one query.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deepmmsearch.engine.index import Index
from deepmmsearch.types import Hit

MAX_BODY = 1_000_000
MAX_QUERIES = 512
MAX_TOPK = 100
SECONDS = 30


class BadRequest(Exception):
    """The message is what the client is told."""


def retrieve(index: Index, request: Any) -> dict[str, Any]:
    """The answer to a decoded request. Raises BadRequest."""
    if not isinstance(request, dict):
        raise BadRequest("The body must be a JSON object.")
    queries = request.get("queries", [request["query"]] if "query" in request else None)
    if not isinstance(queries, list) or not all(isinstance(q, str) for q in queries) or len(queries) > MAX_QUERIES:
        raise BadRequest(f'Give "queries", a list of at most {MAX_QUERIES} strings, or "query", a string.')
    topk = request.get("topk")
    topk = 3 if topk is None else topk
    if isinstance(topk, bool) or not isinstance(topk, int) or not 1 <= topk <= MAX_TOPK:
        raise BadRequest(f'"topk" must be a whole number from 1 to {MAX_TOPK}.')
    scores = request.get("return_scores", False)
    if not isinstance(scores, bool):
        raise BadRequest('"return_scores" must be true or false.')
    return {"result": [[_entry(hit, scores) for hit in index.search_text(query, topk)] for query in queries]}


def _entry(hit: Hit, scores: bool) -> dict[str, Any]:
    document = {"id": hit.url, "contents": f'"{hit.title}"\n{hit.snippet}'}
    return {"document": document, "score": hit.score} if scores else document


def make_server(index: Index, port: int, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A bound server; serve_forever() runs it. Port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        timeout = SECONDS
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if self.path.rstrip("/") != "/retrieve":
                return self._send(404, {"error": "There is only POST /retrieve here."})
            try:
                answer = retrieve(index, self._body())
            except BadRequest as error:
                return self._send(400, {"error": str(error)})
            except Exception as error:  # a failing query must not take the connection down without a word
                return self._send(500, {"error": f"The search failed: {type(error).__name__}."})
            self._send(200, answer)

        def do_GET(self) -> None:
            self._send(404, {"error": "There is only POST /retrieve here."})

        def _body(self) -> Any:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal():
                raise BadRequest("A Content-Length is needed.")
            if int(length) > MAX_BODY:
                raise BadRequest(f"The body is larger than {MAX_BODY} bytes.")
            try:
                return json.loads(self.rfile.read(int(length)))
            except (ValueError, RecursionError):
                raise BadRequest("The body is not JSON.") from None

        def _send(self, status: int, answer: dict[str, Any]) -> None:
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

        def log_message(self, format: str, *args: Any) -> None:
            """Silent: queries are the user's."""

    return ThreadingHTTPServer((host, port), Handler)
