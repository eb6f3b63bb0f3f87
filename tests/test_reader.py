"""Reading pages: what they say is found, what fails says why, and the next hits stand in."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("httpx2")
pytest.importorskip("trafilatura")

from deepmmsearch.agent import play
from deepmmsearch.agent.metering import Budget, Ledger
from deepmmsearch.agent.passages import read_passages
from deepmmsearch.errors import ToolError, Unreadable
from deepmmsearch.prompts import load_prompt
from deepmmsearch.reading.charset import decode
from deepmmsearch.reading.declared import canonical
from deepmmsearch.reading.document import Document, Heading, Origin
from deepmmsearch.reading.file_kinds import extract, page_origin, read
from deepmmsearch.reading.worker import Extractor
from deepmmsearch.testing import FakeTools, ScriptedPolicy
from deepmmsearch.tools.http import BadStatus, GuardedClient, Refused
from deepmmsearch.tools.page_reader import WebReader
from deepmmsearch.tools.providers.api import ProviderError
from deepmmsearch.tools.providers.jina_reader import JinaReader
from deepmmsearch.types import Hit, Question, Trajectory
from ssrf import OTHER, PUBLIC, Internet, Request, reply

NAMES = {"public.example": [[PUBLIC]], "r.jina.ai": [[OTHER]]}
ARTICLE = """<!doctype html><html lang="en-GB"><head><title>Veld: a country</title>
<link rel="canonical" href="https://www.public.example/wiki/Veld">
<meta property="article:published_time" content="2023-05-06T07:08:09Z"></head>
<body><nav>Home About Contact</nav><main><h1>Veld</h1><p>Veld is a country by the sea. Its capital is Oru.</p>
<script>var x = "not shown";</script></main><footer>All rights reserved</footer></body></html>"""


def page_of(
    content: bytes, kind: str = "text/html", *, url: str = "http://public.example/wiki/x", longest: int = 200_000
) -> Document:
    return read(page_origin(url, kind, "", content, longest), content)


@pytest.fixture
def web() -> Iterator[list[WebReader]]:
    """Readers to be closed."""
    readers: list[WebReader] = []
    yield readers
    for reader in readers:
        reader.close()


def client(internet: Internet) -> GuardedClient:
    return GuardedClient(resolve=internet.resolve, backend=internet.backend, timeout=60)


# --- taking apart


def test_a_page_with_all_it_says_of_itself() -> None:
    assert page_of(ARTICLE.encode()) == Document(
        "Veld: a country",
        "Veld\nVeld is a country by the sea. Its capital is Oru.",
        "https://www.public.example/wiki/Veld",
        headings=(Heading("Veld", 1),),
        date="2023-05-06",
        language="en",
    )


def test_a_page_is_the_same_as_a_file_but_for_what_only_the_web_needs() -> None:
    """One reader for both: whom a file names is its own business."""
    page, file = page_of(ARTICLE.encode()), extract("wiki/Veld.html", ARTICLE.encode())
    assert page == file and page.date is not None
    foreign = ARTICLE.replace("www.public.example", "other.example").encode()
    assert page_of(foreign).url is None and extract("a.html", foreign).url == "https://other.example/wiki/Veld"
    assert page_of(b"# Oru\n\nA *harbour*.", "text/markdown").text == "Oru\n\nA harbour."


def test_main_text_of_a_long_page() -> None:
    said = "".join(
        f"<p>Sentence {n} tells of the long history of Oru, its harbours and its ships.</p>" for n in range(99)
    )
    menu = "".join(f'<li><a href="/{n}">Menu entry {n}</a></li>' for n in range(99))
    page = page_of(f"<html><body><div><ul>{menu}</ul></div><div>{said}</div></body></html>".encode())
    assert "Sentence 98 tells" in page.text and "Menu entry" not in page.text
    assert page.title == "x" and page.date is None and page.language is None


@pytest.mark.parametrize(
    ("url", "named", "taken"),
    [
        ("http://public.example/a?b", "/wiki/A", "http://public.example/wiki/A"),
        ("http://m.public.example/a", "https://public.example/a", "https://public.example/a"),
        ("https://en.m.wikipedia.org/wiki/Veld", "//en.wikipedia.org/wiki/Veld", "https://en.wikipedia.org/wiki/Veld"),
        ("https://blog.shop.co.uk/a", "https://www.shop.co.uk/a#top", "https://www.shop.co.uk/a"),
        ("https://public.example:8443/a", "HTTPS://Public.Example:443/b", "https://public.example/b"),
        ("http://127.0.0.1:80/a", "http://127.0.0.1/b", "http://127.0.0.1/b"),
        ("http://[::1]/a", "http://[::1]:80/b", "http://[::1]/b"),
        ("https://alice.github.io/a", "https://bob.github.io/a", None),
        ("https://m.github.io/a", "https://github.io/a", None),
        ("https://evil.co.uk/a", "https://bank.co.uk/a", None),
        ("https://www.co.uk/a", "https://co.uk/a", None),
        ("https://bank.com.evil.net/a", "https://bank.com/a", None),
        ("http://10.0.0.1/a", "http://10.0.0.2/a", None),
        ("http://evil.example/a", "https://en.wikipedia.org/wiki/Veld", None),
        ("http://evil.example/a", "//en.wikipedia.org/", None),
        ("http://evil.example/a", "https://evil.example@en.wikipedia.org/", None),
        ("http://evil.example/a", "javascript:alert(1)", None),
        ("http://evil.example/a", "http://[", None),
        ("http://evil.example/a", "https://evil.example\\@en.wikipedia.org/", None),
    ],
)
def test_a_page_cannot_pass_for_another_site_s(url: str, named: str, taken: str | None) -> None:
    assert canonical(url, named) == taken

    class Taken(Extractor):
        """A process that a page has taken over."""

        def ask(self, request: Mapping[str, Any], content: bytes, timeout: float | None = None) -> dict[str, Any]:
            return {**vars(Document("x", "y", named)), "headings": [], "pictures": [], "content": b""}

    assert Taken().read(Origin("html", "x", address=url), b"x").url == taken


def test_a_file_that_names_two_sites_is_of_neither() -> None:
    head = '<link rel="canonical" href="https://bank.com/a"><meta property="og:url" content="https://{}/a">'
    for site, taken in (("www.bank.com", "https://bank.com/a"), ("evil.net", None)):
        content = f"<html><head>{head.format(site)}</head><body><p>Some text.</p></body></html>".encode()
        assert read(Origin("html", "x"), content).url == taken


@pytest.mark.parametrize(
    ("content", "charset", "text"),
    [
        ("Grüße aus Köln".encode("latin-1"), "iso-8859-1", "Grüße aus Köln"),
        ("Grüße aus Köln".encode(), "", "Grüße aus Köln"),
        ("Grüße aus Köln".encode("utf-16"), "utf-8", "Grüße aus Köln"),
        ("日本の首都は東京です。".encode("shift_jis"), "Shift_JIS", "日本の首都は東京です。"),
        ("日本の首都は東京です。".encode("euc-jp"), "x-unknown", None),
        (("Москва — столица России. " * 20).encode("cp1251"), "", "Москва — столица России. " * 20),
        ("wrong label: ü and ß".encode(), "us-ascii", "wrong label: ü and ß"),
        (b"one broken \xff letter " + b"in a long text " * 50, "utf-8", None),
        (b"plain", "punycode", "plain"),
        (b"plain", "zlib", "plain"),
        (b"plain", "unicode_escape", "plain"),
    ],
)
def test_charsets(content: bytes, charset: str, text: str | None) -> None:
    found = decode(content, charset).text
    assert text is None or found == text
    assert found


def test_a_page_declares_its_charset() -> None:
    page = ARTICLE.replace("<head>", '<head><meta charset="windows-1252">').replace("sea", "café").encode("cp1252")
    assert "café" in page_of(page).text


def pdf(text: str, pages: int = 1, title: str = "Report") -> bytes:
    """A small PDF with a line of text on each page, written by hand: pypdf writes no text."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(pages))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n in range(pages):
        stream = f"BT /F1 12 Tf 72 700 Td ({text} {n}) Tj ET"
        resources = "<< /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R /Resources {resources} /Contents {5 + 2 * n} 0 R >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects.append(f"<< /Title ({title}) /CreationDate (D:20200102030405Z) >>")
    file, places = io.BytesIO(), []
    file.write(b"%PDF-1.4\n")
    for number, written in enumerate(objects, 1):
        places.append(file.tell())
        file.write(f"{number} 0 obj\n{written}\nendobj\n".encode())
    table = file.tell()
    lines = "".join(f"{place:010d} 00000 n \n" for place in places)
    file.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{lines}".encode())
    file.write(f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>\n".encode())
    file.write(f"startxref\n{table}\n%%EOF\n".encode())
    return file.getvalue()


def test_pdf_by_its_first_bytes() -> None:
    page = page_of(pdf("Oru has a harbour", 3), "application/octet-stream")
    assert page.text.splitlines() == [f"Oru has a harbour {n}" for n in range(3)]
    assert (page.title, page.date, page.language) == ("Report", "2020-01-02", None)
    assert len(page_of(pdf("Oru has a harbour", 200), longest=30).text) <= 30
    with pytest.raises(Unreadable, match="damaged PDF"):
        page_of(b"%PDF-1.4\n" + b"\0" * 100, "application/pdf")


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (b" \n ", "text/html", "empty"),
        (b"<html><body><script>start()</script></body></html>", "text/html", "no text"),
        (b"<div>" * 5000 + b"deep", "text/html", "nested"),
        (b"MZ\x90\x00", "application/octet-stream", "not a page, but application/octet-stream"),
        (b"\x00\x01\x02\x03" * 100, "text/plain", "encoding"),
    ],
)
def test_what_cannot_be_read_says_why(content: bytes, kind: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        page_of(content, kind)


# --- fetching


async def test_a_page_from_the_web(web: list[WebReader]) -> None:
    def handler(request: Request) -> bytes:
        match request.path:
            case "/old":
                return reply(status=301, Location="/wiki/Veld")
            case "/wiki/Veld":
                return reply(ARTICLE, Content_Type="text/html; charset=utf-8")
            case "/notes.txt":
                return reply("Some notes.", Content_Type="text/plain", Content_Language="de-AT")
            case "/empty":
                return reply("<html></html>", Content_Type="text/html")
            case "/picture":
                return reply(b"\x89PNG", Content_Type="image/png")
        return reply("gone", status=410)

    async with Internet(NAMES, handler) as internet, client(internet) as guarded:
        web.append(reader := WebReader(guarded, processor_seconds=20))
        page = await reader.read("http://public.example/old")
        assert page.url == "http://public.example/wiki/Veld" and page.title == "Veld: a country"
        assert (page.date, page.language) == ("2023-05-06", "en")
        notes = await reader.read("http://public.example/notes.txt")
        assert (notes.title, notes.text, notes.language) == ("notes.txt", "Some notes.", "de")
        with pytest.raises(BadStatus, match="410"):
            await reader.read("http://public.example/gone")
        with pytest.raises(Refused, match="image/png"):
            await reader.read("http://public.example/picture")
        with pytest.raises(ToolError, match=r"public\.example cannot be read: .*no text"):
            await reader.read("http://public.example/empty")
        with pytest.raises(Refused):
            await reader.read("http://127.0.0.1/")


async def test_jina_reader_speaks_its_format() -> None:
    data: dict[str, Any] = {
        "title": "Veld",
        "url": "http://public.example/wiki/Veld",
        "content": "Veld is a country.",
        "publishedTime": "2023-05-06T07:08:09Z",
    }
    handler = lambda request: reply(json.dumps({"code": 200, "data": data}), Content_Type="application/json")  # noqa: E731
    async with Internet(NAMES, handler) as internet, client(internet) as guarded:
        reader = JinaReader(guarded, "key", "http://r.jina.ai/")
        page = await reader.read("http://public.example/wiki/Veld?a=b#c")
        assert (page.title, page.text, page.date) == ("Veld", "Veld is a country.", "2023-05-06")
        request = internet.requests[0]
        assert (request.method, request.path) == ("POST", "/")
        assert request.body == b"url=http%3A%2F%2Fpublic.example%2Fwiki%2FVeld%3Fa%3Db"
        assert request.headers["authorization"] == "Bearer key" and request.headers["accept"] == "application/json"
        for wrong, reason in (
            ({"warning": "Target URL returned error 404: Not Found", "content": "404"}, "HTTP 404"),
            ({"content": "  "}, "no text"),
            ({"content": None}, "no text"),
        ):
            data.clear()
            data.update(wrong)
            with pytest.raises(ToolError, match=reason):
                await reader.read("http://public.example/")
        internet.handler = lambda request: reply('{"data": null}')
        with pytest.raises(ProviderError, match="without a page"):
            await reader.read("http://public.example/")
        count = len(internet.requests)
        for private in ("http://127.0.0.1/", "http://10.1.2.3/x", "http://intranet/", "file:///etc/passwd"):
            with pytest.raises(ToolError):
                await reader.read(private)
        assert len(internet.requests) == count
        internet.handler = handler
        data.update(content="text")
        await JinaReader(guarded, url="http://r.jina.ai/").read("http://public.example/")
        assert "authorization" not in internet.requests[-1].headers


# --- the next hits stand in


def hits(count: int) -> list[Hit]:
    return [Hit(f"Title {n}", f"http://site{n}.example/", f"snippet {n}") for n in range(1, count + 1)]


class Pages:
    """PageReader: the text of the pages named, errors for the others; `asked` in order."""

    def __init__(self, *good: int) -> None:
        self.texts = {f"http://site{n}.example/": f"Page {n} says something." for n in good}
        self.asked: list[str] = []

    async def read(self, url: str) -> Any:
        self.asked.append(url)
        return await FakeTools(pages=self.texts).toolbox().reader.read(url)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("good", "wanted", "told", "tried"),
    [
        ((1, 2, 3, 4, 5), 2, [1, 2], 2),
        ((2, 4, 5), 2, [2, 4], 4),
        ((5,), 2, [1, 5], 5),
        ((), 2, [1, 2], 5),
        ((1, 2, 3, 4, 5), 9, [1, 2, 3, 4, 5], 5),
        ((3, 4), 3, [1, 3, 4], 5),
    ],
)
async def test_the_next_hits_are_tried_until_enough_can_be_read(
    good: tuple[int, ...], wanted: int, told: list[int], tried: int
) -> None:
    reader = Pages(*good)
    found = await read_passages(hits(5), reader, wanted, 400)
    assert [p.hit.title for p in found] == [f"Title {n}" for n in told]
    assert [p.text for p in found] == [f"Page {n} says something." if n in good else f"snippet {n}" for n in told]
    assert reader.asked == [f"http://site{n}.example/" for n in range(1, tried + 1)]


async def test_a_long_snippet_needs_no_page_and_an_empty_page_is_a_failure() -> None:
    reader = Pages()
    reader.texts = {"http://site1.example/": "", "http://site2.example/": "Page 2."}
    found = await read_passages(hits(3), reader, 1, 400)
    assert [p.text for p in found] == ["Page 2."]
    long = [replace(hits(1)[0], snippet="word " * 100), *hits(2)]
    assert len(await read_passages(long, reader, 1, 400)) == 1 and len(reader.asked) == 2
    assert [p.text for p in await read_passages(hits(2), None, 1, 400)] == ["snippet 1"]
    assert await read_passages([], reader, 3, 400) == []


async def test_failures_are_recorded_with_their_reasons_in_the_observation() -> None:
    fake = FakeTools(texts={"oru": hits(6)})
    tools = replace(fake.toolbox(), reader=Pages(2, 5, 6), summarizer=None, text_hits=6, pages=2)
    policy = ScriptedPolicy("<reason>r</reason><text_search>oru</text_search>", "<reason>r</reason><answer>a</answer>")
    played = await play(Trajectory(Question("q", "What?"), load_prompt("direct")), policy, tools)
    observation = played.turns[0].observation
    assert observation is not None and observation.error is None
    assert observation.text.splitlines() == ["[1] Page 2 says something.", "[2] Page 5 says something."]
    assert [hit.url for hit in observation.hits] == ["http://site2.example/", "http://site5.example/"]
    reads = [call for call in observation.calls if call.tool == "reader"]
    assert [call.error for call in reads] == [
        "There is no page at http://site1.example/.",
        None,
        "There is no page at http://site3.example/.",
        "There is no page at http://site4.example/.",
        None,
    ]


async def test_without_a_budget_no_further_pages_are_tried() -> None:
    fake, reader = FakeTools(texts={"oru": hits(6)}), Pages()
    ledger = Ledger(question=Budget(calls=2))
    tools = replace(fake.toolbox(), reader=reader, summarizer=None, text_hits=6, pages=2, ledger=ledger)
    policy = ScriptedPolicy("<reason>r</reason><text_search>oru</text_search>", "<reason>r</reason><answer>a</answer>")
    played = await play(Trajectory(Question("q", "What?"), load_prompt("direct")), policy, tools)
    assert len(reader.asked) == 1 and played.turns[0].observation is not None
    assert "snippet" in played.turns[0].observation.text
