"""Every provider through one suite, against its service as the documentation describes it (provider_mocks.py)."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.agent.metering import Meter, calling
from deepmmsearch.errors import MissingExtra, ToolError, UserError
from deepmmsearch.tools.http import GuardedClient
from deepmmsearch.tools.providers import catalog
from deepmmsearch.tools.providers.api import ProviderError
from deepmmsearch.tools.providers.pictures import address_of, as_jpeg, with_address
from deepmmsearch.types import Hit
from provider_mocks import KEY, MOCKS, ROWS, Asked, Mock, Reply, Row, Site, as_json, serper_lens, site

pytest.importorskip("httpx2")
PICTURE = Image.effect_noise((64, 48), 60).convert("RGB")
KEYED = [m for m in MOCKS if m.unauthorised is not None]
VARIABLES = {m.name: catalog.listing(m.name).key_variable for m in MOCKS}


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with site() as running:
        yield running


@pytest.fixture(params=MOCKS, ids=str)
def mock(request: pytest.FixtureRequest) -> Mock:
    return request.param


class Provider:
    """A provider of the catalog before its mock."""

    def __init__(self, server: Site, mock: Mock, timeout: float = 5.0, **settings: Any) -> None:
        self.server, self.mock = server, mock
        server.asked.clear()
        self.answers(lambda asked: mock.answer(asked, ROWS))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the system's certificates take long to load
        client = GuardedClient(allow_private=[server.host], timeout=timeout, verify=context)
        environment = {VARIABLES[mock.name] or "": KEY}
        options = {**mock.settings(server.url), **settings}
        self.tool = catalog.make(mock.name, mock.kind, options, lambda *_: client, environment)  # type: ignore[arg-type]

    def answers(self, reply: Callable[[Asked], Reply]) -> None:
        self.server.reply = reply

    def search(self, wanted: Any = None, k: int = 5) -> list[Hit]:
        return asyncio.run(self.tool.search(wanted or (PICTURE if self.mock.kind == "image" else "capital of Veld"), k))

    def unless_uploading(self, reply: Reply) -> Callable[[Asked], Reply]:
        return lambda asked: self.mock.answer(asked, ROWS) if asked.path == "/upload" else reply

    def fails(self, reply: Reply | Callable[[Asked], Reply]) -> ToolError:
        self.answers(reply if callable(reply) else self.unless_uploading(reply))
        with pytest.raises(ToolError) as caught:
            self.search()
        message = str(caught.value)
        assert KEY not in message and "\n" not in message and message.endswith((".", "…")), message
        return caught.value


@pytest.fixture
def provider(server: Site, mock: Mock) -> Provider:
    return Provider(server, mock)


def with_rows(mock: Mock, asked: Asked, change: Callable[[list[Any]], list[Any]]) -> Reply:
    """The service's answer with its list of results changed."""
    reply = mock.answer(asked, ROWS)
    assert reply.body is not None
    if reply.status != 200 or not reply.body.startswith(b"{"):
        return reply
    answer = json.loads(reply.body)
    inner = answer
    for name in mock.field[:-1]:
        inner = inner.get(name, {})
    if mock.field[-1] in inner:
        found = inner[mock.field[-1]]
        nested = bool(found) and isinstance(found[0], list)
        inner[mock.field[-1]] = [change(found[0])] if nested else change(found)
    return as_json(answer)


def test_hits_are_the_services_in_its_order(provider: Provider) -> None:
    hits = provider.search()
    assert [h.title for h in hits] == [r.title for r in ROWS]
    assert [h.url for h in hits] == [r.url for r in ROWS]
    assert [h.snippet for h in hits] == [r.text for r in ROWS]
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert {h.source for h in hits} == {provider.mock.name}
    assert all(h.matched is None for h in hits), "no provider says whether a picture shows the same thing"


def test_at_most_k_hits(provider: Provider) -> None:
    assert [h.url for h in provider.search(k=2)] == [r.url for r in ROWS[:2]]
    assert len(provider.search(k=1)) == 1
    provider.answers(lambda asked: provider.mock.answer(asked, ROWS * 50))
    assert len(provider.search(k=100)) == len(ROWS), "each address once"


def test_nothing_found_is_no_error(provider: Provider) -> None:
    provider.answers(lambda asked: provider.mock.answer(asked, ()))
    assert provider.search() == []


def test_any_query_arrives(server: Site, mock: Mock) -> None:
    if mock.kind == "image":
        pytest.skip("searches with pictures")
    provider = Provider(server, mock)
    for query in ("Größe & Höhe? 東京 \U0001f6a2", "a" * 5000, "word " * 200, '"quoted" -minus site:x', "100% #1 a+b"):
        assert provider.search(query)
        asked = server.asked[-1]
        sent = asked.query.get("q") or asked.json.get("q") or asked.json.get("query") or asked.json["queries"][0]
        assert query.startswith(sent.strip()) or query.split() == sent.split()
        assert len(query) > 400 or sent == query


def test_the_key_goes_where_the_service_wants_it_and_nowhere_else(server: Site, mock: Mock) -> None:
    if mock.unauthorised is None:
        pytest.skip("needs no key")
    provider = Provider(server, mock)
    provider.search()
    for asked in server.asked:
        if asked.path.startswith(("/thumb/", "/upload")):
            assert (
                KEY not in f"{asked.path}{asked.query}{asked.headers}".replace(KEY * 2, "")
                and KEY.encode() not in asked.body
            )
    assert KEY not in repr(provider.tool)


def odd(rows: list[Any]) -> list[Any]:
    """The results with further ones between them that lack fields or have them of another kind."""
    broken: list[Any] = [None, "text", 7, [], {}, {"title": None, "url": None, "link": None, "content": None}]
    for value in (None, 7, True, [], {}, ["x"], {"a": 1}):
        broken.append(dict.fromkeys(rows[0], value))
    bare = {
        name: value for name, value in rows[0].items() if name in ("title", "url", "link", "document", "id", "contents")
    }
    return [*broken, bare, *rows]


def test_fields_that_are_missing_or_odd_are_left_out(provider: Provider) -> None:
    provider.answers(lambda asked: with_rows(provider.mock, asked, odd))
    hits = provider.search(k=50)
    assert ROWS[0].url in [h.url for h in hits] and ROWS[2].title in [h.title for h in hits]
    assert all(isinstance(h.title, str) and isinstance(h.snippet, str) and isinstance(h.score, float) for h in hits)
    assert all(h.title or h.snippet for h in hits)


def test_results_of_another_kind_are_none_or_an_error(provider: Provider) -> None:
    def reply(asked: Asked, value: Any) -> Reply:
        answer = provider.mock.answer(asked, ROWS)
        body = json.loads(answer.body or b"{}") if (answer.body or b"").startswith(b"{") else {}
        return as_json({**body, provider.mock.field[0]: value}) if provider.mock.field[0] in body else answer

    for value in (None, "text", 7, {"a": 1}, [[]], [None]):
        provider.answers(lambda asked, value=value: reply(asked, value))
        try:
            assert provider.search() == []
        except ProviderError as error:
            assert error.reason == "answer"


def test_what_is_no_web_address_is_no_address(server: Site, mock: Mock) -> None:
    if mock.name == "retrieve":
        pytest.skip("its ids are no addresses")
    provider = Provider(server, mock)
    for place in (
        "javascript:alert(1)",
        "file:///etc/passwd",
        "//x",
        "http://a b",
        "https://x/\ny",
        "https://" + "x" * 3000,
    ):
        provider.answers(lambda asked, url=place: mock.answer(asked, (Row("Veld", url, "text"),)))
        assert [(h.title, h.url) for h in provider.search()] == [("Veld", "")]


def test_texts_are_plain_and_bounded(provider: Provider) -> None:
    rows = (Row(" Bold <b>and</b> &lt;i&gt; &amp; \n two\tlines ", "https://a.example/1", "x" * 200_000), ROWS[1])
    provider.answers(lambda asked: provider.mock.answer(asked, rows))
    first = provider.search()[0]
    assert first.title.split("\n")[0].startswith("Bold and") and "<b>" not in first.title
    assert len(first.snippet) <= 20_000 and len(first.title) <= 300


REFUSALS = (
    (Reply(500, b"oops"), "down"),
    (Reply(502, b"<html>Bad Gateway</html>", kind="text/html"), "down"),
    (as_json({}, 429, retry_after="7"), "rate"),
    (as_json({}, 429), "rate"),
    (as_json({}, 503, retry_after="3"), "rate"),
    (as_json({}, 402), "quota"),
    (as_json({}, 401), "key"),
    (as_json({}, 404), "refused"),
    (Reply(200, b"<html>Sign in</html>", kind="text/html"), "answer"),
    (Reply(200, b""), "answer"),
    (Reply(200, b'{"results": [{"title": "Ve'), "answer"),
    (Reply(200, b"[" * 100_000), "answer"),
    (as_json([1, 2]), "answer"),
    (as_json("text"), "answer"),
)


def test_refusals_have_their_reason(provider: Provider) -> None:
    for reply, reason in REFUSALS:
        error = provider.fails(reply)
        assert isinstance(error, ProviderError) and error.reason == reason, (error, reason)
        if "retry-after" in reply.headers:
            assert error.retry_after == float(reply.headers["retry-after"])


def test_a_dropped_connection_and_a_slow_answer_are_errors(server: Site, mock: Mock) -> None:
    Provider(server, mock).fails(Reply(body=None))
    late = threading.Event()
    error = Provider(server, mock, timeout=0.2).fails(lambda _: Reply(200, b"{}", wait=late))
    late.set()
    assert "0.2 s" in str(error)


@pytest.mark.parametrize("mock", KEYED, ids=str, indirect=True)
def test_a_wrong_key_and_an_empty_account_say_what_to_do(provider: Provider) -> None:
    assert provider.mock.unauthorised is not None and provider.mock.exhausted is not None
    error = provider.fails(provider.mock.unauthorised)
    variable = VARIABLES[provider.mock.name]
    assert isinstance(error, ProviderError) and error.reason == "key" and f"key in {variable}" in str(error)
    error = provider.fails(provider.mock.exhausted)
    assert isinstance(error, ProviderError) and error.reason == "quota" and "no credit left" in str(error)


@pytest.mark.parametrize("mock", KEYED, ids=str, indirect=True)
def test_a_key_that_the_service_repeats_is_never_shown(provider: Provider) -> None:
    for status in (400, 401, 403, 422, 429, 500):
        for text in (f"Invalid API key {KEY}", f"Invalid API key {KEY}" * 20):
            provider.fails(as_json({"message": text, "error": {"detail": text}}, status))
            provider.fails(Reply(status, text.encode(), kind="text/plain"))


@pytest.mark.parametrize("mock", MOCKS, ids=str, indirect=True)
def test_the_bytes_of_an_answer_are_counted(provider: Provider) -> None:
    async def metered() -> Meter:
        meter = Meter()
        with meter.open(), calling("text_search", provider.mock.name):
            await provider.tool.search(PICTURE if provider.mock.kind == "image" else "x", 3)
        return meter

    (call,) = asyncio.run(metered()).calls
    assert call.bytes > 100 and call.error is None and call.provider == provider.mock.name


def one(server: Site, name: str, **settings: Any) -> Provider:
    return Provider(server, next(m for m in MOCKS if m.name == name), **settings)


def test_searxng_without_json_says_what_to_change(server: Site) -> None:
    forbidden = Reply(403, b"<!doctype html><title>403 Forbidden</title>", kind="text/html")
    for reply in (forbidden, Reply(200, b"<html>", kind="text/html")):
        assert "search.formats in its settings.yml" in str(one(server, "searxng").fails(reply))


def test_searxng_whose_engines_are_silent_is_down(server: Site) -> None:
    silent = {"results": [], "unresponsive_engines": [["google", "CAPTCHA"], ["bing", "timeout"], "x", None]}
    error = one(server, "searxng").fails(as_json(silent))
    assert "google: CAPTCHA, bing: timeout" in str(error) and isinstance(error, ProviderError)
    assert error.reason == "down"


def test_markup_goes_and_words_stay_apart(server: Site) -> None:
    provider = one(server, "searxng")
    text = "One<br/>two <b>th</b>ree &lt;b&gt; 5 < 6 > 4 <script>x</script>"
    provider.answers(lambda asked: provider.mock.answer(asked, (Row("Veld", "https://a.example", text),)))
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
    "reply", [Reply(404), Reply(200, b"not a picture", kind="image/png"), Reply(200, b"<html>", kind="text/html")]
)
def test_a_hit_without_its_thumbnail_is_still_a_hit(server: Site, reply: Reply) -> None:
    for name in ("serpapi-lens", "serper-lens"):
        provider = one(server, name)
        answer = provider.mock.answer
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
    provider.answers(lambda a: Reply(200, answer) if a.path == "/upload" else serper_lens(a, ROWS))
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
    found = {m.name: Provider(server, m).search() for m in MOCKS if m.kind == "text"}
    bare = [[replace(h, source="", score=0.0) for h in hits] for hits in found.values()]
    assert all(hits == bare[0] for hits in bare)
