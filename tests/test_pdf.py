"""PDFs: what a reader of the paper would read, in that order, and where."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("pypdfium2")
import pypdf

from data_files import picture
from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.document import Document
from deepmmsearch.reading.file_kinds import extract
from deepmmsearch.reading.worker import Extractor
from pdf_files import Line, Picture, lines, pdf

LEFT = """The ferry of Tolne was run by the
widow Agnes Brahe, who took it over
in 1874 and kept its log every day
until the bridge was opened. She had
two boats and four oarsmen at that
time, and charged two coins a head."""
RIGHT = """The mill stood on the other bank and
ground rye for nine parishes. It was
sold to Peder Lauge when the wheel
broke in the flood of 1881, and he
built a dam of granite that can be
seen from the road to this day."""


def read(content: bytes, name: str = "a.pdf") -> Document:
    return extract(name, content)


def test_two_columns_are_read_one_after_the_other_however_they_were_written() -> None:
    columns = [*lines(LEFT, 50), *lines(RIGHT, 320)]
    across = sorted(columns, key=lambda line: -line.y)
    for written in (columns, across, columns[::-1]):
        page = [
            Line(50, 750, "A chronicle of the two banks of the river Tolne and of those who lived there", 14),
            *written,
        ]
        text = read(pdf([page])).text
        assert "took it over in 1874 and kept its log" in text and "sold to Peder Lauge when the wheel broke" in text
        assert text.index("chronicle") < text.index("oarsmen") < text.index("rye")


def test_columns_above_and_below_a_line_that_crosses_both() -> None:
    page = [*lines(LEFT, 50, 700), *lines(RIGHT, 320, 700)]
    page += [Line(50, 600, "A heading that stands over both of the columns and is much longer than either", 14)]
    page += [*lines(LEFT.replace("Tolne", "Vejen"), 50, 560), *lines(RIGHT.replace("mill", "forge"), 320, 560)]
    text = read(pdf([page])).text
    order = [text.index(words) for words in ("ferry of Tolne", "The mill", "A heading", "ferry of Vejen", "The forge")]
    assert order == sorted(order)


def test_a_table_is_read_row_by_row() -> None:
    cells = (("Country", "Capital"), ("Veld", "Oru"), ("Nord", "Vinsk"), ("Ostra", "Lim"), ("Sarn", "Halm"))
    page = [
        Line(50 + 250 * column, 700 - 20 * row, word)
        for row, pair in enumerate(cells)
        for column, word in enumerate(pair)
    ]
    assert read(pdf([page])).text.splitlines() == [" ".join(pair) for pair in cells]


def test_lines_are_joined_to_paragraphs_and_cut_words_to_words() -> None:
    text = """The meteoro-
logical obser-
vatory was opened by Karin Blixen-Ek-
berg. Its co-
ordinator was known. The co-ordinator left."""
    found = read(pdf([lines(text)])).text
    assert "The meteorological observatory was opened" in found and "Its co-ordinator was known." in found


def test_running_heads_and_page_numbers_go_and_the_text_stays() -> None:
    pages = [
        [
            Line(50, 770, "Yearbook of the parish"),
            Line(500, 770, f"Chapter {1 + number // 3}"),
            *lines(f"Entry {number} tells of the winter.\nEntry {number} was written later by the vicar.", y=700),
            Line(290, 30, f"- {number} -"),
        ]
        for number in range(1, 9)
    ]
    document = read(pdf(pages))
    assert "Yearbook" not in document.text and "Chapter" not in document.text and "- 3 -" not in document.text
    assert "Entry 1 tells of the winter." in document.text and "Entry 8 was written later" in document.text


def test_lines_that_are_alike_on_each_page_but_belong_to_the_text_stay() -> None:
    pages = [lines("\n".join(f"Page {p} row {row}: nothing of note." for row in range(60)), y=780) for p in range(1, 5)]
    assert "Page 3 row 0:" in read(pdf(pages)).text and "Page 3 row 59:" in read(pdf(pages)).text


def test_each_page_is_marked() -> None:
    document = read(pdf([[Line(50, 700, f"What page {number} says.")] for number in range(1, 4)]))
    assert [fragment for _, fragment in document.marks] == ["page=1", "page=2", "page=3"]
    for offset, fragment in document.marks:
        assert document.text[offset:].startswith(f"What page {fragment[-1]}")


def test_a_sentence_that_goes_on_over_the_page_belongs_to_the_page_on_which_it_begins() -> None:
    pages = [
        lines("The first.\nThe ferry was run by the meteoro-"),
        [*lines("logical office."), Line(50, 500, "Third.", 20)],
    ]
    document = read(pdf(pages))
    assert "The ferry was run by the meteorological office." in document.text
    assert [document.text[offset:].strip() for offset, _ in document.marks][1] == "Third."


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_turned_pages(rotate: int) -> None:
    assert read(pdf([lines("First line of it\nSecond line of it\nThird line of it")], rotate=rotate)).text.startswith(
        "First"
    )


@pytest.mark.parametrize(
    ("told", "title"),
    [
        ("A history of Veld", "A history of Veld"),
        ("Microsoft Word - A history of Veld", "A history of Veld"),
        ("Microsoft Word - Document1", "The ferries of Tolne"),
        ("untitled", "The ferries of Tolne"),
        ("Untitled-2", "The ferries of Tolne"),
        ("Microsoft PowerPoint - talk.v2.ppt [Compatibility Mode]", "The ferries of Tolne"),
        ("Layout 1", "The ferries of Tolne"),
        ("Unbenanntes Dokument", "The ferries of Tolne"),
        ("C:\\texts\\ferries", "The ferries of Tolne"),
        ("Layout of the ferries", "Layout of the ferries"),
        ("", "The ferries of Tolne"),
        ("final_v3.docx", "The ferries of Tolne"),
        ("12.34", "The ferries of Tolne"),
        ("PowerPoint Presentation", "The ferries of Tolne"),
    ],
)
def test_a_title_that_no_one_gave_is_the_largest_text_of_the_first_page(told: str, title: str) -> None:
    page = [Line(50, 760, "Parish papers"), Line(50, 720, "The ferries of Tolne", 20), *lines(LEFT, y=690)]
    document = read(pdf([page], {"Title": told, "CreationDate": "D:20210304120000Z"}))
    assert (document.title, document.date) == (title, "2021-03-04")
    heads = [heading.text for heading in document.headings]
    assert "The ferries of Tolne" in heads and "Parish papers" not in heads


@pytest.mark.parametrize("date", ["D:20219904", "yesterday", "D:0"])
def test_a_date_that_is_none(date: str) -> None:
    assert read(pdf([lines("Some text.")], {"CreationDate": date})).date is None


def test_pictures_bring_their_captions_and_pages() -> None:
    photo, drawing, dot = picture(0, (120, 90)), picture(1, (90, 120)), picture(2, (8, 8))
    pages = [
        lines("Nothing is to be seen here but text."),
        [
            Picture(50, 500, 200, 150, photo),
            Line(50, 485, "Figure 3: The lock at Tolne, seen from the south."),
            Picture(320, 500, 150, 200, drawing, "FlateDecode"),
            Line(320, 480, "The plan of the lock was drawn by an unknown hand."),
            Picture(10, 10, 8, 8, dot),
        ],
    ]
    document = read(pdf(pages))
    first, second = document.pictures
    assert first.title == "Figure 3: The lock at Tolne, seen from the south." and first.rank > second.rank
    assert (second.title, second.snippet) == ("", "The plan of the lock was drawn by an unknown hand.")
    assert (first.place, second.place) == ("page=2", "page=2") and first.src != second.src
    assert first.content.startswith(b"\xff\xd8") and second.content.startswith(b"\x89PNG")


def test_a_scan_is_told_as_one_and_a_page_without_anything_is_not() -> None:
    scan = [Picture(0, 0, 600, 800, picture(0, (300, 400)))]
    with pytest.raises(Unreadable, match="a scan without text"):
        read(pdf([scan, [*scan, Line(300, 20, "2")]]))
    with pytest.raises(Unreadable, match="no text found"):
        read(pdf([[]]))


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_what_is_encrypted_without_a_password_is_read_and_else_told(algorithm: str) -> None:
    for password in ("", "secret"):
        writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf([lines("The pilot is Siri Moe.")])))
        writer.encrypt(password, "owner", algorithm=algorithm)
        buffer = io.BytesIO()
        writer.write(buffer)
        if password:
            with pytest.raises(Unreadable, match="encrypted PDF"):
                read(buffer.getvalue())
        else:
            assert read(buffer.getvalue()).text == "The pilot is Siri Moe."


def test_what_was_filled_into_a_form_is_read() -> None:
    from pypdf.generic import ArrayObject, DictionaryObject, FloatObject, NameObject, TextStringObject

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf([lines("Name of the applicant:")])))
    fields = ArrayObject()
    for name, value in (("applicant", "Tilde Ravn"), ("empty", "")):
        field = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Annot"),
                NameObject("/Subtype"): NameObject("/Widget"),
                NameObject("/FT"): NameObject("/Tx"),
                NameObject("/T"): TextStringObject(name),
                NameObject("/V"): TextStringObject(value),
                NameObject("/Rect"): ArrayObject(FloatObject(n) for n in (50, 600, 250, 620)),
            }
        )
        fields.append(writer._add_object(field))
    writer.pages[0][NameObject("/Annots")] = fields
    writer.root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/Fields"): fields})
    buffer = io.BytesIO()
    writer.write(buffer)
    assert read(buffer.getvalue()).text.splitlines() == ["Name of the applicant:", "applicant: Tilde Ravn"]


def test_all_of_it_comes_through_the_process_that_is_killed() -> None:
    content = pdf([[Picture(50, 500, 200, 150, picture(0, (120, 90))), Line(50, 485, "Figure 1: The lock.")]] * 2)
    with Extractor(60) as extractor:
        found = extractor.extract("a.pdf", content)
    assert found == read(content) and len(found.pictures) == 2 and found.marks[1][1] == "page=2"
