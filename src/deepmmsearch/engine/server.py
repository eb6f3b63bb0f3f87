"""`POST /retrieve` over an index, in the two request shapes that the local corpus servers of the field speak.

{"queries": [str, ...], "topk": n, "return_scores": bool} -> {"result": [[...], ...]}, one list per query, each entry a
document {"id", "contents"} or, with scores, {"document": {...}, "score": f}; contents = '"title"\\ntext'.
{"query": str} is the same with one query.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from deepmmsearch.engine.connections import BadRequest, BoundedHandler, BoundedServer
from deepmmsearch.engine.index import Index
from deepmmsearch.hosts import Hosts
from deepmmsearch.types import Hit

MAX_QUERIES = 512
MAX_TOPK = 100


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


def make_server(index: Index, port: int, host: str = "127.0.0.1", allowed: Iterable[str] = ()) -> BoundedServer:
    """A bound server; serve_forever() runs it. Port 0 takes a free one.

    allowed: names under which it may be called besides `host`, those of this machine for itself, and the address at
    which a request comes in. Raises UserError for what cannot be a name, OSError where it cannot listen.
    """

    class Handler(BoundedHandler):
        def do_POST(self) -> None:
            if self.path.rstrip("/") != "/retrieve":
                return self.do_GET()
            try:
                request = _read(self.body())
            except BadRequest as error:
                return self.send_error(400, str(error))
            try:
                with self.server.working(self.connection):
                    answer = retrieve(index, request)
            except BadRequest as error:
                return self.send_error(400, str(error))
            except Exception as error:  # a failing query must not take the connection down without a word
                return self.send_error(500, f"The search failed: {type(error).__name__}.")
            self.send_json(200, answer)

        def do_GET(self) -> None:
            self.send_error(404, "There is only POST /retrieve here.")

    return BoundedServer(host, port, Handler, Hosts((host, *allowed)))


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
