"""docs/tools.md: its recipe loads, its table is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from deepmmsearch.compose.recipe import read_settings
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.testing import ScriptedPolicy
from deepmmsearch.tools.providers import catalog
from deepmmsearch.tools.providers.catalog import PROVIDERS

pytest.importorskip("httpx2")
DOCS = Path(__file__).parent.parent / "docs" / "tools.md"


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_recipe_of_the_docs_becomes_a_toolbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read_settings(yaml.safe_load(block("yaml").replace("…", "x")), ToolSettings, "the docs")
    (tmp_path / "runs").mkdir()
    tools = build_toolbox(settings, ScriptedPolicy("x"), {"SERPAPI_API_KEY": "key-0123456789"})
    assert tools.text_search is not None and tools.image_search is not None and tools.pages == 5


def test_the_table_is_that_of_the_code() -> None:
    listed = dict(
        re.findall(r"^\| `([a-z-]+)` \| ([a-z, ]+) \| [^|\n]* \| [^|\n]* \|$", DOCS.read_text(), re.MULTILINE)
    )
    kinds = {"text": "text", "image": "image", "page": "pages"}
    ours = {n for n in PROVIDERS.names() if catalog.listing(n).origin == "deepmmsearch"}
    assert listed == {n: ", ".join(kinds[k] for k in catalog.listing(n).kinds) for n in ours}
    for name in ours:
        variable = catalog.listing(name).key_variable
        assert variable is None or variable in DOCS.read_text()
