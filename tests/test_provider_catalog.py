"""Providers are found, checked and made through one door, ours and anyone's."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from conftest import Offer
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.tools.providers import catalog
from deepmmsearch.tools.providers.catalog import PROVIDERS, MissingKey, find_key
from deepmmsearch.types import Hit

GROUP = PROVIDERS.group
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
    *("serper-lens", "tavily", "wikipedia", "commons", "picimagesearch"),
}


class Fixed:
    """Always finds the same.

    `title` is what it finds.
    """

    kinds = ("text",)
    price = 0.02

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


@pytest.fixture(autouse=True)
def offered(offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with these providers, good and bad, beside ours."""
    module = ModuleType("someones_providers")
    vars(module).update(
        Fixed=Fixed,
        Keyed=Keyed,
        Lenient=Lenient,
        function=lambda: None,
        NoKinds=type("NoKinds", (), {"search": lambda self: None}),
        NoSearch=type("NoSearch", (), {"kinds": ("text",)}),
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = ("Fixed", "Keyed", "Lenient", "function", "NoKinds", "NoSearch", "Gone")
    offer(GROUP, package="someones", **{name.lower(): f"someones_providers:{name}" for name in names})


def make(
    name: str,
    kind: str = "text",
    environ: Mapping[str, str] | None = None,
    variable: str | None = None,
    **settings: Any,
) -> Any:
    return catalog.make(name, kind, settings, lambda *found: found, environ or {}, variable)  # type: ignore[arg-type, return-value]


def test_ours_come_through_the_same_door() -> None:
    ours = {name for name in PROVIDERS.names() if PROVIDERS.origin(name) == "deepmmsearch"}
    assert ours == OURS
    for name in ours:
        listing = catalog.listing(name)
        assert listing.kinds and listing.about.endswith(".") and not listing.problem, listing
        assert getattr(PROVIDERS.find(name), "name", None) == name, "calls and prices go by this name"
    assert catalog.listing("fixed").origin == "someones"


def test_a_price_belongs_to_its_provider() -> None:
    assert catalog.listing("serper").price == 0.001 and catalog.listing("searxng").price == 0
    assert catalog.listing("fixed").price == 0.02


def test_settings_reach_the_constructor_as_what_it_says() -> None:
    made = make("fixed", title="Veld", pages="7", folder="some/where", loud="true")
    assert (made.title, made.pages, made.folder, made.loud) == ("Veld", 7, Path("some/where"), True)
    assert make("fixed", title="Veld").pages == 3


def test_the_client_is_made_for_the_addresses_in_the_settings() -> None:
    own, known, keys = make("fixed", title="http://127.0.0.1:8888/search").client
    assert list(own) == ["http://127.0.0.1:8888/search"] == list(known) and not keys
    assert [list(part) for part in make("fixed", title="no address").client] == [[], [], []]


def test_unknown_names_offer_the_nearest() -> None:
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
        ({"title": "x", "key": KEY}, "key is not a setting. Keys come from the environment"),
        ({"title": "x", "client": 1}, "client is not a setting"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make("fixed", **settings)
    assert "\n" not in str(caught.value)


def test_keys_come_from_the_environment() -> None:
    assert make("keyed", environ={"FIXED_API_KEY": f" {KEY}\n"}).key == KEY
    assert make("keyed", environ={"OTHER": KEY}, variable="OTHER").key == KEY
    for empty in ({}, {"FIXED_API_KEY": ""}, {"FIXED_API_KEY": "  "}):
        with pytest.raises(
            MissingKey, match=r"^No key for keyed\. Set FIXED_API_KEY, or run offline with --tools local\.$"
        ):
            make("keyed", environ=empty)


@pytest.mark.parametrize("bad", ["two words", "caf\u00e9-key", "a\nb", "a\x00b"])
def test_what_cannot_be_a_key_is_told_before_it_is_sent(bad: str) -> None:
    with pytest.raises(UserError, match="What K holds is not a key") as caught:
        find_key("x", "K", {"K": bad})
    assert bad not in str(caught.value)


def test_a_key_with_a_default_may_be_missing() -> None:
    assert make("lenient", "page").key == ""
    assert make("lenient", "page", environ={"FIXED_API_KEY": KEY}).key == KEY
    assert catalog.listing("lenient").key_optional and not catalog.listing("keyed").key_optional


def test_a_provider_serves_what_it_says() -> None:
    for name, kind, place in (
        ("fixed", "image", "under text:"),
        ("lenient", "text", "as reader:"),
        ("keyed", "page", ""),
    ):
        with pytest.raises(UserError, match=f"{name} does not do that. Name it {place}"):
            make(name, kind, title="x") if name == "fixed" else make(name, kind)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("function", "is not a class with"),
        ("NoKinds", "is not a class with"),
        ("NoSearch", "is not a class with"),
        ("Gone", "cannot be imported.*Gone"),
    ],
)
def test_what_is_not_a_provider_is_told_and_takes_nobody_down(value: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PROVIDERS.find(value.lower())
    assert catalog.listing(value.lower()).problem and not catalog.listing("fixed").problem
