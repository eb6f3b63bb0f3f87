"""Office documents, books, messages, tables and notebooks: what they say, in order, with their pictures."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from datetime import datetime, timedelta

import pytest

pytest.importorskip("lxml")

from data_files import picture_bytes
from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.document import Document
from deepmmsearch.reading.file_kinds import KINDS, extract
from deepmmsearch.reading.worker import Extractor
from document_files import docx, epub, msg, odf, paragraph, pptx, shape, xlsx, zipped

PICTURE = picture_bytes(0)
DRAWING = (
    '<w:p><w:r><w:drawing><wp:inline><wp:docPr id="1" descr="The lock at Tolne"/><a:blip r:embed="p"/></wp:inline>'
    "</w:drawing></w:r></w:p>"
)


def lines(name: str, content: bytes) -> list[str]:
    return extract(name, content).text.splitlines()


def test_docx_paragraphs_tables_notes_and_what_was_deleted() -> None:
    cell = "<w:tc><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc>"
    table = "<w:tbl>" + "".join(
        f"<w:tr>{cell.format(a)}{cell.format(b)}</w:tr>" for a, b in (("Capital", "Oru"), ("Area", "12"))
    )
    body = (
        paragraph("The banks of the Tolne", "Titel")
        + paragraph("The ferry", "berschrift1")
        + "<w:p><w:r><w:t>It was run by</w:t><w:br/><w:t>Agnes</w:t><w:tab/><w:t>Brahe.</w:t></w:r>"
        "<w:del><w:r><w:delText>Nobody</w:delText></w:r></w:del><w:ins><w:r><w:t> Somebody.</w:t></w:r></w:ins></w:p>"
        f"<w:sdt><w:sdtContent>{paragraph('Within a control.')}</w:sdtContent></w:sdt>{table}</w:tbl>"
    )
    notes = f'<w:footnote w:type="separator">{paragraph("line")}</w:footnote>'
    notes += f"<w:footnote>{paragraph('Told by him.')}</w:footnote>"
    document = extract("a.docx", docx(body, notes=notes))
    assert document.text.splitlines() == [
        *("The banks of the Tolne", "The ferry", "It was run by", "Agnes Brahe. Somebody.", "Within a control."),
        *("Capital: Oru", "Area: 12", "Told by him."),
    ]
    assert document.headings == (("The banks of the Tolne", 1), ("The ferry", 1))
    assert (document.title, document.date, document.language) == ("The banks of the Tolne", "2021-03-04", "en")


def test_docx_of_the_strict_form() -> None:
    content = docx(paragraph("A ferry."))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    usual = b"http://schemas.openxmlformats.org/wordprocessingml/2006/"
    parts["word/document.xml"] = parts["word/document.xml"].replace(
        usual, b"http://purl.oclc.org/ooxml/wordprocessingml/"
    )
    assert lines("a.docx", zipped(parts)) == ["A ferry."]


def test_a_picture_of_a_docx_is_described_by_its_caption_and_its_alternative_text() -> None:
    body = paragraph("The river is crossed in the north.") + DRAWING + paragraph("Figure 2: The lock in 1901")
    (shown,) = extract("a.docx", docx(body, picture=PICTURE)).pictures
    assert (shown.title, shown.content) == ("Figure 2: The lock in 1901", PICTURE)
    assert shown.snippet == "The lock at Tolne The river is crossed in the north."
    (plain,) = extract("a.docx", docx(DRAWING, picture=PICTURE)).pictures
    assert plain.title == "The lock at Tolne"


def test_pptx_slides_in_order_with_tables_notes_and_pictures() -> None:
    table = (
        "<p:graphicFrame><a:tbl><a:tr><a:tc><a:txBody><a:p><a:r><a:t>Capital</a:t></a:r></a:p></a:txBody></a:tc><a:tc>"
        "<a:txBody><a:p><a:r><a:t>Oru</a:t></a:r></a:p></a:txBody></a:tc></a:tr></a:tbl></p:graphicFrame>"
    )
    shown = '<p:pic><p:nvPicPr><p:cNvPr id="2" descr="The lock"/></p:nvPicPr><p:blipFill><a:blip r:embed="p"/>'
    shown += "</p:blipFill></p:pic>"
    slides = [shape("What is crossed\nby whom") + shape("The Tolne", "title") + shape("7", "sldNum"), table + shown]
    document = extract("a.pptx", pptx(slides, {1: "Speak slowly."}, PICTURE))
    assert document.text.splitlines() == [
        "The Tolne",
        "What is crossed",
        "by whom",
        "Notes: Speak slowly.",
        "Capital: Oru",
    ]
    assert document.title == "The Tolne" and [fragment for _, fragment in document.marks] == ["slide=1", "slide=2"]
    assert document.text[document.marks[1][0] :] == "Capital: Oru"
    (picture,) = document.pictures
    assert (picture.title, picture.place, picture.content) == ("The lock", "slide=2", PICTURE)


def test_each_row_of_a_sheet_says_what_its_cells_are() -> None:
    pytest.importorskip("python_calamine")
    rows: list[list[str | float]] = [
        ["Countries of the isles"],
        [],
        ["Country", "Capital", "Area"],
        ["Veld", "Oru", 12.0],
        ["Nord", "", 0.5],
    ]
    document = extract("a.xlsx", xlsx({"Lands": rows, "Sheet2": [["One", "Two"], [1.0, 2.0]]}))
    assert document.text.splitlines() == [
        *("Lands", "Countries of the isles", "Country: Veld; Capital: Oru; Area: 12", "Country: Nord; Area: 0.5"),
        "One: 1; Two: 2",
    ]
    assert [fragment for _, fragment in document.marks] == ["sheet=Lands", "sheet=Sheet2"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separated_values(separator: str) -> None:
    rows = (("Country", "Capital"), ("Veld", '"Oru, the old"'), ("Nord", '"a\nb"'))
    content = "\r\n".join(separator.join(row) for row in rows).encode("utf-8-sig")
    assert lines("a.csv", content) == ["Country: Veld; Capital: Oru, the old", "Country: Nord; Capital: a b"]


def test_a_table_without_names_of_columns_is_read_as_it_is() -> None:
    assert lines("a.csv", b"1,2\n3,4\n") == ["1; 2", "3; 4"]
    assert lines("a.tsv", b"Veld\tOru\n") == ["Veld; Oru"]


def test_opendocument_text_and_slides() -> None:
    frame = '<draw:frame><draw:image xlink:href="Pictures/a.png"/><svg:title>The lock</svg:title></draw:frame>'
    body = (
        "<office:text><text:tracked-changes><text:p>Gone.</text:p></text:tracked-changes>"
        '<text:h text:outline-level="1">The ferry</text:h><text:p>It was<text:s/>run by'
        "<text:line-break/>Agnes.</text:p>"
        "<table:table><table:table-row><table:table-cell><text:p>Capital</text:p></table:table-cell><table:table-cell>"
        f"<text:p>Oru</text:p></table:table-cell></table:table-row></table:table><text:p>{frame}</text:p></office:text>"
    )
    document = extract("a.odt", odf(body, pictures={"Pictures/a.png": PICTURE}))
    assert document.text.splitlines() == ["The ferry", "It was run by", "Agnes.", "Capital: Oru"]
    assert (document.title, document.date, document.pictures[0].title) == ("The ferry", "2021-03-04", "The lock")
    slides = (
        '<office:presentation><draw:page><draw:frame presentation:class="title"><draw:text-box>'
        "<text:p>The Tolne</text:p>"
        "</draw:text-box></draw:frame><presentation:notes><draw:frame><draw:text-box><text:p>Slowly.</text:p>"
        "</draw:text-box></draw:frame></presentation:notes></draw:page></office:presentation>"
    )
    document = extract("a.odp", odf(slides, "Given"))
    assert document.text.splitlines() == ["The Tolne", "Notes: Slowly."] and document.title == "Given"
    assert document.marks == ((0, "slide=1"),)


def test_epub_chapters_in_the_order_of_the_book() -> None:
    page = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>{}</body></html>'
    chapters = {
        "b.xhtml": page.format("<h1>The ferry</h1><p>It was run by Agnes.</p>"),
        "a.xhtml": page.format('<h1>The mill</h1><p>It ground rye.</p><img src="../img/a.png" alt="The lock"/>'),
        "empty.xhtml": page.format(""),
    }
    document = extract("a.epub", epub(chapters, "Two banks", {"img/a.png": PICTURE}))
    assert document.text.splitlines() == ["The ferry", "It was run by Agnes.", "The mill", "It ground rye."]
    assert (document.title, document.language, document.date) == ("Two banks", "de", "1999-05-01")
    (picture,) = document.pictures
    assert (picture.title, picture.place, picture.content) == ("The lock", "chapter=2", PICTURE)


MAIL = b"""From: =?utf-8?q?J=C3=B8rn?= <jorn@a.example>\r
To: Agnes <agnes@a.example>\r
Subject: The ferry\r
Date: Thu, 04 Mar 2021 10:00:00 +0000\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=X\r
\r
--X\r
Content-Type: multipart/alternative; boundary=Y\r
\r
--Y\r
Content-Type: text/plain; charset=iso-8859-1\r
\r
It leaves at n\xefne.\r
--Y\r
Content-Type: text/html\r
\r
<p>It leaves at nine.</p>\r
--Y--\r
--X\r
Content-Type: text/plain; name=list.txt\r
Content-Disposition: attachment; filename=list.txt\r
\r
Two coins a head.\r
--X\r
Content-Type: application/zip\r
Content-Disposition: attachment; filename=log.zip\r
Content-Transfer-Encoding: base64\r
\r
UEsDBA==\r
--X\r
Content-Type: message/rfc822\r
\r
Subject: An earlier one\r
\r
Who runs it?\r
--X\r
Content-Type: image/png; name=lock.png\r
Content-Transfer-Encoding: base64\r
\r
%s\r
--X--\r
"""


def test_a_message_with_what_was_attached() -> None:
    document = extract("a.eml", MAIL % base64.encodebytes(PICTURE))
    assert document.text.splitlines() == [
        *("The ferry", "From: Jørn <jorn@a.example>", "To: Agnes <agnes@a.example>"),
        *("Date: Thu, 04 Mar 2021 10:00:00 +0000", "It leaves at nïne.", "Attachment: list.txt", "Two coins a head."),
        *("Attachment: log.zip", "An earlier one", "Who runs it?", "Attachment: lock.png"),
    ]
    assert (document.title, document.date) == ("The ferry", "2021-03-04")
    assert document.pictures[0].content == PICTURE


def test_a_page_that_a_browser_saved_with_its_pictures() -> None:
    content = b"""From: <Saved by a browser>
Snapshot-Content-Location: https://a.example/ferry
Subject: x
MIME-Version: 1.0
Content-Type: multipart/related; boundary=X

--X
Content-Type: text/html; charset=utf-8

<html><head><title>The ferry</title></head><body><p>It leaves at nine.</p>
<img src="https://a.example/l.png" alt="The lock"></body></html>
--X
Content-Type: image/png
Content-Transfer-Encoding: base64
Content-Location: https://a.example/l.png

%s
--X--
"""
    document = extract("a.mhtml", content % base64.encodebytes(PICTURE))
    assert (document.title, document.text, document.url) == (
        "The ferry",
        "It leaves at nine.",
        "https://a.example/ferry",
    )
    assert (document.pictures[0].title, document.pictures[0].content) == ("The lock", PICTURE)


def test_a_message_of_outlook() -> None:
    pytest.importorskip("olefile")
    texts = {"0037": "The ferry", "1000": "It leaves at nine.", "0C1A": "Jørn", "0C1F": "j@a.example", "0E04": "Agnes"}
    ticks = (datetime(2021, 3, 4) - datetime(1601, 1, 1)) // timedelta(microseconds=1) * 10
    attached = {
        "__substg1.0_3707001F": "list.txt".encode("utf-16-le"),
        "__substg1.0_370E001F": "text/plain".encode("utf-16-le"),
        "__substg1.0_37010102": b"Two coins a head.".ljust(4096),
    }
    document = extract("a.msg", msg(texts, {0x0039: ticks}, attached))
    assert document.text.splitlines()[:4] == ["The ferry", "From: Jørn <j@a.example>", "To: Agnes", "Date: 2021-03-04"]
    assert document.text.splitlines()[4:] == ["It leaves at nine.", "Attachment: list.txt", "Two coins a head."]
    assert (document.title, document.date) == ("The ferry", "2021-03-04")


def notebook() -> bytes:
    drawn = {"image/png": base64.b64encode(PICTURE).decode(), "text/plain": "<Figure>"}
    cells = [
        {"cell_type": "markdown", "source": ["# The *ferry*\n", "\n", "It is counted."]},
        {
            "cell_type": "code",
            "source": "count()",
            "outputs": [
                {"output_type": "stream", "text": ["41\n", "42\n"]},
                {"output_type": "display_data", "data": drawn},
                {"output_type": "error", "ename": "ValueError", "evalue": "no boat", "traceback": ["\x1b[31mx"]},
            ],
        },
    ]
    return json.dumps({"nbformat": 4, "cells": cells}).encode()


def test_a_notebook_with_what_its_code_printed_and_drew() -> None:
    document = extract("a.ipynb", notebook())
    said = list(filter(None, document.text.splitlines()))
    assert said == [
        "The ferry",
        "It is counted.",
        "count()",
        "41",
        "42",
        "ValueError: no boat",
    ]
    assert document.title == "The ferry" and document.pictures[0].content == PICTURE


def test_rtf() -> None:
    pytest.importorskip("striprtf")
    written = r"{\rtf1\ansi\ansicpg1252{\info{\title Two banks}}{\fonttbl{\f0 Arial;}}\pard"
    document = extract("a.rtf", (written + r" The ferry of J\'f8rn.\par It left at nine.\par}").encode())
    assert document.title == "Two banks" and document.text.splitlines()[0].startswith("The ferry of Jørn")


CONTENTS = {
    "a.docx": docx(paragraph("A ferry.") + DRAWING, picture=PICTURE),
    "a.pptx": pptx([shape("A ferry.")]),
    "a.odt": odf("<office:text><text:p>A ferry.</text:p></office:text>"),
    "a.epub": epub({"a.xhtml": "<html><body><p>A ferry.</p></body></html>"}),
    "a.eml": MAIL % base64.encodebytes(PICTURE),
    "a.ipynb": notebook(),
    "a.csv": b"Country,Capital\nVeld,Oru\n",
    "a.xlsx": xlsx({"Lands": [["Country", "Capital"], ["Veld", "Oru"]]}),
    "a.rtf": rb"{\rtf1 A ferry.\par}",
    "a.adoc": b"= Ferries\n\nA ferry.",
    "a.org": b"* Ferries\nA ferry.",
    "a.1": b".TH FERRY 1\n.SH NAME\nferry \\- cross it",
    "a.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><text>A ferry</text></svg>',
    "a.msg": msg({"0037": "A ferry"}, {}, {"__substg1.0_3707001F": "list.txt".encode("utf-16-le")}),
}


def test_all_of_it_comes_through_the_process_that_is_killed() -> None:
    for package in ("python_calamine", "olefile", "striprtf"):
        pytest.importorskip(package)
    with Extractor(60) as extractor:
        for name, content in CONTENTS.items():
            found: Document = extractor.extract(name, content)
            assert found == extract(name, content), name
    others = {"html", "markdown", "rst", "text", "pdf", "record", "wikitext"}
    assert set(KINDS) - others <= {_kind(name) for name in CONTENTS}


def _kind(name: str) -> str:
    return next(kind.name for kind in KINDS.values() if name[1:] in kind.suffixes)


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.odt", "a.epub", "a.xlsx"])
def test_what_unpacks_to_too_much_or_is_cut_off_is_refused(name: str) -> None:
    pytest.importorskip("python_calamine")
    with pytest.raises(Unreadable, match="damaged"):
        extract(name, CONTENTS[name][:200])
    locked = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le")
    with pytest.raises(Unreadable, match="encrypted"):
        extract(name, locked)


def test_a_part_that_unpacks_to_too_much() -> None:
    bomb = zipped({"_rels/.rels": b" " * 65_000_000, "word/document.xml": "<x/>"})
    assert len(bomb) < 100_000
    with pytest.raises(Unreadable, match="unpacks to too much"):
        extract("a.docx", bomb)


def test_entities_are_not_resolved() -> None:
    laughs = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 30))
    body = paragraph("A ferry. &file;&e29;")
    content = docx(body)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    head = f'<!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/hostname"><!ENTITY e0 "ha">{laughs}]>'.encode()
    parts["word/document.xml"] = head + parts["word/document.xml"]
    (line,) = lines("a.docx", zipped(parts))
    assert line.startswith("A ferry.") and len(line) < 30


def test_a_compound_file_that_is_damaged() -> None:
    pytest.importorskip("olefile")
    with pytest.raises(Unreadable, match="damaged MSG"):
        extract("a.msg", CONTENTS["a.msg"][:100])
