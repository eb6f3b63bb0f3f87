"""Exa: search by meaning; its results carry highlights or text of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepmmsearch.tools.providers.api import Api, Client, hit, plain, ranked, rows
from deepmmsearch.types import Hit


class Exa:
    """Text search by meaning.

    `type`: auto, fast, neural or keyword. `text_characters`: take that much of each page's text instead of its
    highlights. `country`: two letters, for which results are fit; a language is not taken.
    """

    name = "exa"
    kinds = ("text",)
    key_variable = "EXA_API_KEY"
    price = 0.007

    def __init__(
        self,
        client: Client,
        key: str,
        url: str = "https://api.exa.ai/search",
        type: str = "auto",
        text_characters: int = 0,
        country: str = "",
    ) -> None:
        self._api = Api("Exa", client, self.key_variable, (key,))
        self._url, self._type = url, type
        self._headers = {"x-api-key": key}
        self._options = {"userLocation": country} if country else {}
        self._contents = {"text": {"maxCharacters": text_characters}} if text_characters else {"highlights": True}

    async def search(self, query: str, k: int) -> list[Hit]:
        body = {"query": query, "type": self._type, "numResults": max(1, min(k, 100)), "contents": self._contents}
        body |= self._options
        answer = await self._api.json("POST", self._url, headers=self._headers, json=body)
        return ranked(
            (
                hit(r.get("title"), r.get("url"), _text(r), n, self.name, r.get("score"))
                for n, r in enumerate(rows(answer, "results"), 1)
            ),
            k,
        )


def _text(row: Mapping[str, Any]) -> str:
    highlights = row.get("highlights")
    parts = highlights if isinstance(highlights, list) else ()
    return " ".join(filter(None, map(plain, parts))) or plain(row.get("text")) or plain(row.get("summary"))
