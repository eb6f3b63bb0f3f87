"""What an index makes of documents with parts and pictures of their own, and of text in pictures."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

pytest.importorskip("tantivy")
pytest.importorskip("pypdfium2")


from data_files import picture, picture_bytes
from deepmmsearch import images
from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.engine.ingest import Ingest
from deepmmsearch.errors import MissingExtra
from deepmmsearch.reading.document import Document, Origin
from deepmmsearch.reading.ocr import TextReader
from deepmmsearch.reading.worker import Extractor
from document_files import docx, paragraph, pptx, shape
from pdf_files import Line, Picture, lines, pdf
from test_documents import DRAWING

LOCK = picture(0, (160, 120))


def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    filler = "\n".join(f"Row {n} of what nobody asks for." for n in range(30))
    pages = [lines(f"Page {n}.\n{filler}") for n in range(1, 6)]
    pages[3] += [Line(50, 300, "The beekeeper of Lunde is Sverre Dahl.")]
    pages[4] = [Picture(50, 400, 200, 150, LOCK), Line(50, 380, "Figure 7: The lock at Tolne")]
    (root / "year book.pdf").write_bytes(pdf(pages, {"Title": "Yearbook"}))
    (root / "talk.pptx").write_bytes(pptx([shape("Ferries", "title"), shape("The oarsman is Tilde Ravn.")]))
    (root / "report.docx").write_bytes(docx(paragraph("A mill.") + DRAWING, picture=picture_bytes(1)))
    return root


def test_hits_cite_the_page_and_are_read_as_the_document(tmp_path: Path) -> None:
    index = Index.build(folder(tmp_path), tmp_path / "index")
    (hit,) = index.search_text("beekeeper of Lunde", 1)
    assert hit.url.endswith("book.pdf#page=4") and "Sverre Dahl" in hit.snippet and "Page 5." not in hit.snippet
    whole = index.read(hit.url)
    assert whole.title == "Yearbook" and "Page 1." in whole.text and "Page 4." in whole.text
    (hit,) = index.search_text("oarsman", 1)
    assert hit.url == "talk.pptx#slide=2"


def test_pictures_within_documents_are_found_until_the_document_goes(tmp_path: Path) -> None:
    root = folder(tmp_path)
    index = Index.build(root, tmp_path / "index")
    assert index.stats()["pictures"] == 2
    (hit, *_) = index.search_image(LOCK, 1)
    assert hit.title == "Figure 7: The lock at Tolne" and hit.url.endswith("book.pdf#page=5") and hit.matched
    (hit, *_) = index.search_image(picture(1), 1)
    assert (hit.title, hit.url) == ("The lock at Tolne", "report.docx")
    (root / "report.docx").unlink()
    index = Index.build(root, tmp_path / "index")
    assert index.stats()["pictures"] == 1
    assert all(hit.url != "report.docx" for hit in index.search_image(picture(1), 5))
    index.remove(["year book.pdf"])
    assert index.stats()["pictures"] == 0 and index.search_image(LOCK) == []


def test_a_missing_package_costs_the_files_that_need_it_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.rtf").write_bytes(rb"{\rtf1 A ferry.\par}")
    (root / "b.txt").write_text("A mill.")

    def ask(self: Extractor, request: dict, content: bytes, timeout: float) -> dict:
        if request["kind"] == "rtf":
            raise MissingExtra("Reading RTF files", "documents")
        return {**vars(Document("b", "A mill.")), "headings": [], "pictures": [], "content": b""}

    monkeypatch.setattr(Extractor, "ask", ask)
    report = Index.build(root, tmp_path / "index").report
    ((reason, files),) = report.skipped.items()
    assert "pip install 'deepmmsearch[documents]'" in reason and [*files] == ["a.rtf"] and report.added == 1


HEIC = (
    b"AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9j"
    b"AAAAAERAAAEAAQAAAAABoQABAAAAAAAAAB8AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/Wlw"
    b"cnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AA"
    b"AAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAA"
    b"QAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWB"
    b"AgMFhAAAACdtZGF0AAAAGygBrxmA7iRKXafnYReH/+0CI/6+1f8U2p7wYA=="
)
"""64 x 48 pixels: white on the left, red on the right."""


def test_pictures_of_phones_are_read() -> None:
    buffer = io.BytesIO()
    LOCK.save(buffer, "AVIF")
    assert images.load(buffer.getvalue()).size == LOCK.size
    pytest.importorskip("pi_heif")
    read = images.load(base64.b64decode(HEIC))
    assert read.size == (64, 48) and read.getpixel((8, 24))[1] > 200 and read.getpixel((56, 24))[1] < 80


class Told(TextReader):
    """Reads the same in each picture."""

    def picture(self, image: Image.Image) -> str:
        return f"Opened by Wanda Pohl in {image.width}."

    def scan(self, origin: Origin, content: bytes) -> Document:
        return Document(origin.name, "The archive is led by Hedda Vinge.", marks=((0, "page=1"),))


def test_what_is_written_in_pictures_is_found_where_the_index_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path)
    LOCK.save(root / "plaque.png")
    (root / "scan.pdf").write_bytes(pdf([[Picture(0, 0, 600, 800, LOCK)]]))
    plain = Index.build(root, tmp_path / "plain")
    assert plain.search_text("Wanda Pohl") == []
    (reason,) = plain.report.skipped
    assert reason == "a scan without text; index build --ocr reads it"
    monkeypatch.setattr("deepmmsearch.reading.ocr.TextReader", Told)
    index = Index.build(root, tmp_path / "index", IndexSettings(ocr=True))
    assert {hit.url for hit in index.search_text("Wanda Pohl", 9)} == {
        *("plaque.png", "report.docx", "year%20book.pdf#page=5")
    }
    assert index.search_text("Hedda Vinge", 1)[0].url == "scan.pdf#page=1"
    assert Index.open(tmp_path / "index").settings.ocr and not index.report.skipped
    shutil.rmtree(root)
    root.mkdir()
    assert Index.build(root, tmp_path / "index").search_text("Wanda Pohl") == []


@pytest.mark.slow
def test_text_is_read_in_pictures_and_on_scans_without_a_network() -> None:
    pytest.importorskip("rapidocr")
    plaque = Image.new("RGB", (900, 260), "white")
    font = ImageFont.load_default(44)
    ImageDraw.Draw(plaque).text((30, 60), "The pilot of Bergen is Siri Moe.", fill="black", font=font)
    with TextReader() as texts:
        assert "Siri Moe" in texts.picture(plaque)
        assert texts.picture(Image.new("RGB", (200, 200), "white")) == ""
        found = texts.scan(Origin("pdf", "scan"), pdf([[Picture(0, 500, 600, 173, plaque)], []]))
    assert "Siri Moe" in found.text and found.marks[0] == (0, "page=1")


def test_only_an_index_that_reads_pictures_starts_a_reader() -> None:
    assert Ingest(Path("/")).texts is None
