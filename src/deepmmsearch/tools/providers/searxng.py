"""SearXNG, a metasearch engine that one runs oneself: no key, no bill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deepmmsearch.tools.providers.api import Api, Client, ProviderError, hit, plain, rows, web_address
from deepmmsearch.tools.providers.pictures import illustrated
from deepmmsearch.types import Hit


class SearXNG:
    """Text search through a SearXNG instance of one's own.

    Its answers and infoboxes come before what its engines found. `url`: the instance. `language`: such as "en";
    with auto the instance goes by each query. `engines`, `categories`: comma-separated names; "" takes the
    instance's own. `time_range`: day, month or year. `pictures`: fetch the hits' thumbnails. One query at a time,
    and one a second, unless the recipe says otherwise: the engines behind it refuse a home address that asks
    faster.
    """

    name = "searxng"
    kinds = ("text",)
    per_second, concurrency = 1.0, 1

    def __init__(
        self,
        client: Client,
        url: str,
        language: str = "",
        engines: str = "",
        categories: str = "",
        time_range: str = "",
        safesearch: int = 0,
        pictures: bool = False,
    ) -> None:
        self._client = client if pictures else None
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
        found = [*_answers(answer, query), *_infoboxes(answer)]
        for n, r in enumerate(rows(answer, "results"), 1):
            place = r.get("thumbnail_src") or r.get("thumbnail") or r.get("img_src")
            found.append((hit(r.get("title"), r.get("url"), r.get("content"), n, self.name, r.get("score")), place))
        silent = answer.get("unresponsive_engines")
        if not found and isinstance(silent, list) and silent:
            raise ProviderError(f"None of SearXNG's engines answered ({_names(silent)}).", "down")
        return await illustrated(self._client, found, k)


def _answers(answer: Mapping[str, Any], query: str) -> Iterator[tuple[Hit, object]]:
    """What the instance itself says: a text or {"answer", "url"}, by its version."""
    listed = answer.get("answers")
    for given in listed if isinstance(listed, list) else ():
        said = given if isinstance(given, dict) else {"answer": given}
        if text := plain(said.get("answer")):
            yield hit(query, said.get("url"), text, 1, SearXNG.name), None


def _infoboxes(answer: Mapping[str, Any]) -> Iterator[tuple[Hit, object]]:
    for box in rows(answer, "infoboxes"):
        place = web_address(box.get("id")) or next(
            filter(None, (web_address(u.get("url")) for u in rows(box, "urls"))), ""
        )
        # an attribute may be a picture alone
        facts = ((plain(a.get("label"), 100), plain(a.get("value"), 300)) for a in rows(box, "attributes")[:20])
        said = (f"{label}: {value}." for label, value in facts if value)
        text = " ".join(filter(None, (plain(box.get("content")), *said)))
        yield hit(box.get("infobox"), place, text, 1, SearXNG.name), box.get("img_src")


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
