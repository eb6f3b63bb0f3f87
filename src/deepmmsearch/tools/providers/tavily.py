"""Tavily: search made for language models; its results carry the part of the page that fits the query."""

from __future__ import annotations

from deepmmsearch.tools.providers.api import Api, Client, hit, ranked, rows, shortened
from deepmmsearch.types import Hit

LONGEST_QUERY, MOST_RESULTS = 400, 20


class Tavily:
    """Text search that brings the part of each page that fits the query.

    `depth`: basic (1 credit) or advanced (2 credits: set its price in the recipe). `country`: its English name in
    small letters, such as "germany", whose pages come first; a language is not taken.
    """

    name = "tavily"
    kinds = ("text",)
    key_variable = "TAVILY_API_KEY"
    price = 0.008

    def __init__(
        self,
        client: Client,
        key: str,
        url: str = "https://api.tavily.com/search",
        depth: str = "basic",
        country: str = "",
    ) -> None:
        self._api = Api("Tavily", client, self.key_variable, (key,))
        self._url, self._depth = url, depth
        self._options = {"country": country} if country else {}
        self._headers = {"Authorization": f"Bearer {key}"}

    async def search(self, query: str, k: int) -> list[Hit]:
        body = {
            "query": shortened(query, LONGEST_QUERY),
            "max_results": max(1, min(k, MOST_RESULTS)),
            "search_depth": self._depth,
            **self._options,
        }
        answer = await self._api.json("POST", self._url, headers=self._headers, json=body)
        return ranked(
            (
                hit(r.get("title"), r.get("url"), r.get("content"), n, self.name, r.get("score"))
                for n, r in enumerate(rows(answer, "results"), 1)
            ),
            k,
        )
