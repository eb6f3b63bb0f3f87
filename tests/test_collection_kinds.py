"""Files that hold many documents: read one by one, from any one on, without unpacking."""

from __future__ import annotations

import bz2
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("lxml")
pytest.importorskip("tantivy")

from collection_files import PACKINGS, Item, dump, zim
from data_files import picture, picture_bytes
from deepmmsearch.engine import Index
from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.collection import CollectionEntry
from deepmmsearch.reading.document import Document
from deepmmsearch.reading.file_kinds import COLLECTIONS, read

PICTURE = picture_bytes(0)
PIER = '<img src="/l/p.png" alt="A pier">'
PAGE = "<html><head><title>{0}</title></head><body><p>{0} has a harbour.</p>{1}</body></html>"
SITE = (
    Item("C/Oru", "text/html", PAGE.format("Oru", '<img src="../I/pier.png" alt="The pier of Oru">').encode(), "Oru"),
    Item("C/Harbour", "text/html", redirect=True),
    Item("C/Lim", "text/html", PAGE.format("Lim", "").encode(), "Lim"),
    Item("C/I/pier.png", "image/png", PICTURE),
    Item("C/style.css", "text/css", b"p {}"),
    Item("M/Title", "text/plain", b"About harbours"),
)


def entries(suffix: str, path: Path, content: bytes, after: str = "") -> list[CollectionEntry]:
    path.write_bytes(content)
    return list(COLLECTIONS[suffix](path, after))


def document(entry: CollectionEntry) -> Document:
    assert entry.origin is not None
    return read(entry.origin, entry.content)


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_zim_file_holds_pages_and_pictures(packing: str, tmp_path: Path) -> None:
    if packing == "zstd":
        pytest.importorskip("zstandard")
    found = entries(".zim", tmp_path / "a.zim", zim(SITE, packing))
    assert [entry.name for entry in found] == ["Oru", "Lim", "I/pier.png"]
    assert document(found[0]).text == "Oru has a harbour." and document(found[1]).title == "Lim"
    assert (found[2].origin, found[2].content) == (None, PICTURE)


def test_an_older_zim_file_names_its_pages_with_their_namespace(tmp_path: Path) -> None:
    older = [item._replace(name=item.name.replace("C/I/", "I/").replace("C/", "A/")) for item in SITE]
    found = entries(".zim", tmp_path / "a.zim", zim(older, minor=0))
    assert [entry.name for entry in found] == ["A/Oru", "A/Lim", "I/pier.png"]


@pytest.mark.parametrize("cut", [0, 40, 100, 200])
def test_a_damaged_zim_file_is_told(cut: int, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="ZIM file"):
        entries(".zim", tmp_path / "a.zim", zim(SITE)[:cut])


def test_a_blob_that_is_damaged_costs_that_entry(tmp_path: Path) -> None:
    content = zim(SITE, "xz", per_cluster=1)
    at = content.index(b"\xfd7zXZ", content.index(b"\xfd7zXZ") + 1)
    found = entries(".zim", tmp_path / "a.zim", content[: at + 30] + bytes(20) + content[at + 50 :])
    assert [bool(entry.problem) for entry in found] == [False, True, False]


def warc(packed: bool) -> bytes:
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    buffer = io.BytesIO()
    writer = WARCWriter(buffer, gzip=packed)
    sent = (
        (
            "https://a.example/oru",
            "200 OK",
            "text/html; charset=utf-8",
            PAGE.format("Orú", '<img src="/l/p.png" alt="A pier">'),
        ),
        ("https://a.example/gone", "404 Not Found", "text/html", PAGE.format("Gone", "")),
        ("https://a.example/l/p.png", "200 OK", "image/png", PICTURE),
        ("https://a.example/x.js", "200 OK", "text/javascript", "1"),
        ("https://a.example/oru", "200 OK", "text/html", PAGE.format("Oru again", "")),
        ("http://b.example/lim", "200 OK", "text/plain", "Lim\n\nIt lies in the north."),
    )
    for address, status, kind, content in sent:
        body = content if isinstance(content, bytes) else content.encode()
        headers = StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")
        writer.write_record(writer.create_warc_record(address, "response", io.BytesIO(body), http_headers=headers))
    return buffer.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_a_web_archive_holds_what_servers_answered(packed: bool, tmp_path: Path) -> None:
    pytest.importorskip("warcio")
    found = entries(".warc.gz", tmp_path / "a.warc.gz", warc(packed))
    assert [(entry.name, entry.url) for entry in found] == [
        ("a.example/oru", "https://a.example/oru"),
        ("a.example/l/p.png", ""),
        ("b.example/lim", "http://b.example/lim"),
    ]
    assert document(found[0]).text == "Orú has a harbour." and found[1].content == PICTURE


WIKI = (
    (
        "Oru",
        0,
        "{{Infobox town|name=Oru|mayor=[[Siri Moe]]}}'''Oru''' is a [[town]].\n\n== History ==\nIt was built in 1901.",
    ),
    ("Talk:Oru", 1, "Is it?"),
    ("Harbour of Oru", 0, "#REDIRECT [[Oru]]"),
    (
        "R&amp;B of Lim",
        0,
        "[[File:a.png|thumb|A pier]]Lim sings &amp;lt;ref&amp;gt;loud&amp;lt;/ref&amp;gt;.\n[[Category:Towns]]",
    ),
)


@pytest.mark.parametrize("packed", [False, True])
def test_a_dump_of_a_wiki_holds_articles(packed: bool, tmp_path: Path) -> None:
    pytest.importorskip("mwparserfromhell")
    content = dump(WIKI)
    suffix = ".xml.bz2" if packed else ".xml"
    found = entries(suffix, tmp_path / f"a{suffix}", bz2.compress(content) if packed else content)
    assert [(entry.name, entry.url) for entry in found] == [
        ("Oru", "https://en.wiki.example/wiki/Oru"),
        ("R&B of Lim", "https://en.wiki.example/wiki/R%26B_of_Lim"),
    ]
    oru = document(found[0])
    assert oru.text.splitlines() == [
        "name: Oru",
        "mayor: Siri Moe",
        "Oru is a town.",
        "History",
        "It was built in 1901.",
    ]
    assert (oru.headings, oru.date) == ((("History", 2),), "2021-03-04")
    assert "thumb" not in document(found[1]).text and "Category" not in document(found[1]).text
    with pytest.raises(Unreadable, match="not a dump of a wiki"):
        entries(".xml", tmp_path / "b.xml", b"<rss/>")


def test_a_page_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    pages = [("A", 0, "x" * 3_000_000), ("B", 0, "y")]
    found = entries(".xml", tmp_path / "a.xml", dump(pages))
    assert [(entry.name, len(entry.content) > 3_000_000) for entry in found] == [("A", True), ("B", False)]


def test_a_mailbox_holds_messages(tmp_path: Path) -> None:
    one = b"From a@b Thu Jan  1 00:00:00 1970\nSubject: The ferry\n\nIt leaves at nine.\n>From here.\nFrom there.\n\n"
    found = entries(".mbox", tmp_path / "a.mbox", one + one.replace(b"ferry", b"mill"))
    assert [document(entry).title for entry in found] == ["The ferry", "The mill"]
    assert document(found[0]).text.endswith("From here.\nFrom there.")


ROWS = [
    {"id": 1, "title": "Oru", "text": "It has a harbour.", "url": "https://a.example/oru"},
    {"title": "Lim", "section_titles": ["Lim", "History"], "section_texts": ["A town.", "Built in 1901."]},
    {"country": "Veld", "capital": {"name": "Oru", "area": 12}, "tags": ["a", "b"]},
]


@pytest.mark.parametrize("packed", [False, True])
def test_json_lines_hold_texts(packed: bool, tmp_path: Path) -> None:
    content = "\n".join(["{broken", *map(json.dumps, ROWS)]).encode()
    suffix = ".jsonl.gz" if packed else ".jsonl"
    found = entries(suffix, tmp_path / f"a{suffix}", gzip.compress(content) if packed else content)
    assert found[0].problem and [entry.name for entry in found] == ["1", "2", "3", "4"]
    oru, lim, veld = map(document, found[1:])
    assert (oru.title, oru.text, found[1].url) == ("Oru", "It has a harbour.", "https://a.example/oru")
    assert (lim.title, lim.text, lim.headings) == ("Lim", "A town.\nHistory\nBuilt in 1901.", (("History", 1),))
    assert veld.text.splitlines() == ["country: Veld", "capital.name: Oru", "capital.area: 12", "tags: a, b"]


def test_json_of_articles_and_of_anything_else(tmp_path: Path) -> None:
    by_address = {f"https://a.example/{n}": row for n, row in enumerate(ROWS[:2])}
    found = entries(".json", tmp_path / "kb.json", json.dumps(by_address).encode())
    assert [entry.url for entry in found] == ["https://a.example/oru", "https://a.example/1"]
    assert len(entries(".json", tmp_path / "list.json", json.dumps(ROWS[:2]).encode())) == 2
    (whole,) = entries(".json", tmp_path / "towns.json", json.dumps({"pilot": "Siri Moe", "boats": [1, 2]}).encode())
    assert whole.name == "towns" and document(whole).text.splitlines() == ["pilot: Siri Moe", "boats: 1, 2"]
    for broken in (b"{", b'{"a": 1', b"x", b""):
        with pytest.raises(Unreadable, match="damaged JSON"):
            entries(".json", tmp_path / "broken.json", broken)


MADE: dict[str, Callable[[], bytes]] = {
    ".zim": lambda: zim(SITE),
    ".warc": lambda: warc(False),
    ".xml": lambda: dump(WIKI),
    ".mbox": lambda: b"From a\nSubject: A\n\na\n\nFrom b\nSubject: B\n\nb\n",
    ".jsonl": lambda: "\n".join(map(json.dumps, ROWS)).encode(),
    ".json": lambda: json.dumps(ROWS[:2]).encode(),
}


@pytest.mark.parametrize("suffix", MADE)
def test_reading_goes_on_after_any_entry(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("warcio")
    path = tmp_path / f"a{suffix}"
    whole = entries(suffix, path, MADE[suffix]())
    assert len(whole) >= 2
    for number, entry in enumerate(whole):
        assert list(COLLECTIONS[suffix](path, entry.cursor)) == whole[number + 1 :]


def test_entries_are_documents_and_pictures_of_an_index(tmp_path: Path) -> None:
    pytest.importorskip("warcio")
    root = tmp_path / "root"
    root.mkdir()
    (root / "wiki.zim").write_bytes(zim(SITE))
    (root / "web.warc").write_bytes(warc(False))
    index = Index.build(root, tmp_path / "index")
    assert {hit.title: "wiki.zim" in hit.url for hit in index.search_text("harbour")} == {
        "Oru": True,
        "Lim": True,
        "Orú": False,
    }
    (hit, *_) = index.search_text("north", 1)
    assert hit.url == "http://b.example/lim" and index.read(hit.url).text.endswith("in the north.")
    # it stands in both of them
    assert index.search_image(picture(0), 1)[0].title in ("The pier of Oru", "A pier")
