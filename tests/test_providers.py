"""Every provider through one suite, against its service as the documentation describes it (provider_mocks.py)."""

from __future__ import annotations

import asyncio
import ssl
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.testing import contract
from deepmmsearch.testing.services import KEY, ROWS, Service, ServiceReply, ServiceRow, Site, as_json, site
from deepmmsearch.tools.http import GuardedClient
from deepmmsearch.tools.providers import catalog, retrieve
from deepmmsearch.tools.providers.api import ProviderError, plain
from deepmmsearch.tools.providers.pictures import address_of, as_jpeg, with_address
from provider_mocks import SERVICES, serper_lens

pytest.importorskip("httpx2")
PICTURE = Image.effect_noise((64, 48), 60).convert("RGB")


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with site() as running:
        yield running


@pytest.mark.parametrize("service", SERVICES, ids=str)
@pytest.mark.parametrize("check", contract.PROVIDER, ids=lambda check: check.__name__)
def test_what_holds_for_every_provider(
    server: Site, service: Service, check: contract.Check[contract.ProviderCase]
) -> None:
    check(contract.ProviderCase(server, service))


def one(server: Site, name: str, **settings: Any) -> contract.ProviderCase:
    return contract.ProviderCase(server, next(s for s in SERVICES if s.name == name), **settings)


def test_searxng_without_json_says_what_to_change(server: Site) -> None:
    forbidden = ServiceReply(403, b"<!doctype html><title>403 Forbidden</title>", kind="text/html")
    for reply in (forbidden, ServiceReply(200, b"<html>", kind="text/html")):
        assert "search.formats in its settings.yml" in str(one(server, "searxng").fails(reply))


def test_searxng_whose_engines_are_silent_is_down(server: Site) -> None:
    silent = {"results": [], "unresponsive_engines": [["google", "CAPTCHA"], ["bing", "timeout"], "x", None]}
    error = one(server, "searxng").fails(as_json(silent))
    assert "google: CAPTCHA, bing: timeout" in str(error) and isinstance(error, ProviderError)
    assert error.reason == "down"


def test_markup_goes_and_words_stay_apart(server: Site) -> None:
    provider = one(server, "searxng")
    text = "One<br/>two <b>th</b>ree &lt;b&gt; 5 < 6 > 4 <script>x</script>"
    provider.answers(lambda asked: provider.service.answer(asked, (ServiceRow("Veld", "https://a.example", text),)))
    assert provider.search()[0].snippet == "One two three <b> 5 < 6 > 4 <script>x</script>"


def test_searxng_below_a_path(server: Site) -> None:
    provider = one(server, "searxng", url=f"{server.url}/", language="de", engines="a,b")
    provider.search()
    assert server.asked[-1].query == {
        "q": "capital of Veld",
        "format": "json",
        "language": "de",
        "engines": "a,b",
        "safesearch": "0",
    }


def test_searxng_says_what_it_knows_first(server: Site) -> None:
    """The forms of both its generations: answers as texts and as objects, infoboxes with attributes."""
    box = {
        "infobox": "Veld",
        "id": "https://wiki.example/Veld",
        "content": "A country.",
        "img_src": "https://wiki.example/veld.png",
        "attributes": [{"label": "Capital", "value": "Moru"}, {"label": "Flag", "image": {}}, "x"],
    }
    result = {"title": "T", "url": "https://a.example", "content": "text"}
    answers = ["42", {"answer": "6 km", "url": "https://b.example"}, {"answer": None}, 7.5, None, {}]
    provider = one(server, "searxng")
    provider.answers(lambda _: as_json({"answers": answers, "infoboxes": [box, None], "results": [result]}))
    assert [(h.title, h.url, h.snippet) for h in provider.search()] == [
        ("capital of Veld", "", "42"),
        ("capital of Veld", "https://b.example", "6 km"),
        ("capital of Veld", "", "7.5"),
        ("Veld", "https://wiki.example/Veld", "A country. Capital: Moru."),
        ("T", "https://a.example", "text"),
    ]
    provider.answers(lambda _: as_json({"answers": "x", "infoboxes": {}, "results": [result]}))
    assert len(provider.search()) == 1


@pytest.mark.parametrize("code", ["maxlag", "ratelimited"])
def test_wikipedia_says_with_200_that_it_is_busy(server: Site, code: str) -> None:
    error = one(server, "wikipedia").fails(as_json({"error": {"code": code, "info": "Waiting for 10.64: 5 s lagged"}}))
    assert "5 s lagged" in str(error) and isinstance(error, ProviderError) and error.reason == "rate"
    error = one(server, "commons").fails(as_json({"error": {"code": "badvalue", "info": "<b>No</b>"}}))
    assert str(error).endswith("No.") and isinstance(error, ProviderError) and error.reason == "refused"


def test_wikipedia_is_told_how_to_reach_us(server: Site) -> None:
    one(server, "wikipedia", contact="me@site.example").search()
    assert server.asked[-1].headers["user-agent"].endswith(" (me@site.example)")
    for wrong in ({"contact": "a\nHost: x"}, {"language": "en.evil.example/"}, {"language": ""}):
        with pytest.raises(UserError):
            one(server, "wikipedia", **wrong)


def test_commons_tells_of_pictures_alone(server: Site) -> None:
    def page(name: str, mime: str, **fields: str) -> dict[str, Any]:
        data = {field: {"value": value} for field, value in fields.items()}
        info = {"descriptionurl": f"https://c.example/{name}", "mime": mime, "extmetadata": data}
        return {"title": f"File:{name}", "imageinfo": [info]}

    pages = [
        page("Song.ogg", "audio/ogg"),
        page(
            "A b.c.png",
            "image/png",
            ImageDescription="<p>A <b>tower</b></p>",
            Artist="<a>Ann</a>",
            LicenseShortName="CC0",
        ),
        {"title": "File:Bare.jpg", "imageinfo": "x"},
    ]
    provider = one(server, "commons")
    provider.answers(lambda _: as_json({"query": {"pages": pages}}))
    (hit,) = provider.search()
    assert (hit.title, hit.snippet) == ("A b.c", "A tower By Ann. Licence: CC0.")


class FakeEngine:
    answer: Any = None

    def __init__(self, client: Any) -> None:
        assert client == "session"

    async def search(self, file: bytes) -> Any:
        assert file[:2] == b"\xff\xd8"
        if isinstance(FakeEngine.answer, Exception):
            raise FakeEngine.answer
        return FakeEngine.answer


class FakeNetwork:
    def __init__(self, timeout: float, proxies: str | None) -> None:
        pass

    async def __aenter__(self) -> str:
        return "session"

    async def __aexit__(self, *_: object) -> None:
        pass


@pytest.fixture
def picimagesearch(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("PicImageSearch")
    package.Network, package.Yandex, package.Bing = FakeNetwork, FakeEngine, FakeEngine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "PicImageSearch", package)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def _picimagesearch(**settings: Any) -> Any:
    return catalog.make("picimagesearch", "image", {"pictures": False, **settings}, lambda *_: None, {})  # type: ignore[arg-type, return-value]


def test_picimagesearch_finds_in_the_lists_of_its_engines(picimagesearch: None) -> None:
    item = SimpleNamespace(
        title="Veld <b>flag</b>", url="https://a.example", thumbnail="", content="A flag", source="a"
    )
    for answer in (SimpleNamespace(raw=[item, object()]), SimpleNamespace(raw=[], pages_including=[item])):
        FakeEngine.answer = answer
        (found,) = asyncio.run(_picimagesearch(unguarded=True).search(PICTURE, 5))
        assert (found.title, found.url, found.snippet) == ("Veld flag", "https://a.example", "A flag, a")
    FakeEngine.answer = SimpleNamespace(raw=[])
    assert asyncio.run(_picimagesearch(unguarded=True, engine="bing").search(PICTURE, 5)) == []


def test_picimagesearch_tells_a_refusal_as_one(picimagesearch: None) -> None:
    for failure, reason, said in (
        (ValueError("https://yandex.com/showcaptcha?x"), "rate", "takes us for a machine"),
        (TimeoutError(), "down", "could not be reached"),
        (KeyError("data-state"), "rate", "cannot be read"),
    ):
        FakeEngine.answer = failure
        with pytest.raises(ProviderError, match=said) as caught:
            asyncio.run(_picimagesearch(unguarded=True).search(PICTURE, 5))
        assert caught.value.reason == reason


def test_picimagesearch_is_used_only_by_who_says_so(picimagesearch: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="unguarded: true"):
        _picimagesearch()
    with pytest.raises(UserError, match="no engine 'altavista'"):
        _picimagesearch(unguarded=True, engine="altavista")
    monkeypatch.setitem(sys.modules, "PicImageSearch", None)
    with pytest.raises(MissingExtra, match="pip install --no-deps 'PicImageSearch"):
        _picimagesearch(unguarded=True)


def test_the_real_picimagesearch_still_takes_what_we_give_it() -> None:
    package = pytest.importorskip("PicImageSearch")
    import inspect

    from deepmmsearch.tools.providers.picimagesearch import ENGINES

    assert {"timeout", "proxies"} <= set(inspect.signature(package.Network).parameters)
    for name in ENGINES.values():
        assert "file" in inspect.signature(getattr(package, name).search).parameters


def test_exa_takes_text_where_it_is_told_to(server: Site) -> None:
    provider = one(server, "exa", text_characters=500)
    assert [h.snippet for h in provider.search()] == [r.text for r in ROWS]
    assert server.asked[-1].json["contents"] == {"text": {"maxCharacters": 500}}


def test_serpapi_says_with_200_that_it_failed(server: Site) -> None:
    error = one(server, "serpapi").fails(as_json({"error": f"We couldn't get valid results. {KEY}"}))
    assert "couldn't get valid results" in str(error)


def test_brave_joins_extra_snippets(server: Site) -> None:
    provider = one(server, "brave", extra_snippets=True)
    row = {
        "title": "T",
        "url": "https://a.example",
        "description": "One.",
        "extra_snippets": ["Two.", None, 3, "Four."],
    }
    provider.answers(lambda _: as_json({"web": {"results": [row]}}))
    assert provider.search()[0].snippet == "One. Two. 3 Four."
    assert server.asked[-1].query["extra_snippets"] == "true"


def test_jina_asks_for_content_only_where_it_is_told_to(server: Site) -> None:
    one(server, "jina").search()
    assert server.asked[-1].headers["x-respond-with"] == "no-content"
    one(server, "jina", content=True).search()
    assert "x-respond-with" not in server.asked[-1].headers


def test_retrieve_reads_both_answers_of_the_field(server: Site) -> None:
    provider = one(server, "retrieve")
    document = {"id": "12", "contents": '"Veld"\nThe capital\nof Veld.'}
    for result in ([[{"document": document, "score": 3.5}]], [[document]], [document], [{"document": document}]):
        provider.answers(lambda _, result=result: as_json({"result": result}))
        (hit,) = provider.search()
        assert (hit.title, hit.url, hit.snippet) == ("Veld", "12", "The capital of Veld.")
    provider.answers(lambda _: as_json({"result": [[{"contents": "no title, one line"}, {"text": "t", "title": "x"}]]}))
    assert [(h.title, h.snippet) for h in provider.search()] == [("", "no title, one line"), ("x", "t")]


def test_retrieve_before_our_own_server(tmp_path: Path) -> None:
    pytest.importorskip("tantivy")
    from deepmmsearch.engine import Index
    from deepmmsearch.engine.server import make_server

    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "veld.md").write_text("# Veld\n\nThe capital of Veld is Moru.\n")
    server = make_server(Index.build(pages, tmp_path / "index"), 0)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    host = f"127.0.0.1:{server.server_address[1]}"
    client = GuardedClient(allow_private=[host], verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    try:
        for shape in ("queries", "query"):
            settings = {"url": f"http://{host}", "shape": shape}
            tool = catalog.make("retrieve", "text", settings, lambda *_: client, {})
            (hit,) = asyncio.run(tool.search("capital of Veld", 3))
            assert hit.title == "Veld" and "Moru" in hit.snippet and hit.url.endswith("veld.md")
    finally:
        server.shutdown()
        server.server_close()


def test_local_searches_with_words_and_with_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tantivy")
    from deepmmsearch.engine import Index

    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "veld.md").write_text("# Veld\n\nThe capital of Veld is Moru.\n")
    PICTURE.save(pages / "flag-of-veld.png")
    Index.build(pages, tmp_path / "index")
    for kind, wanted in (("text", "capital of Veld"), ("image", PICTURE)):
        tool = catalog.make("local", kind, {"index": str(tmp_path / "index")}, _no_client, {})  # type: ignore[arg-type]
        assert "veld" in asyncio.run(tool.search(wanted, 3))[0].url
    with pytest.raises(UserError, match="index"):
        catalog.make("local", "text", {"index": str(tmp_path)}, _no_client, {})


def _no_client(*_: object) -> Any:
    raise AssertionError("the local engine needs no client")


def test_lens_uploads_a_crop_and_names_the_address_of_a_picture_that_has_one(server: Site) -> None:
    for name, upload in (("serpapi-lens", "/image"), ("serper-lens", "/upload")):
        provider = one(server, name)
        found = with_address(PICTURE, "https://pictures.example/ship.jpg")
        assert provider.search(found)[0].image is not None
        assert upload not in [a.path for a in server.asked]
        first = server.asked[0]
        assert "https://pictures.example/ship.jpg" in (first.query.get("url"), first.body and first.json.get("url"))
        provider.search(found.crop((0, 0, 20, 20)))
        assert server.asked[-5].path == upload, "a crop is another picture, though it came from one with an address"


def test_lens_brings_thumbnails_or_leaves_them(server: Site) -> None:
    for name in ("serpapi-lens", "serper-lens"):
        assert [h.image and h.image.size for h in one(server, name).search()] == [(40, 30)] * 3
        provider = one(server, name, pictures=False)
        assert [h.image for h in provider.search()] == [None] * 3
        assert not any(a.path.startswith("/thumb") for a in server.asked)


@pytest.mark.parametrize(
    "reply",
    [
        ServiceReply(404),
        ServiceReply(200, b"not a picture", kind="image/png"),
        ServiceReply(200, b"<html>", kind="text/html"),
    ],
)
def test_a_hit_without_its_thumbnail_is_still_a_hit(server: Site, reply: ServiceReply) -> None:
    for name in ("serpapi-lens", "serper-lens"):
        provider = one(server, name)
        answer = provider.service.answer
        provider.answers(lambda a, answer=answer: reply if a.path == "/thumb/2" else answer(a, ROWS))
        assert [h.image is None for h in provider.search()] == [False, True, False]


def test_serper_lens_without_an_address_says_what_to_do(server: Site) -> None:
    provider = one(server, "serper-lens", upload_to="")
    with pytest.raises(ProviderError, match=r"public address.*upload_to.*serpapi-lens or local") as caught:
        provider.search()
    assert caught.value.reason == "refused" and not server.asked


@pytest.mark.parametrize(
    ("answer", "address"),
    [
        (b"https://p.example/1.jpg\n", "https://p.example/1.jpg"),
        (b'{"link": "https://p.example/2.jpg"}', "https://p.example/2.jpg"),
        (b'{"data": {"url": "https://p.example/3.jpg"}}', "https://p.example/3.jpg"),
        (b'{"success": true, "files": [{"url": "https://p.example/4.jpg"}]}', "https://p.example/4.jpg"),
        (b'{"error": "no"}', None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_uploaders_answer_in_their_own_ways(server: Site, answer: bytes, address: str | None) -> None:
    provider = one(server, "serper-lens", pictures=False)
    provider.answers(lambda a: ServiceReply(200, answer) if a.path == "/upload" else serper_lens(a, ROWS))
    if address is None:
        with pytest.raises(ProviderError, match="did not answer with the picture's address"):
            provider.search()
    else:
        provider.search()
        assert server.asked[-1].json["url"] == address


def test_pictures_become_small_jpegs() -> None:
    noise = Image.effect_noise((700, 500), 120).convert("RGB")
    data = as_jpeg(noise, 60_000)
    assert data[:2] == b"\xff\xd8" and len(data) <= 60_000
    assert as_jpeg(Image.new("L", (1, 1)), 480_000)[:2] == b"\xff\xd8"
    assert address_of(noise) is None and address_of(with_address(noise, "javascript:x")) is None


class FakeDdgs:
    """The package's class, as far as we use it."""

    answer: Any = ()

    def __init__(self, proxy: str | None = None, timeout: int | None = 5, *, verify: bool | str = True) -> None:
        self.timeout = timeout

    def text(self, query: str, *, region: str, safesearch: str, backend: str, max_results: int) -> list[dict[str, Any]]:
        if isinstance(FakeDdgs.answer, Exception):
            raise FakeDdgs.answer
        return list(FakeDdgs.answer)[:max_results]


@pytest.fixture
def ddgs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    package, exceptions = ModuleType("ddgs"), ModuleType("ddgs.exceptions")
    exceptions.DDGSException = type("DDGSException", (Exception,), {})  # type: ignore[attr-defined]
    exceptions.RatelimitException = type("RatelimitException", (exceptions.DDGSException,), {})  # type: ignore[attr-defined]
    exceptions.TimeoutException = type("TimeoutException", (exceptions.DDGSException,), {})  # type: ignore[attr-defined]
    package.DDGS, package.exceptions = FakeDdgs, exceptions  # type: ignore[attr-defined]
    package.__spec__ = ssl.__spec__  # what find_spec looks at
    monkeypatch.setitem(sys.modules, "ddgs", package)
    monkeypatch.setitem(sys.modules, "ddgs.exceptions", exceptions)
    return exceptions


def _ddgs(**settings: Any) -> Any:
    return catalog.make("ddgs", "text", settings, _no_client, {})


def test_ddgs_finds(ddgs: ModuleType) -> None:
    FakeDdgs.answer = [{"title": r.title, "href": r.url, "body": r.text} for r in ROWS] + [{}, None]
    hits = asyncio.run(_ddgs(unguarded=True).search("x", 5))
    assert [(h.title, h.url, h.snippet) for h in hits] == [(r.title, r.url, r.text) for r in ROWS]


def test_ddgs_refusals_have_their_reason(ddgs: Any) -> None:
    for failure, reason in (
        (ddgs.RatelimitException("202"), "rate"),
        (ddgs.DDGSException(ddgs.RatelimitException("202")), "rate"),
        (ddgs.TimeoutException("x"), "down"),
        (ddgs.DDGSException("No results found."), "answer"),
        (ddgs.DDGSException("x"), "down"),
    ):
        FakeDdgs.answer = failure
        with pytest.raises(ProviderError) as caught:
            asyncio.run(_ddgs(unguarded=True).search("x", 5))
        assert caught.value.reason == reason, failure


def test_ddgs_is_used_only_by_who_says_so(ddgs: ModuleType) -> None:
    with pytest.raises(UserError, match="unguarded: true"):
        _ddgs()


def test_ddgs_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(MissingExtra, match=r"deepmmsearch\[ddgs\]"):
        _ddgs(unguarded=True)


def test_the_real_ddgs_still_takes_what_we_give_it() -> None:
    package = pytest.importorskip("ddgs")
    import inspect

    from ddgs.exceptions import DDGSException

    taken = inspect.signature(
        package.ddgs.DDGS._search_sync if hasattr(package, "ddgs") else package.DDGS.text
    ).parameters
    assert {"region", "safesearch", "backend", "max_results"} <= set(taken) or "kwargs" in taken
    assert issubclass(DDGSException, Exception)


def test_hits_can_be_compared_across_providers(server: Site) -> None:
    """What a provider finds differs in source and score alone: a fail-over changes nothing for the policy."""
    found = {s.name: contract.ProviderCase(server, s).search() for s in SERVICES if s.kind == "text"}
    bare = [[replace(h, source="", score=0.0) for h in hits] for hits in found.values()]
    assert all(hits == bare[0] for hits in bare)


@pytest.mark.parametrize(
    ("contents", "title", "text"),
    [
        ('"Veld"\nIts capital is Moru.', "Veld", "Its capital is Moru."),
        ('  "Veld"  \n\n Its capital\nis Moru.', "Veld", "Its capital is Moru."),
        ("Veld\nIts capital", "Veld", "Its capital"),
        ("Its capital is Moru.", "", "Its capital is Moru."),
        ("\nIts capital is Moru.\n", "", "Its capital is Moru."),
    ],
)
def test_a_document_of_a_corpus_begins_with_its_title(contents: str, title: str, text: str) -> None:
    found = retrieve._hit({"contents": contents}, 1)
    assert (found.title, found.snippet) == (title, text)


def test_no_entity_in_a_field_is_too_long_to_read() -> None:
    assert plain("Fish &amp; chips &#38; peas &#x26; salt") == "Fish & chips & peas & salt"
    assert plain(f"a &#{'9' * 5_000}; b").startswith("a &#9")


def test_ddgs_goes_through_no_proxy_that_nobody_named(ddgs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "DDGS_PROXY"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "http://user:pa55@127.0.0.1:3128")
            with pytest.raises(UserError, match="Set proxy of ddgs") as caught:
                _ddgs(unguarded=True)
            assert "pa55" not in str(caught.value)
            _ddgs(unguarded=True, proxy="http://127.0.0.1:3128")
