"""Jina search (s.jina.ai)."""

from __future__ import annotations

from deepmmsearch.tools.providers.api import Api, Client, ProviderError, hit, ranked, rows
from deepmmsearch.tools.providers.spoken import GOOGLE, in_language
from deepmmsearch.types import Hit


class Jina:
    """Text search through s.jina.ai.

    `content`: the pages' text too, which costs many more tokens; without it results have their descriptions alone.
    `country`, `language`: two letters; the language auto is that of each query.
    """

    name = "jina"
    kinds = ("text",)
    key_variable = "JINA_API_KEY"
    price = 0.0005  # billed by tokens: at least 10,000 a search

    def __init__(
        self,
        client: Client,
        key: str,
        url: str = "https://s.jina.ai/",
        content: bool = False,
        country: str = "",
        language: str = "",
    ) -> None:
        self._api = Api("Jina", client, self.key_variable, (key,))
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}", "Accept": "application/json", "X-Retain-Images": "none"}
        if not content:
            self._headers["X-Respond-With"] = "no-content"
        self._options, self._language = {"gl": country} if country else {}, language

    async def search(self, query: str, k: int) -> list[Hit]:
        body = {"q": query, "num": max(1, min(k, 20)), **self._options}
        body |= in_language(self._language, query, GOOGLE, "hl")
        try:
            answer = await self._api.json("POST", self._url, headers=self._headers, json=body)
        except ProviderError as error:
            # it says with an error that it found nothing
            if "No search results" in str(error):
                return []
            raise
        return ranked(
            (
                hit(r.get("title"), r.get("url"), r.get("content") or r.get("description"), n, self.name)
                for n, r in enumerate(rows(answer, "data", "results"), 1)
            ),
            k,
        )
