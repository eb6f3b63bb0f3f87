"""Wikipedia and Wikimedia Commons, through the interface of MediaWiki: no key, no bill.

The foundation asks whoever calls to say how he can be reached; `contact` goes into the User-Agent and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from deepmmsearch import __version__
from deepmmsearch.errors import UserError
from deepmmsearch.tools.providers.api import Api, Client, ProviderError, hit, plain, rows, shortened
from deepmmsearch.tools.providers.pictures import illustrated
from deepmmsearch.tools.providers.spoken import AUTO, spoken
from deepmmsearch.types import Hit

# what the search takes (CirrusSearch), and how many introductions come at once (TextExtracts)
LONGEST_QUERY, MOST = 300, 20
THUMBNAIL = 320
_TAG = re.compile(r"<[^<>]{1,500}>")
_LANGUAGE = re.compile(r"[a-z]{2,12}(-[a-z]{2,12}){0,2}")
_WAIT = ("maxlag", "ratelimited", "cirrussearch-too-busy-error")


class _MediaWiki:
    def __init__(self, label: str, client: Client, url: str, contact: str) -> None:
        if not contact.isprintable() or not contact.isascii():
            raise UserError(f"contact of {label.lower()} is an address or an e-mail in plain letters, not {contact!r}.")
        self._api, self._url = Api(label, client), url
        self._headers = {"User-Agent": f"deepmmsearch/{__version__}" + (f" ({contact})" if contact else "")}

    async def pages(self, query: str, k: int, options: Mapping[str, str | int]) -> list[Mapping[str, Any]]:
        """What the search finds, best first."""
        asked: dict[str, str | int | float] = {"action": "query", "format": "json", "formatversion": 2, **options}
        asked |= {"generator": "search", "gsrsearch": shortened(query, LONGEST_QUERY), "gsrlimit": min(k, MOST)}
        answer = await self._api.json("GET", self._url, params=asked, headers=self._headers)
        error = answer.get("error")
        if isinstance(error, dict):
            said = self._api.quoted(plain(error.get("info")) or plain(error.get("code")) or "no reason")
            if error.get("code") in _WAIT:
                raise ProviderError(f"{self._api.label} asks to be left alone for a while: {said}", "rate")
            raise ProviderError(f"{self._api.label} refused the request: {said}", "refused")
        query_part = answer.get("query", {"pages": []} if "batchcomplete" in answer else None)
        if not isinstance(query_part, dict) or not isinstance(query_part.get("pages"), list):
            raise ProviderError(f"{self._api.label} did not answer with a list of pages.", "answer")
        found = rows(query_part, "pages")
        return sorted(found, key=lambda page: index if isinstance(index := page.get("index"), int) else MOST + 1)


class Wikipedia:
    """Keyless text search in Wikipedia: the introductions of its articles.

    `language`: of the edition, such as "en", or auto, the language of each query. `url`: the api.php of another
    wiki with the extensions CirrusSearch and TextExtracts. `contact`: how you can be reached, which the foundation
    asks for. `pictures`: fetch the articles' pictures.
    """

    name = "wikipedia"
    kinds = ("text",)
    per_second, concurrency = 2.0, 1

    def __init__(
        self, client: Client, language: str = "en", url: str = "", contact: str = "", pictures: bool = False
    ) -> None:
        if language != AUTO and not _LANGUAGE.fullmatch(language):
            raise UserError(f"language of wikipedia is that of an edition, such as en or zh-yue, not {language!r}.")
        if url and language == AUTO:
            raise UserError("language of wikipedia is auto, but url names one wiki. Leave one of them out.")

        def edition(language: str) -> _MediaWiki:
            return _MediaWiki("Wikipedia", client, url or f"https://{language}.wikipedia.org/w/api.php", contact)

        self._language, self._edition = language, cache(edition)
        self._edition("en" if language == AUTO else language)  # refuses a contact that cannot be sent
        self._client = client if pictures else None

    async def search(self, query: str, k: int) -> list[Hit]:
        options: dict[str, str | int] = {
            "gsrnamespace": 0,
            "prop": "extracts|info" + ("|pageimages" if self._client else ""),
            "inprop": "url",
            "exintro": 1,
            "explaintext": 1,
            "exlimit": "max",
        }
        if self._client:
            options |= {"piprop": "thumbnail", "pithumbsize": THUMBNAIL, "pilimit": MOST}
        language = (spoken(query) or "en") if self._language == AUTO else self._language
        pages = await self._edition(language).pages(query, k, options)
        found = [
            (
                hit(
                    page.get("title"),
                    page.get("canonicalurl") or page.get("fullurl"),
                    page.get("extract"),
                    n,
                    self.name,
                ),
                _source(page.get("thumbnail")),
            )
            for n, page in enumerate(pages, 1)
        ]
        return await illustrated(self._client, found, k)


class Commons:
    """Keyless search with words for pictures in Wikimedia Commons: their titles, descriptions, makers and licences.

    `language`: of the descriptions, where there are several. `url`: the api.php of another wiki of files. `contact`:
    how you can be reached, which the foundation asks for. `pictures`: fetch the pictures, small.
    """

    name = "commons"
    kinds = ("text",)
    per_second, concurrency = 2.0, 1

    def __init__(
        self,
        client: Client,
        language: str = "en",
        url: str = "https://commons.wikimedia.org/w/api.php",
        contact: str = "",
        pictures: bool = True,
    ) -> None:
        self._wiki = _MediaWiki("Commons", client, url, contact)
        self._client, self._language = client if pictures else None, language

    async def search(self, query: str, k: int) -> list[Hit]:
        pages = await self._wiki.pages(
            query,
            k,
            {
                "gsrnamespace": 6,
                "prop": "imageinfo",
                "iiprop": "url|mime|extmetadata",
                "iiurlwidth": THUMBNAIL,
                "iiextmetadatalanguage": self._language,
                "iiextmetadatafilter": "ImageDescription|Artist|LicenseShortName",
            },
        )
        found = []
        for n, page in enumerate(pages, 1):
            info = next(iter(rows(page, "imageinfo")), {})
            if not str(info.get("mime")).startswith("image/"):
                continue  # sounds, films and scanned books lie there, too
            title = plain(page.get("title")).partition(":")[2].rpartition(".")[0]
            found.append((hit(title, info.get("descriptionurl"), _described(info), n, self.name), info.get("thumburl")))
        return await illustrated(self._client, found, k)


def _source(thumbnail: object) -> object:
    return thumbnail.get("source") if isinstance(thumbnail, dict) else None


def _described(info: Mapping[str, Any]) -> str:
    """What the picture shows, who made it, and its licence; the fields are HTML."""
    data = info.get("extmetadata")
    fields = data if isinstance(data, dict) else {}
    said = []
    for name, form in (("ImageDescription", "{}"), ("Artist", "By {}."), ("LicenseShortName", "Licence: {}.")):
        field = fields.get(name)
        value = field.get("value") if isinstance(field, dict) else None
        if text := plain(_TAG.sub("", value) if isinstance(value, str) else value):
            said.append(form.format(text))
    return " ".join(said)
