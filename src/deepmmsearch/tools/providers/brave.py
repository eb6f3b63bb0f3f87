"""Brave Search: an index of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepmmsearch.tools.providers.api import Api, Client, hit, plain, ranked, rows, shortened
from deepmmsearch.tools.providers.spoken import in_language
from deepmmsearch.types import Hit

# what the API takes: 400 characters and 50 words, 20 results a page
LONGEST_QUERY, MOST_WORDS, MOST_RESULTS = 400, 50, 20
# its codes of languages that are others than ISO 639-1's; "" for those that it does not know
CODES = {
    **{"zh": "zh-hans", "ja": "jp", "no": "nb", "pt": "pt-pt"},
    **dict.fromkeys(("el", "fa", "ga", "hy", "id", "km", "lo", "my", "ne", "yi"), ""),
}


class Brave:
    """Text search in Brave's own index.

    `country`, `language`: two letters; the language auto is that of each query. `extra_snippets`: further excerpts
    of each page, where the plan has them. The smallest plans allow one request a second: set `per_second: 1`.
    """

    name = "brave"
    kinds = ("text",)
    key_variable = "BRAVE_API_KEY"
    price = 0.005

    def __init__(
        self,
        client: Client,
        key: str,
        url: str = "https://api.search.brave.com/res/v1/web/search",
        country: str = "",
        language: str = "",
        safesearch: str = "moderate",
        extra_snippets: bool = False,
    ) -> None:
        self._api = Api("Brave", client, self.key_variable, (key,))
        self._url = url
        self._headers = {"X-Subscription-Token": key, "Accept": "application/json"}
        self._language = language
        options = {"country": country, "safesearch": safesearch}
        self._options = {name: value for name, value in options.items() if value}
        if extra_snippets:
            self._options["extra_snippets"] = "true"

    async def search(self, query: str, k: int) -> list[Hit]:
        params = {
            "q": shortened(query, LONGEST_QUERY, MOST_WORDS),
            "count": str(max(1, min(k, MOST_RESULTS))),
            "result_filter": "web",
            "text_decorations": "false",
            **self._options,
            **in_language(self._language, query, CODES, "search_lang"),
        }
        answer = await self._api.json("GET", self._url, params=params, headers=self._headers)
        found = rows(answer.get("web"), "results")
        return ranked((hit(r.get("title"), r.get("url"), _text(r), n, self.name) for n, r in enumerate(found, 1)), k)


def _text(row: Mapping[str, Any]) -> str:
    more = row.get("extra_snippets")
    return " ".join(filter(None, map(plain, (row.get("description"), *(more if isinstance(more, list) else ())))))
