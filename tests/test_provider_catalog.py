"""Providers are found, checked and made through one door, ours and anyone's."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.tools.providers.catalog import GROUP, Catalog, MissingKey, find_key
from deepmmsearch.types import Hit

KEY = "key-0123456789"
OURS = {
    *(
        "brave",
        "ddgs",
        "exa",
        "jina",
        "jina-reader",
        "local",
        "retrieve",
        "searxng",
        "serpapi",
        "serpapi-lens",
        "serper",
    ),
    *("serper-lens", "tavily"),
}


class Fixed:
    """Always finds the same.

    `title` is what it finds.
    """

    kinds = ("text",)

    def __init__(
        self, client: Any, title: str, pages: int = 3, folder: Path = Path("x"), *, loud: bool = False
    ) -> None:
        self.client, self.title, self.pages, self.folder, self.loud = client, title, pages, folder, loud

    async def search(self, query: str, k: int) -> list[Hit]:
        return [Hit(self.title, "")]


class Keyed:
    kinds = ("text", "image")
    key_variable = "FIXED_API_KEY"

    def __init__(self, key: str) -> None:
        self.key = key

    async def search(self, query: str, k: int) -> list[Hit]:
        return []


class Lenient:
    """Works without a key, too."""

    kinds = ("page",)
    key_variable = "FIXED_API_KEY"

    def __init__(self, key: str = "") -> None:
        self.key = key

    async def read(self, url: str) -> None: ...


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("someones_providers")
    for thing in (Fixed, Keyed, Lenient):
        setattr(made, thing.__name__, thing)
    made.function = lambda: None  # type: ignore[attr-defined]
    made.NoKinds = type("NoKinds", (), {"search": lambda self: None})  # type: ignore[attr-defined]
    made.NoSearch = type("NoSearch", (), {"kinds": ("text",)})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "someones_providers", made)
    return made


def catalog(**named: str) -> Catalog:
    return Catalog.find([EntryPoint(name, f"someones_providers:{value}", GROUP) for name, value in named.items()])


def make(
    name: str,
    kind: str = "text",
    environ: Mapping[str, str] | None = None,
    variable: str | None = None,
    **settings: Any,
) -> Any:
    offered = catalog(fixed="Fixed", keyed="Keyed", lenient="Lenient")
    return offered.make(name, kind, settings, lambda *found: found, environ or {}, variable)  # type: ignore[arg-type, return-value]


def test_ours_come_through_the_same_door() -> None:
    found = Catalog.find()
    ours = {name for name in found.found if found.listing(name).origin == "deepmmsearch"}
    assert ours == OURS
    for name in ours:
        listing = found.listing(name)
        assert listing.kinds and listing.about.endswith(".") and not listing.problem, listing
        assert getattr(found.load(name), "name", None) == name, "calls and prices go by this name"


def test_a_package_of_somebody_else_is_found_once_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution as pip lays it out, on the path."""
    (tmp_path / "theirs.py").write_text(
        "from deepmmsearch.types import Hit\n\n\n"
        "class Theirs:\n    kinds = ('text',)\n\n    def __init__(self, greeting: str = 'hello') -> None:\n"
        "        self.greeting = greeting\n\n    async def search(self, query: str, k: int) -> list[Hit]:\n"
        "        return [Hit(f'{self.greeting} {query}', '')]\n"
    )
    meta = tmp_path / "their_search-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: their-search\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(f"[{GROUP}]\ntheirs = theirs:Theirs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    offered = Catalog.find()
    assert offered.listing("theirs").origin == "their-search" and set(offered.found) > OURS
    tool = offered.make("theirs", "text", {"greeting": "good day"}, lambda *_: None, {})  # type: ignore[arg-type, return-value]
    assert asyncio.run(tool.search("veld", 1)) == [Hit("good day veld", "")]
    sys.modules.pop("theirs", None)


def test_two_packages_with_one_name_are_an_error() -> None:
    entries = [EntryPoint("a", "one:A", GROUP), EntryPoint("a", "two:A", GROUP)]
    with pytest.raises(UserError, match=r"Two packages offer the provider 'a'.*one:A.*two:A.*Uninstall one"):
        Catalog.find(entries)
    assert Catalog.find([entries[0], entries[0]]).found, "one that is found twice is one"


def test_settings_reach_the_constructor_as_what_it_says(module: ModuleType) -> None:
    made = make("fixed", title="Veld", pages="7", folder="some/where", loud="true")
    assert (made.title, made.pages, made.folder, made.loud) == ("Veld", 7, Path("some/where"), True)
    assert make("fixed", title="Veld").pages == 3


def test_the_client_is_made_for_the_addresses_in_the_settings(module: ModuleType) -> None:
    own, known = make("fixed", title="http://127.0.0.1:8888/search").client
    assert list(own) == ["http://127.0.0.1:8888/search"] == list(known)
    assert [list(part) for part in make("fixed", title="no address").client] == [[], []]


def test_unknown_names_offer_the_nearest(module: ModuleType) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'fixed'"):
        make("fixde", title="x")
    with pytest.raises(UnknownName, match=r"setting of the provider fixed 'titel'\. Did you mean 'title'"):
        make("fixed", titel="x")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "fixed needs the setting title"),
        ({"title": ["x"]}, "fixed: title: Input should be a valid string"),
        ({"title": "x", "pages": "many"}, "fixed: pages: Input should be a valid integer"),
        ({"title": "x", "key": KEY}, "key is no setting. Keys come from the environment"),
        ({"title": "x", "client": 1}, "client is no setting"),
    ],
)
def test_settings_that_do_not_fit(module: ModuleType, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make("fixed", **settings)
    assert "\n" not in str(caught.value)


def test_keys_come_from_the_environment(module: ModuleType) -> None:
    assert make("keyed", environ={"FIXED_API_KEY": f" {KEY}\n"}).key == KEY
    assert make("keyed", environ={"OTHER": KEY}, variable="OTHER").key == KEY
    for empty in ({}, {"FIXED_API_KEY": ""}, {"FIXED_API_KEY": "  "}):
        with pytest.raises(
            MissingKey, match=r"^No key for keyed\. Set FIXED_API_KEY, or run offline with --tools local\.$"
        ):
            make("keyed", environ=empty)


@pytest.mark.parametrize("bad", ["two words", "caf\u00e9-key", "a\nb", "a\x00b"])
def test_what_cannot_be_a_key_is_told_before_it_is_sent(bad: str) -> None:
    with pytest.raises(UserError, match="What K holds is no key") as caught:
        find_key("x", "K", {"K": bad})
    assert bad not in str(caught.value)


def test_a_key_with_a_default_may_be_missing(module: ModuleType) -> None:
    assert make("lenient", "page").key == ""
    assert make("lenient", "page", environ={"FIXED_API_KEY": KEY}).key == KEY
    offered = catalog(lenient="Lenient", keyed="Keyed")
    assert offered.listing("lenient").key_optional and not offered.listing("keyed").key_optional


def test_a_provider_serves_what_it_says(module: ModuleType) -> None:
    for name, kind, place in (
        ("fixed", "image", "under text:"),
        ("lenient", "text", "as reader:"),
        ("keyed", "page", ""),
    ):
        with pytest.raises(UserError, match=f"{name} is no provider for that. Name it {place}"):
            make(name, kind, title="x") if name == "fixed" else make(name, kind)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("function", "is no class with"),
        ("NoKinds", "is no class with"),
        ("NoSearch", "is no class with"),
        ("Gone", "cannot be imported.*Gone"),
    ],
)
def test_what_is_no_provider_is_told_and_takes_nobody_down(module: ModuleType, value: str, message: str) -> None:
    offered = catalog(broken=value, fixed="Fixed")
    with pytest.raises(UserError, match=message):
        offered.load("broken")
    assert offered.listing("broken").problem and not offered.listing("fixed").problem


def test_a_module_that_fails_at_import_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exploding.py").write_text("raise RuntimeError('boom')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    offered = Catalog.find([EntryPoint("exploding", "exploding:X", GROUP)])
    assert "RuntimeError: boom" in offered.listing("exploding").problem


def test_without_entry_points_the_installation_is_to_blame() -> None:
    with pytest.raises(UserError, match="entry points are missing"):
        Catalog.find([]).load("serper")
