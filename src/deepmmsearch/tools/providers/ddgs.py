"""ddgs: keyless text search through a package that asks several engines by itself."""

from __future__ import annotations

from typing import Any

from deepmmsearch.errors import MissingExtra
from deepmmsearch.tools.providers.api import ProviderError, hit, ranked
from deepmmsearch.tools.providers.spoken import AUTO, spoken
from deepmmsearch.tools.providers.unguarded import check_unguarded
from deepmmsearch.tools.threads import ToolThreads
from deepmmsearch.types import Hit

# what ddgs and the library beneath it read, besides the usual ones
_PROXIES = ("DDGS_PROXY", "PRIMP_PROXY")
# the largest of a language; wt-wt is none
REGIONS = {
    **{"ar": "xa-ar", "bg": "bg-bg", "ca": "ct-ca", "cs": "cz-cs", "da": "dk-da", "de": "de-de", "el": "gr-el"},
    **{"en": "us-en", "es": "es-es", "et": "ee-et", "fi": "fi-fi", "fr": "fr-fr", "he": "il-he", "hu": "hu-hu"},
    **{"id": "id-id", "it": "it-it", "ja": "jp-jp", "ko": "kr-kr", "lt": "lt-lt", "nl": "nl-nl", "no": "no-no"},
    **{"pl": "pl-pl", "pt": "br-pt", "ro": "ro-ro", "ru": "ru-ru", "sv": "se-sv", "th": "th-th", "tr": "tr-tr"},
    **{"uk": "ua-uk", "vi": "vn-vi", "zh": "cn-zh"},
}


class Ddgs:
    """Keyless text search with the package ddgs, past the guarded client.

    `unguarded: true` is required. `backend`: engines, comma-separated, or auto. `region`: such as "us-en", or auto,
    by the language of each query. `timeout`: whole seconds. `proxy`: the address of one to go through.
    """

    name = "ddgs"
    kinds = ("text",)
    extra = "ddgs"
    module = "ddgs"
    per_second, concurrency = 0.5, 1

    def __init__(
        self,
        unguarded: bool = False,
        backend: str = "auto",
        region: str = "us-en",
        safesearch: str = "moderate",
        timeout: int = 10,
        proxy: str = "",
    ) -> None:
        check_unguarded(self.name, unguarded, proxy, *_PROXIES)
        try:
            import ddgs
        except ImportError:
            raise MissingExtra("Search with ddgs", self.extra) from None
        self._engine, self._threads = ddgs.DDGS, ToolThreads("ddgs", 16)
        self._connection = {"timeout": timeout, "proxy": proxy or None}
        self._options: dict[str, Any] = {"backend": backend, "safesearch": safesearch}
        self._timeout, self._region = timeout, region

    async def search(self, query: str, k: int) -> list[Hit]:
        found = await self._threads.run(self._ask, query, k)
        rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
        return ranked(
            (hit(r.get("title"), r.get("href"), r.get("body"), n, self.name) for n, r in enumerate(rows, 1)), k
        )

    def _ask(self, query: str, k: int) -> object:
        from ddgs.exceptions import DDGSException

        try:
            region = REGIONS.get(spoken(query), "wt-wt") if self._region == AUTO else self._region
            return self._engine(**self._connection).text(query, max_results=k, region=region, **self._options)
        except DDGSException as error:
            # The package wraps what its engines raise, and says the same when all refused and when nothing was found.
            said = f"{type(error).__name__} {error!r}".lower()
            if "ratelimit" in said:
                raise ProviderError("ddgs is rate-limited by the engines it asks.", "rate") from None
            if "timeout" in said or "timed out" in said:
                raise ProviderError(f"ddgs had no answer within {self._timeout} s.", "down") from None
            if "no results found" in said:
                raise ProviderError("ddgs found nothing; its engines may have refused.", "answer") from None
            raise ProviderError("ddgs could not search.", "down") from None
