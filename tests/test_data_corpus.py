"""The Wikipedia that goes with InfoSeek and Encyclopedic-VQA becomes pages of an index, article by article."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from commands import done
from data_files import write_json, write_lines, write_picture
from deepmmsearch.data.corpus import read_articles, write_pages
from deepmmsearch.data.published import BENCHMARKS
from deepmmsearch.engine import Index
from deepmmsearch.errors import UserError
from deepmmsearch.reading import json_stream
from deepmmsearch.reading.file_kinds import extract

OAK = "https://en.wikipedia.org/wiki/Invented_Oak"


def article(title: str, *texts: str) -> dict[str, Any]:
    """In the form of Encyclopedic-VQA, with what is not read here."""
    heads = [title, *(f"Part {n}" for n in range(1, len(texts)))]
    pictures = {"image_urls": [], "image_reference_descriptions": [], "image_section_indices": []}
    return {"title": title, "section_titles": heads, "section_texts": list(texts), **pictures}


def wikipedia(path: Path) -> Path:
    articles: dict[str, Any] = {
        OAK: {**article("Invented Oak", "A tree of Veldoria.", "It grows 20 metres tall."), "url": OAK},
        "https://en.wikipedia.org/wiki/Empty": article("Empty", " "),
        "https://en.wikipedia.org/wiki/Odd": ["no article"],
        "Other_Tree": article('Other "Tree": a title', "Not an oak\n---\nbut a tree."),
    }
    return write_json(path, articles)


def test_articles_by_address_become_pages_that_an_index_finds(tmp_path: Path) -> None:
    report = write_pages(wikipedia(tmp_path / "wiki_100_dict_v4.json"), tmp_path / "pages")
    assert (report.rows, report.loaded) == (4, 2)
    assert report.dropped == {"no text": 1, "row that cannot be read": 1}
    index = Index.build(tmp_path / "pages", tmp_path / "index")
    hits = index.search_text("how tall does the invented oak grow", 3)
    assert (hits[0].url, hits[0].title) == (OAK, "Invented Oak") and "20 metres" in hits[0].snippet
    other = index.search_text("other tree", 1)[0]
    assert other.url == "https://en.wikipedia.org/wiki/Other_%22Tree%22%3A_a_title"
    with pytest.raises(UserError, match="is there already"):
        write_pages(tmp_path / "wiki_100_dict_v4.json", tmp_path / "pages")


@pytest.mark.parametrize("packed", [False, True])
def test_one_article_a_line(tmp_path: Path, packed: bool) -> None:
    rows = [
        {"wikidata_id": f"Q{n}", "wikipedia_title": f"Place {n}", "wikipedia_content": f"It is number {n}."}
        for n in range(3)
    ]
    path = write_lines(tmp_path / "Wiki6M_ver_1_0.jsonl", rows)
    path.write_text("{broken\n" + path.read_text() + "[1]\n")
    if packed:
        content = path.read_bytes()
        path = tmp_path / "Wiki6M_ver_1_0.jsonl.gz"
        path.write_bytes(gzip.compress(content))
    report = write_pages(path, tmp_path / "pages", limit=4)
    assert (report.rows, report.loaded, dict(report.dropped)) == (4, 3, {"row that cannot be read": 1})
    texts = [page.read_text() for page in sorted((tmp_path / "pages").rglob("*.md"))]
    assert sum("It is number" in text for text in texts) == 3


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
def test_an_object_is_read_as_it_comes(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_PIECE", piece)
    articles = {f"https://x.example/{n}": article(f"Title {n} é", "text {" * n, 'a "quote" \\ ') for n in range(20)}
    path = tmp_path / "kb.json"
    path.write_text(json.dumps(articles, indent=1, ensure_ascii=False), encoding="utf-8")
    assert dict(read_articles(path)) == articles
    assert dict(read_articles(write_json(tmp_path / "none.json", {}))) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1, 2]", "cannot be read as one JSON object of articles: '[1, 2]' stands where { should"),
        ('{"a": {"title": "x"}', "the end of the file stands where , should"),
        ('{"a": {"title": "x', "Unterminated string"),
        ('{"a" 1}', "stands where : should"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ("", "the end of the file stands where { should"),
    ],
)
def test_a_file_of_another_form_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "kb.json").write_text(text)
    with pytest.raises(UserError, match=told.replace("[", r"\[").replace("{", r"\{")):
        list(read_articles(tmp_path / "kb.json"))


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "kb.zip").write_bytes(b"")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-20])
    for name, told in (("kb.zip", "unpack archives first"), ("no.json", "There is no file"), ("cut.jsonl.gz", "end")):
        with pytest.raises(UserError, match=told):
            list(read_articles(tmp_path / name))


def test_front_matter_is_the_pages_own() -> None:
    page = extract("x.md", b"---\ntitle: A tree\nurl: https://x.example/tree\n---\n# Heading\n\nText.\n")
    assert (page.title, page.url, page.text) == ("A tree", "https://x.example/tree", "Heading\n\nText.")
    plain = extract("x.md", b"---\nno front matter\n\nText.\n")
    assert plain.url is None and "no front matter" in plain.text
    assert extract("x.md", b"---\nurl: javascript:alert(1)\n---\nText.\n").url is None


def test_from_the_command_line_and_with_its_questions(tmp_path: Path) -> None:
    wikipedia(tmp_path / "kb.json")
    said = done("data", "corpus", tmp_path / "kb.json", tmp_path / "pages", "--limit", "1")
    assert "Wrote 1 pages" in said and "deepmmsearch index build" in said
    # the questions that go with the 100,000 articles, in the form of Encyclopedic-VQA
    header = "question,answer,dataset_image_ids,dataset_name,question_type,wikipedia_url,wikipedia_title\n"
    (tmp_path / "seek").mkdir()
    (tmp_path / "seek/infoseek_test_filtered.csv").write_text(
        f"{header}How tall is it?,20 metres|66 feet,oven_04990048,infoseek,infoseek,{OAK},Invented Oak\n"
    )
    write_picture(tmp_path / "seek/oven_images/04/oven_04990048.jpg")
    (question,) = BENCHMARKS.find("infoseek").open(tmp_path / "seek", split="test")
    assert (question.id, question.answers) == ("infoseek-000000", ("20 metres", "66 feet"))
    assert question.metadata["wikipedia_url"] == OAK and question.image is not None
