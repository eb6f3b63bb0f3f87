"""serper.dev: Google's results as JSON."""

from __future__ import annotations

from deepmmsearch.tools.providers.api import Api, Client, hit, ranked, rows
from deepmmsearch.tools.providers.spoken import GOOGLE, in_language
from deepmmsearch.types import Hit


class Serper:
    """Google's text results through serper.dev.

    `country`, `language`: two letters, such as "us" and "en"; the language auto is that of each query.
    """

    name = "serper"
    kinds = ("text",)
    key_variable = "SERPER_API_KEY"
    price = 0.001

    def __init__(
        self,
        client: Client,
        key: str,
        url: str = "https://google.serper.dev/search",
        country: str = "",
        language: str = "",
    ) -> None:
        self._api = Api("Serper", client, self.key_variable, (key,))
        self._url = url
        self._headers = {"X-API-KEY": key}
        self._options, self._language = {"gl": country} if country else {}, language

    async def search(self, query: str, k: int) -> list[Hit]:
        body = {"q": query, "num": max(1, min(k, 100)), **self._options}
        body |= in_language(self._language, query, GOOGLE, "hl")
        answer = await self._api.json("POST", self._url, headers=self._headers, json=body)
        return ranked(
            (
                hit(r.get("title"), r.get("link"), r.get("snippet"), n, self.name)
                for n, r in enumerate(rows(answer, "organic"), 1)
            ),
            k,
        )
