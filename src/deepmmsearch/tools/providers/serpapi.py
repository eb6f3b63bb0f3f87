"""SerpApi: Google's results as JSON."""

from __future__ import annotations

from deepmmsearch.tools.providers.api import Api, Client, ProviderError, hit, ranked, rows
from deepmmsearch.tools.providers.spoken import GOOGLE, in_language
from deepmmsearch.types import Hit

NOTHING = "hasn't returned any results"


class SerpApi:
    """Google's text results through SerpApi.

    `country`, `language`: two letters, such as "us" and "en"; the language auto is that of each query.
    """

    name = "serpapi"
    kinds = ("text",)
    key_variable = "SERPAPI_API_KEY"
    price = 0.025

    def __init__(
        self,
        client: Client,
        key: str,
        url: str = "https://serpapi.com/search.json",
        country: str = "",
        language: str = "",
    ) -> None:
        self._api = Api("SerpApi", client, self.key_variable, (key,))
        self._url, self._key = url, key
        self._options, self._language = {"gl": country} if country else {}, language

    async def search(self, query: str, k: int) -> list[Hit]:
        params = {"engine": "google", "q": query, "num": str(max(1, min(k, 100))), "api_key": self._key}
        params |= self._options | in_language(self._language, query, GOOGLE, "hl")
        answer = await self._api.json("GET", self._url, params=params)
        found = rows(answer, "organic_results")
        refuse_error(self._api, answer, bool(found))
        return ranked(
            (hit(r.get("title"), r.get("link"), r.get("snippet"), n, self.name) for n, r in enumerate(found, 1)), k
        )


def refuse_error(api: Api, answer: dict[str, object], found: bool) -> None:
    """SerpApi says with status 200 and `error` that a search failed, and also that one found nothing. Raises
    ProviderError for the former."""
    said = answer.get("error")
    if not found and isinstance(said, str) and NOTHING not in said:
        raise ProviderError(f"SerpApi could not search. It says: {api.quoted(said)}", "down")
