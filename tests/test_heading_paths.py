"""Passages know the headings above them: in every kind of document, as they are searched and as they are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lxml")
pytest.importorskip("pypdfium2")
pytest.importorskip("tantivy")

from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.engine.chunks import Outline, passages
from deepmmsearch.reading.document import Document
from deepmmsearch.reading.file_kinds import extract
from document_files import docx, epub, odf, paragraph
from pdf_files import Line, lines, pdf

LONG = "The ferryman keeps the bell and the lamp in order. " * 8
DEEP = ("Harbour", "Ferries", "Winter")


def of_levels(marks: tuple[str, str, str], text: str = LONG, gap: str = "\n\n") -> str:
    chapter, section, part = marks
    return gap.join(
        f"{head}{gap}{text}"
        for head in (
            *(chapter.format("Harbour"), section.format("Ferries"), part.format("Summer"), part.format("Winter")),
            *(section.format("Cranes"), chapter.format("Town")),
        )
    )


HTML = of_levels(("<h1>{}</h1>", "<h2>{}</h2>", "<h3>{}</h3>"), f"<p>{LONG}</p>")
WRITTEN = {
    "a.html": HTML,
    "a.md": of_levels(("# {}", "## {}", "### {}")),
    "b.md": of_levels(("<h1>{}</h1>", "{}\n---", "### {}")),
    "a.rst": of_levels(("=======\n{}\n=======", "{}\n=======", "{}\n-------")),
    "a.adoc": of_levels(("== {}", "=== {}", "==== {}")),
    "a.org": of_levels(("* {}", "** {}", "*** TODO {} :tag:")),
    "a.txt": of_levels(("{0}\n=======", "{0}\n-------", "{0}\n~~~~~~"), LONG).replace("=======", "=======", 1),
    "a.ipynb": json.dumps(
        {"cells": [{"cell_type": "markdown", "source": of_levels(("# {}", "## {}", "### {}"))}], "nbformat": 4}
    ),
}


def paths(document: Document, size: int = 500) -> dict[str, tuple[str, ...]]:
    """Of passages by their first lines."""
    found = passages(document.text, size, Outline(document.headings))
    return {passage.text.partition("\n")[0]: passage.path for passage in found}


@pytest.mark.parametrize("name", WRITTEN)
def test_passages_know_the_headings_above_them(name: str) -> None:
    found = paths(extract(name, WRITTEN[name].encode()))
    assert found["Harbour"] == () and found["Ferries"] == DEEP[:1] and found["Summer"] == DEEP[:2]
    assert found["Winter"] == DEEP[:2] and found["Cranes"] == DEEP[:1] and found["Town"] == ()


def _word() -> bytes:
    styles = {"{1}": "berschrift1", "{2}": "berschrift2", "{3}": "Abschnitt"}
    marks = tuple(f"{paragraph('{}', style)}" for style in styles.values())
    return docx(of_levels(marks, paragraph(LONG, "Text"), ""))  # type: ignore[arg-type]


def _open_document() -> bytes:
    marks = tuple(f'<text:h text:outline-level="{level}">{{}}</text:h>' for level in (1, 2, 3))
    return odf(f"<office:text>{of_levels(marks, f'<text:p>{LONG}</text:p>', '')}</office:text>")  # type: ignore[arg-type]


def _book() -> bytes:
    files = {
        f"{n}.xhtml": f"<html><body><p>{text}</p>{body}</body></html>"
        for n, (text, body) in enumerate(
            [
                ("Of the harbour.", ""),
                ("FERRIES", f"<p>{LONG}</p>"),
                (LONG, ""),
                ("", f"<h1>Winter</h1><p>{LONG}</p>"),
                ("", f"<h1>Cranes</h1><p>{LONG}</p>"),
                ("", f"<h1>Town</h1><p>{LONG}</p>"),
            ]
        )
    }
    link = '<li><a href="text/{}.xhtml">{}</a>{}</li>'
    parts = "".join(link.format(n, label, "") for n, label in ((2, "Summer"), (3, "Winter")))
    sections = link.format(1, "Ferries", f"<ol>{parts}</ol>") + link.format(4, "Cranes", "")
    contents = link.format(0, "Harbour", f"<ol>{sections}</ol>") + link.format(5, "Town", "")
    nav = f'<html xmlns="http://www.w3.org/1999/xhtml"><body><nav><ol>{contents}</ol></nav></body></html>'
    return epub(files, "The coast", contents=nav)


def _paper(marked: bool) -> bytes:
    """With bookmarks, which tell more than letters that are all as large."""
    prose = "The ferryman keeps the bell\nand the lamp in good order.\n" * 7
    sizes = dict(zip((1, 2, 3), (11, 11, 11) if marked else (22, 18, 14), strict=True))
    heads = [(1, "Harbour"), (2, "Ferries"), (3, "Summer"), (3, "Winter"), (2, "Cranes"), (1, "Town")]
    pages = [
        [Line(50, 720, f"{n}. {head}" if marked else head, sizes[level]), *lines(prose, y=690)]
        for n, (level, head) in enumerate(heads)
    ]
    return pdf(pages, bookmarks=[(level, head, n) for n, (level, head) in enumerate(heads, 1)] if marked else ())


def _bare(heading: str) -> str:
    """Without its number."""
    return heading.rpartition(". ")[2]


PACKED = {"a.docx": _word, "a.odt": _open_document, "a.pdf": lambda: _paper(False), "b.pdf": lambda: _paper(True)}


@pytest.mark.parametrize("name", PACKED)
def test_documents_of_programs_know_them_too(name: str) -> None:
    document = extract(name, PACKED[name]())
    found = {_bare(line): tuple(map(_bare, path)) for line, path in paths(document).items()}
    assert found["Harbour"] == () and found["Ferries"] == DEEP[:1] and found["Summer"] == DEEP[:2]
    assert found["Winter"] == DEEP[:2] and found["Cranes"] == DEEP[:1] and found["Town"] == ()


def test_chapters_of_a_book_are_called_as_its_contents_call_them() -> None:
    document = extract("a.epub", _book())
    assert [(h.text, h.level) for h in document.headings] == [
        *(("Harbour", 1), ("FERRIES", 2), ("Summer", 3), ("Winter", 3), ("Cranes", 2), ("Town", 1)),
    ]
    assert document.text.count("Summer") == 1 and document.text.lower().count("ferries") == 1
    assert paths(document, 420)["Winter"] == ("Harbour", "FERRIES")


def test_the_path_is_searched_and_shown_with_the_page_title(tmp_path: Path) -> None:
    page = HTML.replace("\n", "").replace("in order. </p><h2>Cranes", "in order. An oilskin hangs there.</p><h2>Cranes")
    assert "oilskin" in page
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "coast.html").write_text(f"<title>The coast</title><h1>The coast</h1>{page}")
    (tmp_path / "pages" / "other.html").write_text("<title>Moor</title><h1>Moor</h1><p>An oilskin on the moor.</p>")
    index = Index.build(tmp_path / "pages", tmp_path / "index", IndexSettings(passage=300))
    best, *_ = index.search_text("harbour winter oilskin")
    # the page's own headline is its title, which is not told twice
    assert best.title == "The coast > Harbour > Ferries > Winter" and "oilskin" in best.snippet
    assert "Winter" not in best.snippet
    assert index.search_text('oilskin "winter"')[0].snippet == best.snippet
    read = index.read(best.url)
    assert read.title == "The coast" and read.text.count("Winter") == 1
    apart = Index.build(tmp_path / "pages", tmp_path / "apart", IndexSettings(passage=300, titles="apart"))
    assert {hit.title for hit in apart.search_text("oilskin")} == {"The coast", "Moor"}
