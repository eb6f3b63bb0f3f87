"""Files to text: nothing of a short page is lost, nothing hostile gets through or hangs."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("lxml")
pytest.importorskip("pypdfium2")

from deepmmsearch.engine.chunks import Outline, passages
from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.document import Heading
from deepmmsearch.reading.file_kinds import extract
from deepmmsearch.reading.titles import readable_name
from deepmmsearch.reading.worker import Extractor

PAGE = """<!doctype html><html><head><title>Veld</title><link rel="canonical" href="https://atlas.example/veld">
<style>p {}</style></head><body><nav><a href="/">Home</a></nav><main><h1>Veld</h1><p>Veld is a country.</p>
<table><tr><th>Capital</th><td>Oru</td></tr></table><dl><dt>Currency</dt><dd>the lum</dd></dl>
<figure><img src="img/veld.png" alt="Flag of Veld"><figcaption>The flag since 1901.</figcaption></figure>
<p>It has <b>two</b> harbours<script>alert(1)</script>.</p></main><footer>Imprint</footer></body></html>"""


def test_short_page_keeps_every_word_of_its_main_text_and_nothing_else() -> None:
    document = extract("a/veld.html", PAGE.encode())
    assert document.title == "Veld" and document.url == "https://atlas.example/veld"
    lines = document.text.splitlines()
    assert lines == [
        "Veld",
        "Veld is a country.",
        "Capital: Oru",
        "Currency: the lum",
        "The flag since 1901.",
        "It has two harbours.",
    ]


def test_a_picture_is_described_by_alt_caption_and_the_next_paragraph() -> None:
    (shown,) = extract("a/veld.html", PAGE.encode()).pictures
    assert (shown.src, shown.title) == ("img/veld.png", "Flag of Veld")
    assert shown.snippet.startswith("The flag since 1901. It has two harbours")


def test_long_page_loses_its_boilerplate() -> None:
    body = "".join(
        f"<p>Sentence {n} tells something about the long history of Oru and its harbours.</p>" for n in range(200)
    )
    links = "".join(f'<li><a href="/{n}">Other page number {n}</a></li>' for n in range(60))
    menu = f"<div class=menu><ul>{links}</ul></div>"
    page = f"<html><head><title>Oru</title></head><body>{menu}<article>{body}</article></body></html>"
    text = extract("oru.html", page.encode()).text
    assert "Sentence 0 tells" in text and "Sentence 199 tells" in text and "Other page number 7" not in text


@pytest.mark.parametrize("canonical", ["javascript:alert(1)", "https://a b", 'https://x"onload', ""])
def test_only_web_addresses_are_canonical(canonical: str) -> None:
    page = f"<html><head><link rel=canonical href='{canonical}'></head><body><p>Text.</p></body></html>"
    assert extract("x.html", page.encode()).url is None


def test_markdown_is_read_as_text_with_its_pictures() -> None:
    source = "Intro.\n\n# The *Great* [Bridge](x.md)\n\n![Old bridge](img/b.png)\n\nIt was **built** in 1900.\n"
    document = extract("bridge.md", source.encode())
    assert document.title == "The Great Bridge"
    assert "It was built in 1900." in document.text and "](" not in document.text and "img/b" not in document.text
    (shown,) = document.pictures
    assert (shown.src, shown.title, shown.snippet) == ("img/b.png", "Old bridge", "It was built in 1900.")


def test_pdf_text_and_damaged_pdf() -> None:
    import pypdf

    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    buffer = io.BytesIO()
    writer.write(buffer)
    with pytest.raises(Unreadable, match="no text found"):
        extract("blank.pdf", buffer.getvalue())
    with pytest.raises(Unreadable, match="damaged PDF"):
        extract("cut.pdf", buffer.getvalue()[:200])
    assert "Hello harbour" in extract("text.pdf", _pdf("Hello harbour")).text


def _pdf(text: str) -> bytes:
    stream = f"BT /F1 12 Tf 10 50 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    xref = b"xref\n0 6\n0000000000 65535 f \n" + table
    return out + xref + b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(out)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.html", b"", "empty file"),
        ("blank.txt", b" \n ", "empty file"),
        ("binary.txt", b"a\0b", "not text"),
        ("huge.html", b"<p>x</p>" * 1_300_000, "larger than 2 MB"),
        ("nothing.html", b"<html><script>x</script></html>", "no text found"),
    ],
)
def test_refused_with_a_reason(name: str, content: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        extract(name, content)


def test_declared_encodings_are_honoured() -> None:
    page = "<html><head><meta charset='iso-8859-1'></head><body><p>caf\xe9 in Oru</p></body></html>"
    assert "café" in extract("x.html", page.encode("latin-1")).text
    assert extract("x.txt", "Ōru".encode("utf-16")).text.strip("\ufeff") == "Ōru"


def test_100k_nested_divs_are_refused_in_time() -> None:
    content = b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000
    with Extractor(timeout=20) as extractor:
        start = time.process_time()
        try:
            extractor.extract("deep.html", content)
        except Unreadable as error:
            assert "deep" in str(error) or "complex" in str(error) or "no text" in str(error) or "took" in str(error)
        assert time.process_time() - start < 20
        assert extractor.extract("ok.txt", b"Still here.").text == "Still here."


@pytest.mark.skipif(sys.platform == "win32", reason="needs interval timers")
def test_an_extraction_over_its_time_is_killed_and_the_next_one_works() -> None:
    # half a second of processor time is not enough for this page
    words = b"<p>" + b"<b>word</b> " * 150_000 + b"</p>"
    with Extractor(timeout=0.15) as extractor:
        with pytest.raises(Unreadable, match="took more than"):
            extractor.extract("slow.html", words[:1_900_000])
        extractor.timeout = 20
        assert extractor.extract("ok.txt", b"Next.").text == "Next."


@settings(max_examples=60)
@given(st.text(max_size=400))
def test_no_page_raises_anything_but_unreadable(text: str) -> None:
    for name in ("x.html", "x.md", "x.txt"):
        with contextlib.suppress(Unreadable):
            extract(name, text.encode("utf-8", "surrogatepass"))


def outline(headings: Iterable[str]) -> Outline:
    return Outline([Heading(text) for text in headings])


@settings(max_examples=100)
@given(
    st.text(alphabet="ab. \n!?Ü", max_size=600),
    st.integers(5, 60),
    st.sets(st.text(alphabet="ab", max_size=3), max_size=5),
)
def test_passages_lose_no_word_and_keep_their_size(text: str, size: int, headings: set[str]) -> None:
    found = [passage.text for passage in passages(text, size, outline(headings))]
    assert all(0 < len(part) <= size for part in found)
    assert "".join("".join(found).split()) == "".join(text.split())
    if not headings:
        parts = [part for passage in passages(text, size, None, 7) for part in passage.parts]
        assert all(0 < len(part) <= 7 for part in parts) and "".join("".join(parts).split()) == "".join(text.split())


def test_passages_end_at_sentences() -> None:
    text = "The first sentence is here. " * 20
    assert all(passage.text.endswith("here.") for passage in passages(text.strip(), 100))


def test_no_heading_is_cut_off_from_its_section() -> None:
    sections = [(f"Heading {n}", f"Line one of section {n}.\nLine two of it.") for n in range(12)]
    text = "\n".join(f"{heading}\n{body}" for heading, body in sections)
    found = passages(text, 120, outline(heading for heading, _ in sections))
    assert len(found) > 3 and all(passage.text.startswith("Heading") for passage in found)
    assert all(
        f"{heading}\n{body}" in "\n".join(p.text for p in found if heading in p.text) for heading, body in sections
    )
    assert found[0].parts == ("Heading 0\n" + sections[0][1], "Heading 1\n" + sections[1][1])


def test_the_parts_of_a_long_section_all_name_its_headings() -> None:
    text = "Economy\nTrade\n" + "It sells wool and salt to its neighbours. " * 40
    found = passages(text, 400, Outline([Heading("Economy", 1), Heading("Trade", 2)]), part=100)
    assert found[0].text.startswith("Economy\nTrade\nIt sells") and not found[1].text.startswith("Economy")
    assert all(part.startswith("Economy\nTrade\nIt sells") for passage in found for part in passage.parts)


@pytest.mark.parametrize("name", ["a.html", "a.md"])
def test_headings_are_told_from_other_lines(name: str) -> None:
    source = {
        "a.html": "<h1>Oru</h1><p>Text.</p><h2>The <i>old</i>\n town</h2><p>More.</p>",
        "a.md": "# Oru\n\nText.\n\n## The *old* town\n\nMore.\n",
    }
    document = extract(name, source[name].encode())
    assert document.headings == (("Oru", 1), ("The old town", 2))
    assert [line for line in document.text.splitlines() if line] == ["Oru", "Text.", "The old town", "More."]
    with Extractor() as extractor:
        assert extractor.extract(name, source[name].encode()) == document


def test_readable_names() -> None:
    assert readable_name("a/eiffel-tower_01.jpg") == "eiffel tower 01"
