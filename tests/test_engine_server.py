"""POST /retrieve: both request shapes, exactly two queries, clear refusals."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tantivy")

from deepmmsearch.engine import Index
from deepmmsearch.engine.connections import MAX_BODY
from deepmmsearch.engine.server import make_server


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    root = tmp_path_factory.mktemp("server")
    (root / "w").mkdir()
    for name, text in (("veld", "The capital of Veld is Oru."), ("nord", "The capital of Nord is Tal.")):
        (root / "w" / f"{name}.html").write_text(f"<title>{name.title()}</title><p>{text}</p>")
    Path(root / "w" / "more.txt").write_text("Another capital.")
    server = make_server(Index.build(root / "w", root / "i"), 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def ask(port: int, body: Any, path: str = "/retrieve", method: str = "POST") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body).encode())
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_list_per_query_with_and_without_scores(port: int, count: int) -> None:
    queries = ["capital of Veld", "capital of Nord", "capital"][:count]
    status, plain = ask(port, {"queries": queries, "topk": 2, "return_scores": False})
    assert status == 200 and len(plain["result"]) == count
    assert plain["result"][0][0] == {"id": "veld.html", "contents": '"Veld"\nThe capital of Veld is Oru.'}
    _, scored = ask(port, {"queries": queries, "topk": 2, "return_scores": True})
    assert [[entry["document"] for entry in one] for one in scored["result"]] == plain["result"]
    assert all(entry["score"] > 0 for one in scored["result"] for entry in one)


def test_single_query_shape_and_defaults(port: int) -> None:
    status, answer = ask(port, {"query": "capital of Nord"})
    assert status == 200 and answer["result"][0][0]["id"] == "nord.html" and len(answer["result"]) == 1
    assert ask(port, {"queries": []}) == (200, {"result": []})


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ([1], "JSON object"),
        ({}, '"queries"'),
        ({"queries": "capital"}, '"queries"'),
        ({"queries": [1]}, '"queries"'),
        ({"query": None}, '"query"'),
        ({"query": "x", "topk": 0}, '"topk"'),
        ({"query": "x", "topk": True}, '"topk"'),
        ({"query": "x", "topk": 10**9}, '"topk"'),
        ({"query": "x", "return_scores": "yes"}, '"return_scores"'),
    ],
)
def test_bad_requests_say_what_is_wrong(port: int, body: Any, word: str) -> None:
    status, answer = ask(port, body)
    assert status == 400 and word in answer["error"]


def test_too_large_unknown_paths_and_methods(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("POST", "/retrieve")
    connection.putheader("Content-Length", str(MAX_BODY + 1))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 400 and "larger than" in json.loads(response.read())["error"]
    assert ask(port, {}, "/other")[0] == 404 and ask(port, {}, "/retrieve", "GET")[0] == 404
