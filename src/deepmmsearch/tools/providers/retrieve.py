"""Local corpus servers of the RL field, and `deepmmsearch index serve`: `POST /retrieve`."""

from __future__ import annotations

from typing import Any, Literal

from deepmmsearch.redaction import without_login
from deepmmsearch.tools.providers.api import (
    LONGEST_TITLE,
    LONGEST_URL,
    Api,
    Client,
    ProviderError,
    number,
    plain,
    ranked,
)
from deepmmsearch.types import Hit


class Retrieve:
    """Text search on a corpus server that speaks `POST /retrieve`.

    `url`: the server, with or without the path. `shape`: what it takes, {"queries": [...], "topk", "return_scores"}
    (queries) or {"query": ..., "topk"} (query). It answers {"result": [[...]]} of documents {"id", "contents"}, with or
    without scores; contents = '"title"\\ntext'.
    """

    name = "retrieve"
    kinds = ("text",)

    def __init__(self, client: Client, url: str, shape: Literal["queries", "query"] = "queries") -> None:
        self._api = Api("The retrieval server", client)
        base = url.rstrip("/")
        self._url = base if base.endswith("/retrieve") else f"{base}/retrieve"
        self._shape = shape

    async def search(self, query: str, k: int) -> list[Hit]:
        asked = {"queries": [query]} if self._shape == "queries" else {"query": query}
        answer = await self._api.json("POST", self._url, json={**asked, "topk": max(1, k), "return_scores": True})
        return ranked((_hit(entry, n) for n, entry in enumerate(_entries(answer), 1)), k)


def _entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The documents for the one query, whether they stand in a list of lists or in a list."""
    result = answer.get("result", answer.get("results"))
    if not isinstance(result, list):
        raise ProviderError('The retrieval server answered without "result", a list of lists.', "answer")
    first = result[0] if result and isinstance(result[0], list) else result
    return [entry for entry in first if isinstance(entry, dict)]


def _hit(entry: dict[str, Any], rank: int) -> Hit:
    document = entry["document"] if isinstance(entry.get("document"), dict) else entry
    contents = document.get("contents") or document.get("text") or ""
    title, text = plain(document.get("title"), LONGEST_TITLE), contents if isinstance(contents, str) else ""
    if not title and "\n" in text.strip():
        head, _, text = text.lstrip().partition("\n")
        title = plain(head.rstrip().removeprefix('"').removesuffix('"'), LONGEST_TITLE)
    score = number(entry.get("score", document.get("score")))
    # ids of such corpora are often plain numbers; they are kept, because they are all there is to name a source
    name = document.get("url") or document.get("id")
    return Hit(
        title,
        without_login(plain(name, LONGEST_URL)),
        plain(text),
        1.0 / rank if score is None else score,
        source="retrieve",
    )
