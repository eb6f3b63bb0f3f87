"""SearXNG, a metasearch engine that one runs oneself: no key, no bill."""

from __future__ import annotations

from deepmmsearch.tools.providers.api import Api, Client, ProviderError, hit, plain, ranked, rows
from deepmmsearch.types import Hit


class SearXNG:
    """Text search through a SearXNG instance of one's own.

    `url`: the instance. `language`: such as "en". `engines`, `categories`: comma-separated names; "" takes the
    instance's own. `time_range`: day, month or year.
    """

    name = "searxng"
    kinds = ("text",)

    def __init__(
        self,
        client: Client,
        url: str,
        language: str = "",
        engines: str = "",
        categories: str = "",
        time_range: str = "",
        safesearch: int = 0,
    ) -> None:
        self._api = Api("SearXNG", client)
        base = url.rstrip("/")
        self._url = base if base.endswith("/search") else f"{base}/search"
        options = {"language": language, "engines": engines, "categories": categories, "time_range": time_range}
        self._options = {name: value for name, value in options.items() if value} | {"safesearch": str(safesearch)}

    async def search(self, query: str, k: int) -> list[Hit]:
        params = {"q": query, "format": "json", **self._options}
        try:
            answer = await self._api.json("GET", self._url, params=params)
        except ProviderError as error:
            raise _explain(error) from None
        found = rows(answer, "results")
        silent = answer.get("unresponsive_engines")
        if not found and isinstance(silent, list) and silent:
            raise ProviderError(f"None of SearXNG's engines answered ({_names(silent)}).", "down")
        return ranked(
            (
                hit(r.get("title"), r.get("url"), r.get("content"), n, self.name, r.get("score"))
                for n, r in enumerate(found, 1)
            ),
            k,
        )


def _explain(error: ProviderError) -> ProviderError:
    if error.reason in ("refused", "key") and "(403)" in str(error):
        return ProviderError(
            "SearXNG refuses to answer in JSON (403). Add json to search.formats in its settings.yml.", "refused"
        )
    if error.reason == "answer":
        return ProviderError(
            "SearXNG did not answer in JSON. Check its address, and search.formats in its settings.yml.", "answer"
        )
    return error


def _names(silent: list[object]) -> str:
    """[["google", "CAPTCHA"], ...] as "google: CAPTCHA"."""
    pairs = [e if isinstance(e, list) else [e] for e in silent]
    shown = [": ".join(filter(None, (plain(part, 60) for part in pair[:2]))) for pair in pairs[:5]]
    return ", ".join(filter(None, shown))
