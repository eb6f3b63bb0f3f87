"""PicImageSearch: keyless search with a picture through a package that asks the engines' own pages.

The package pins lxml below 6, whose older versions have known flaws, so it cannot be an extra beside ours; it works
with the lxml that reads pages here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL.Image import Image

from deepmmsearch.errors import MissingPackage, UserError
from deepmmsearch.tools.providers.api import Client, ProviderError, hit
from deepmmsearch.tools.providers.pictures import as_jpeg, illustrated
from deepmmsearch.tools.providers.unguarded import check_unguarded
from deepmmsearch.types import Hit

ENGINES: Mapping[str, str] = {
    "yandex": "Yandex",
    "google-lens": "GoogleLens",
    "bing": "Bing",
    "tineye": "Tineye",
    "baidu": "BaiDu",
    "copyseeker": "Copyseeker",
    "ascii2d": "Ascii2D",
    "iqdb": "Iqdb",
}
MOST_BYTES = 2_000_000
INSTALL = "pip install pyquery 'httpx[http2]' && pip install --no-deps 'PicImageSearch>=3.12,<3.13'"
# where engines keep what they found, beside the usual `raw`
_LISTS = ("raw", "pages_including", "visual_search", "exact_matches", "similar")
_REFUSED = ("captcha", "showcaptcha", "unusual traffic", "too many requests", "429", "403")


class PicImageSearch:
    """Keyless search with a picture through the package PicImageSearch, past the guarded client.

    `unguarded: true` is required; the picture, or the crop, goes to the engine. `engine`: yandex, google-lens, bing,
    tineye, baidu, copyseeker, ascii2d or iqdb. `timeout`: seconds. `proxy`: the address of one to go through.
    `pictures`: fetch the hits' thumbnails, with the guarded client.
    """

    name = "picimagesearch"
    kinds = ("image",)
    module = "PicImageSearch"
    per_second, concurrency = 0.5, 1

    def __init__(
        self,
        client: Client,
        unguarded: bool = False,
        engine: str = "yandex",
        timeout: float = 20.0,
        proxy: str = "",
        pictures: bool = True,
    ) -> None:
        check_unguarded(self.name, unguarded, proxy)
        if engine not in ENGINES:
            raise UserError(f"picimagesearch has no engine {engine!r}. It has {', '.join(ENGINES)}.")
        try:
            import PicImageSearch as package
        except ImportError:
            raise MissingPackage("Search with PicImageSearch", INSTALL) from None
        self._engine, self._network = getattr(package, ENGINES[engine]), package.Network
        self._label, self._client = f"picimagesearch ({engine})", client if pictures else None
        self._connection: dict[str, Any] = {"timeout": timeout, "proxies": proxy or None}

    async def search(self, image: Image, k: int) -> list[Hit]:
        answer = await self._ask(as_jpeg(image, MOST_BYTES))
        found: list[tuple[Hit, object]] = []
        for item in (item for name in _LISTS for item in getattr(answer, name, None) or ()):
            said = (getattr(item, name, "") for name in ("content", "source", "site_name", "author"))
            about = ", ".join(dict.fromkeys(text for text in said if isinstance(text, str) and text))
            title = getattr(item, "title", "") or getattr(item, "name", "")
            address = getattr(item, "url", "")
            found.append((hit(title, address, about, len(found) + 1, self.name), getattr(item, "thumbnail", "")))
        return await illustrated(self._client, found, k)

    async def _ask(self, picture: bytes) -> object:
        try:
            async with self._network(**self._connection) as session:
                return await self._engine(client=session).search(file=picture)
        # The package lets through whatever its parsers trip over, and a page that asks for a CAPTCHA is one of them.
        except Exception as error:
            said = f"{type(error).__name__} {error}".lower()
            if any(word in said for word in _REFUSED):
                raise ProviderError(
                    f"{self._label} is refused by the engine, which takes us for a machine.", "rate"
                ) from None
            if "timeout" in said or "connect" in said:
                raise ProviderError(f"{self._label} could not be reached.", "down") from None
            raise ProviderError(
                f"{self._label} answered with a page that cannot be read; the engine may have refused, or changed.",
                "rate",
            ) from None
