"""Google Lens through SerpApi: the picture is uploaded, so a crop needs no public address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL.Image import Image

from deepmmsearch.tools.providers.api import Api, Client, ProviderError, hit, plain, rows
from deepmmsearch.tools.providers.pictures import address_of, as_jpeg, illustrated
from deepmmsearch.tools.providers.serpapi import refuse_error
from deepmmsearch.types import Hit

# the limit of its image API is 500 KB; uploads are free, their ids last ten minutes
MOST_BYTES = 480_000


class SerpApiLens:
    """Google Lens through SerpApi, by upload, or by address where the picture has one.

    `country`, `language`: two letters. `type`: which tab of Lens, visual_matches or exact_matches. `pictures`: fetch
    the hits' thumbnails, which the check of hits against the crop and MMSearch-R1's observations need.
    """

    name = "serpapi-lens"
    kinds = ("image",)
    key_variable = "SERPAPI_API_KEY"
    price = 0.025

    def __init__(
        self,
        client: Client,
        key: str,
        url: str = "https://serpapi.com/search.json",
        upload_url: str = "https://serpapi.com/image",
        country: str = "",
        language: str = "",
        type: str = "visual_matches",
        pictures: bool = True,
    ) -> None:
        self._api = Api("SerpApi", client, self.key_variable, (key,))
        self._client, self._key = client, key
        self._url, self._upload_url = url, upload_url
        self._options = {name: value for name, value in {"country": country, "hl": language}.items() if value}
        self._type, self._pictures = type, pictures

    async def search(self, image: Image, k: int) -> list[Hit]:
        address = address_of(image)
        where = {"url": address} if address else {"image_id": await self._upload(image)}
        params = {"engine": "google_lens", "type": self._type, "api_key": self._key, **where, **self._options}
        answer = await self._api.json("GET", self._url, params=params)
        found = rows(answer, self._type, "visual_matches", "exact_matches", "image_results")
        refuse_error(self._api, answer, bool(found))
        hits = [
            (hit(r.get("title"), r.get("link"), _about(r), n, self.name), r.get("thumbnail") or r.get("image"))
            for n, r in enumerate(found, 1)
        ]
        return await illustrated(self._client if self._pictures else None, hits, k)

    async def _upload(self, image: Image) -> str:
        file = ("picture.jpg", as_jpeg(image, MOST_BYTES), "image/jpeg")
        answer = await self._api.json("POST", self._upload_url, data={"api_key": self._key}, files={"image": file})
        given = answer.get("image_id")
        if not isinstance(given, str) or not given:
            raise ProviderError("SerpApi took the picture but gave no image_id for it.", "answer")
        return given


def _about(row: Mapping[str, Any]) -> str:
    """Lens gives no text but the title; who shows the picture helps to judge it."""
    return ", ".join(filter(None, (plain(row.get("snippet")), plain(row.get("source"), 100))))
