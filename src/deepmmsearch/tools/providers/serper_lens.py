"""Google Lens through serper.dev, which takes public addresses only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from PIL.Image import Image

from deepmmsearch.tools.http import BadStatus
from deepmmsearch.tools.providers.api import Api, Client, ProviderError, hit, plain, rows, web_address
from deepmmsearch.tools.providers.pictures import address_of, as_jpeg, illustrated
from deepmmsearch.types import Hit

MOST_BYTES = 2_000_000


class SerperLens:
    """Google Lens through serper.dev, by the picture's public address.

    A crop has none, so either the recipe names an uploader or the search is an error that says so. `upload_to`: an
    address that takes a picture (multipart, field `upload_field`) and answers with its public address, as text or as
    JSON with url, link or data.url; whoever runs it sees your pictures. `country`, `language`: two letters.
    `pictures`: fetch the hits' thumbnails.
    """

    name = "serper-lens"
    kinds = ("image",)
    key_variable = "SERPER_API_KEY"
    price = 0.003

    def __init__(
        self,
        client: Client,
        key: str,
        url: str = "https://google.serper.dev/lens",
        upload_to: str = "",
        upload_field: str = "file",
        country: str = "",
        language: str = "",
        pictures: bool = True,
    ) -> None:
        self._api = Api("Serper", client, self.key_variable, (key,))
        self._client, self._url = client, url
        self._upload_to, self._upload_field = upload_to, upload_field
        self._headers = {"X-API-KEY": key}
        self._options = {name: value for name, value in {"gl": country, "hl": language}.items() if value}
        self._pictures = pictures

    async def search(self, image: Image, k: int) -> list[Hit]:
        address = address_of(image) or await self._upload(image)
        answer = await self._api.json("POST", self._url, headers=self._headers, json={"url": address, **self._options})
        found = [
            (
                hit(r.get("title"), r.get("link"), _about(r), n, self.name),
                r.get("thumbnailUrl") or r.get("imageUrl"),
            )
            for n, r in enumerate(rows(answer, "organic", "visualMatches", "visual_matches"), 1)
        ]
        return await illustrated(self._client if self._pictures else None, found, k)

    async def _upload(self, image: Image) -> str:
        if not self._upload_to:
            raise ProviderError(
                "Serper Lens needs a picture with a public address, and this one has none. Set upload_to for "
                "serper-lens, or use serpapi-lens or local.",
                "refused",
            )
        file = ("picture.jpg", as_jpeg(image, MOST_BYTES), "image/jpeg")
        try:
            reply = await self._client.request("POST", self._upload_to, files={self._upload_field: file})
        except BadStatus as error:
            raise ProviderError(f"The uploader did not take the picture ({error.status}).", "down") from None
        address = web_address(reply.text().strip()) or _address(_decoded(reply.content))
        if not address:
            raise ProviderError("The uploader did not answer with the picture's address.", "answer")
        return address


def _decoded(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _address(answer: object) -> str:
    """The first address in the answer of an uploader: {"url"}, {"link"}, {"data": {"url"}}, {"files": [{"url"}]}."""
    if isinstance(answer, list):
        return next(filter(None, map(_address, answer[:3])), "")
    if not isinstance(answer, dict):
        return ""
    named = [web_address(answer.get(name)) for name in ("url", "link", "display_url")]
    return next(filter(None, (*named, *(_address(answer.get(name)) for name in ("data", "image", "files")))), "")


def _about(row: Mapping[str, Any]) -> str:
    """Lens gives no text but the title; who shows the picture helps to judge it."""
    return ", ".join(filter(None, (plain(row.get("snippet")), plain(row.get("source"), 100))))
