"""Search services are asked in the language of the query where the recipe says so, each in its own words."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from deepmmsearch.errors import UserError
from deepmmsearch.testing import contract
from deepmmsearch.testing.services import Site, site
from deepmmsearch.tools.providers import catalog
from deepmmsearch.tools.providers.ddgs import REGIONS
from deepmmsearch.tools.providers.spoken import spoken
from deepmmsearch.tools.providers.wikimedia import Wikipedia
from provider_mocks import SERVICES

pytest.importorskip("httpx2")

QUERIES = {
    "en": "who built the tower of the old town and when was it",
    "de": "wer hat den Turm der alten Stadt gebaut und wann war das",
    "es": "quién construyó la torre de la ciudad vieja y cuándo fue",
    "zh": "谁建造了老城的塔",
    "ar": "من بنى برج المدينة القديمة ومتى كان ذلك",
    "ja": "旧市街の塔は誰が建てたのですか",
    "ru": "кто построил башню старого города и когда это было",
}
NAMES = "Farnworth Bemlan 1874"


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with site() as running:
        yield running


def told(server: Site, name: str, query: str, **settings: Any) -> dict[str, Any]:
    """What the service was told beside the query."""
    case = contract.ProviderCase(server, next(s for s in SERVICES if s.name == name), **settings)
    case.search(query)
    asked = server.asked[-1]
    return asked.query | (asked.json if asked.method == "POST" else {})


@pytest.mark.parametrize("language", QUERIES)
def test_the_language_of_a_query_is_known(language: str) -> None:
    assert spoken(QUERIES[language]) == language


@pytest.mark.parametrize("query", [NAMES, "", "  ", "12 345", "Tower"])
def test_names_alone_are_of_no_language(query: str) -> None:
    assert spoken(query) == ""


@pytest.mark.parametrize(
    ("name", "option"), [("serper", "hl"), ("serpapi", "hl"), ("jina", "hl"), ("brave", "search_lang")]
)
def test_a_service_is_asked_in_the_querys_language(server: Site, name: str, option: str) -> None:
    own = {"brave": {"zh": "zh-hans", "ja": "jp"}}.get(name, {"zh": "zh-cn"})
    for language, query in QUERIES.items():
        assert told(server, name, query, language="auto")[option] == own.get(language, language)
    assert option not in told(server, name, NAMES, language="auto")
    assert option not in told(server, name, QUERIES["de"])
    # what a recipe names is sent as it stands
    assert told(server, name, QUERIES["de"], language="pt-br", country="br")[option] == "pt-br"


def test_a_language_that_brave_does_not_know_is_left_out(server: Site) -> None:
    assert spoken("κάστρο και πύργος της πόλης που είναι στο λόφο") == "el"
    assert "search_lang" not in told(server, "brave", "κάστρο και πύργος της πόλης που είναι στο λόφο", language="auto")


def test_services_that_take_a_country_alone(server: Site) -> None:
    assert told(server, "tavily", "x", country="germany")["country"] == "germany"
    assert told(server, "exa", "x", country="de")["userLocation"] == "de"
    assert "country" not in told(server, "tavily", "x") and "userLocation" not in told(server, "exa", "x")


def test_searxng_tells_languages_apart_by_itself(server: Site) -> None:
    assert told(server, "searxng", QUERIES["de"], language="auto")["language"] == "auto"


def test_wikipedia_is_that_of_the_querys_language(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def pages(self: Any, query: str, k: int, options: object) -> list[Any]:
        asked.append(self._url)
        return []

    monkeypatch.setattr("deepmmsearch.tools.providers.wikimedia._MediaWiki.pages", pages)
    wikipedia = Wikipedia(None, language="auto")  # type: ignore[arg-type]
    for query in (*QUERIES.values(), NAMES):
        asyncio.run(wikipedia.search(query, 3))
    assert [re.match(r"https://(\w+)\.wikipedia", url)[1] for url in asked] == [*QUERIES, "en"]  # type: ignore[index]
    with pytest.raises(UserError, match="url names one wiki"):
        Wikipedia(None, language="auto", url="https://wiki.example/w/api.php")  # type: ignore[arg-type]


def test_ddgs_searches_the_region_of_the_querys_language(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ddgs")
    regions = []

    class Engine:
        def __init__(self, **connection: Any) -> None: ...

        def text(self, query: str, *, region: str, **options: Any) -> list[Any]:
            regions.append(region)
            return []

    monkeypatch.setattr(sys.modules["ddgs"], "DDGS", Engine)
    tool = catalog.make("ddgs", "text", {"unguarded": True, "region": "auto"}, lambda *_: None, {})  # type: ignore[arg-type,return-value]
    for query in (*QUERIES.values(), NAMES):
        asyncio.run(tool.search(query, 3))
    assert regions == [*(REGIONS[language] for language in QUERIES), "wt-wt"]
