"""docs/tools.md: its provider works as it stands there, its recipe loads, its table is that of the code."""

from __future__ import annotations

import asyncio
import re
import ssl
import tomllib
from pathlib import Path

import pytest
import yaml

from conftest import Offer
from deepmmsearch.compose.recipe import read_settings
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.testing import ScriptedPolicy
from deepmmsearch.testing.services import ServiceReply, ServiceRequest, as_json, site
from deepmmsearch.tools.http import GuardedClient
from deepmmsearch.tools.providers import catalog
from deepmmsearch.tools.providers.api import ProviderError
from deepmmsearch.tools.providers.catalog import PROVIDERS

pytest.importorskip("httpx2")
DOCS = Path(__file__).parent.parent / "docs" / "tools.md"


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture
def installed(offer: Offer) -> None:
    """The documented provider, installed as its documented pyproject.toml says."""
    entries = tomllib.loads(block("toml"))["project"]["entry-points"][PROVIDERS.group]
    (offer(PROVIDERS.group, **entries) / "wikipedia_search.py").write_text(block("python"))


def wikipedia(asked: ServiceRequest) -> ServiceReply:
    assert asked.path == "/w/api.php" and asked.query["list"] == "search" and asked.query["format"] == "json"
    rows = [{"title": "Veld", "pageid": 7, "snippet": 'The <span class="searchmatch">capital</span> is Moru.'}]
    return as_json({"query": {"search": rows if asked.query["srsearch"] == "veld" else []}})


def test_the_provider_of_the_docs_works(installed: None) -> None:
    assert len(block("python").splitlines()) <= 26, "20 lines and blank ones"
    assert catalog.listing("wikipedia").about == "Wikipedia's own search, in one language."
    with site() as server:
        server.reply = wikipedia
        client = GuardedClient(allow_private=[server.host], verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        settings = {"url": f"{server.url}/w/api.php"}
        tool = catalog.make("wikipedia", "text", settings, lambda *_: client, {})
        (hit,) = asyncio.run(tool.search("veld", 5))
        assert (hit.title, hit.url, hit.snippet) == ("Veld", f"{server.url}/?curid=7", "The capital is Moru.")
        assert asyncio.run(tool.search("nothing", 5)) == []
        server.reply = lambda _: ServiceReply(503, b"")
        with pytest.raises(ProviderError, match="Wikipedia is not working"):
            asyncio.run(tool.search("veld", 5))


def test_a_recipe_may_name_it(installed: None) -> None:
    tools = build_toolbox(
        read_settings({"text": "wikipedia", "reader": "none"}, ToolSettings, "tools"), ScriptedPolicy("x"), {}
    )
    assert tools.text_search is not None and tools.text_search.name == "wikipedia"  # type: ignore[attr-defined]


def test_the_recipe_of_the_docs_becomes_a_toolbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read_settings(yaml.safe_load(block("yaml").replace("…", "x")), ToolSettings, "the docs")
    (tmp_path / "runs").mkdir()
    tools = build_toolbox(settings, ScriptedPolicy("x"), {"SERPAPI_API_KEY": "key-0123456789"})
    assert tools.text_search is not None and tools.image_search is not None and tools.pages == 5


def test_the_table_is_that_of_the_code() -> None:
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| ([a-z, ]+) \|", DOCS.read_text(), re.MULTILINE))
    kinds = {"text": "text", "image": "image", "page": "pages"}
    ours = {n for n in PROVIDERS.names() if catalog.listing(n).origin == "deepmmsearch"}
    assert listed == {n: ", ".join(kinds[k] for k in catalog.listing(n).kinds) for n in ours}
    for name in ours:
        variable = catalog.listing(name).key_variable
        assert variable is None or variable in DOCS.read_text()
