"""What a query may hold beside words; typing errors; what is shown of a hit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.commands import done

from deepmmsearch.engine import Index
from deepmmsearch.engine.corrections import Spellings, apart
from deepmmsearch.engine.query_language import ParsedQuery, parsed

PAGES = {
    "a.md": "# Old mill\n\nThe old mill was built by two brothers. Its mountains are high.",
    "notes/b.md": "# Mill pond\n\nThe mill by the old pond has water. The Who played there.",
    "notes/deep/c.txt": "A mill, and nothing old.",
    "d.html": '<link rel="canonical" href="https://en.example.org/m"><title>Mills</title><p>Water mills: old.</p>',
    "zh.md": "# 山麓图书馆\n\n山麓图书馆由陈立新设计。",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("query")
    for name, text in PAGES.items():
        path = folder / "pages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return Index.build(folder / "pages", folder / "index")


def _found(index: Index, query: str) -> set[str]:
    return {hit.url for hit in index.search_text(query, 10)}


SITE = "https://en.example.org/m"


@pytest.mark.parametrize(
    ("query", "pages"),
    [
        ('"old mill"', {"a.md"}),
        ("“old mill”", {"a.md"}),
        ('"Old Mill" brothers', {"a.md"}),
        ('"mills old"', {SITE}),
        ('"the who"', {"notes/b.md"}),
        ('"图书馆由"', {"zh.md"}),
        ("mill -water", {"a.md", "notes/deep/c.txt"}),
        ("mill -brothers -pond -nothing", {SITE}),
        ('mill -"old pond" -nothing', {"a.md", SITE}),
        ("mill site:example.org", {SITE}),
        ("mill site:en.example.org", {SITE}),
        ("mill site:other.org", set()),
        ("mill -site:example.org -nothing", {"a.md", "notes/b.md"}),
        ("mill folder:notes", {"notes/b.md", "notes/deep/c.txt"}),
        ("mill folder:notes/deep/", {"notes/deep/c.txt"}),
        ("mill filetype:html", {SITE}),
        ("filetype:txt", {"notes/deep/c.txt"}),
        ("mill filetype:.TXT", {"notes/deep/c.txt"}),
        ("-brothers", {"a.md"}),
    ],
)
def test_operators(index: Index, query: str, pages: set[str]) -> None:
    assert _found(index, query) == pages


@pytest.mark.parametrize(
    "query",
    [
        "site:",
        "site: mill",
        "before:soon",
        "filetype:",
        '"',
        '""',
        '"unclosed mill',
        "--old",
        "-5",
        "a - b",
        "x -y",
        "x:y",
    ],
)
def test_what_does_not_fit_an_operator_is_words(query: str) -> None:
    assert parsed(query) == ParsedQuery(query)


def test_prose_that_quotes_words_is_words() -> None:
    question = 'Which of the papers treat systems in which "what you see is what you get" -also others'
    assert parsed(question) == ParsedQuery(question)


def test_dates() -> None:
    asked = parsed("mill after:2019 before:2021-06")
    assert (asked.words, asked.after, asked.before) == ("mill", 20190101, 20210601)


def test_pages_are_found_by_their_date(index: Index, tmp_path: Path) -> None:
    from deepmmsearch.engine.storage import Store
    from deepmmsearch.engine.text_ranking import search
    from deepmmsearch.engine.writer import NewPassage, Writer

    store = Store.create(tmp_path / "index", {"root": str(tmp_path)})
    with Writer(store) as writer:
        for file, date in (("old", "2018-03-01"), ("new", "2021-05-31"), ("none", None)):
            writer.add_page(file, file, "Mill", [NewPassage("a mill")], date=date)
        writer.commit()

    def found(query: str) -> set[str]:
        return {passage.url for passage in search(store.snapshot(), query, 5)}

    assert found("mill after:2019") == {"new"} and found("mill before:2018-03-02") == {"old"}
    assert found("mill after:2018-03-01 before:2021-05-31") == {"old"} and found("mill") == {"old", "new", "none"}


@given(st.text(max_size=60))
def test_any_text_is_a_query(text: str) -> None:
    asked = parsed(text)
    assert asked.filters or asked.words.split() == text.split()


@pytest.mark.parametrize(
    ("typed", "meant", "page"),
    [
        ("broters", "brothers", "a.md"),
        ("mountian", "mountains", "a.md"),
        ("montains", "mountains", "a.md"),
        ("rothers", "brothers", "a.md"),
    ],
)
def test_a_word_that_no_page_has_is_taken_for_one_that_is_nearly_the_same(
    index: Index, typed: str, meant: str, page: str
) -> None:
    assert index.replaced(typed) == {typed: meant}
    assert index.search_text(typed, 1)[0].url == page


@pytest.mark.parametrize("query", ["mill", "mil", "RTX5090", "2019", "zzzzzzzz", "図書館", "brothers"])
def test_other_words_are_left_as_they_are(index: Index, query: str) -> None:
    assert index.replaced(query) == {}


@pytest.mark.parametrize(
    ("one", "other", "most", "distance"),
    [
        ("same", "same", 1, 0),
        ("mlil", "mill", 1, 1),
        ("mil", "mill", 1, 1),
        ("pond", "bonb", 1, None),
        ("pond", "bonb", 2, 2),
        ("abcdefgh", "xy", 2, None),
    ],
)
def test_letters_apart(one: str, other: str, most: int, distance: int | None) -> None:
    assert apart(one, other, most) == apart(other, one, most) == distance


@given(
    st.lists(st.text("abcdeé字", max_size=12), max_size=30),
    st.text("abcdeé字", min_size=1, max_size=12),
    st.integers(1, 2),
)
def test_no_near_word_is_overlooked(words: list[str], typed: str, wrong: int) -> None:
    near = {word for word in words if apart(typed, word, wrong) is not None}
    assert near <= set(Spellings(words).alike(typed, wrong))


def test_few_words_are_compared_letter_by_letter() -> None:
    words = [f"{a}{b}{c}{d}ing" for a in "bdfgk" for b in "aeiou" for c in "lmnprst" for d in "dgkt"]
    assert len(Spellings([*words, "x" * 70_000]).alike("dalding", 1)) < 0.15 * len(words)


def test_further_pages_of_hits_go_on_where_the_last_one_ended(index: Index) -> None:
    every = index.search_text("mill", 4)
    assert len(every) == 4 and index.search_text("mill", 2) + index.search_text("mill", 2, offset=2) == every
    assert index.search_text("mill", 2, offset=40) == []


def test_the_words_that_were_found_are_marked(index: Index) -> None:
    text = "Two old mills: the brother's, and 山麓图书馆。"
    marked = [text[start:end] for start, end in index.matched("old mill brothers 图书馆", text)]
    assert marked == ["old", "mills", "brother's", "图书馆"]


def test_the_command_says_what_it_searched_for(index: Index) -> None:
    folder = str(index.store.folder)
    said = done("index", "search", "broters", "--index", folder)
    assert "Searched for brothers instead of broters" in said and "Old mill" in said and "\x1b" not in said
    rows = done("index", "search", "mill", "-k", "2", "--page", "2", "--json", "--index", folder).splitlines()
    assert [json.loads(row)["url"] for row in rows] == [hit.url for hit in index.search_text("mill", 2, offset=2)]
