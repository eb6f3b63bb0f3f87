"""A page's title is what it says, without the name of its site, where that can be told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("tantivy")

from deepmmsearch.engine import Index, site_names
from deepmmsearch.engine.site_names import SiteNames
from deepmmsearch.reading.document import Document
from deepmmsearch.reading.file_kinds import extract
from deepmmsearch.reading.page_title import without_name

SITE = '<meta property="og:site_name" content="Encyclopedia of X">'
JSON_LD = (
    '<script type="application/ld+json">{"@type": "Article", "publisher": {"@type": "Organization", "name": "The Oru '
    'Times"}, "author": {"@type": "Person", "name": "Rust"}}</script>'
)


def title(named: str, head: str = "", h1: str = "") -> str:
    page = f"<title>{named}</title>{head}<body><h1>{h1}</h1><p>Oru is a town on the river of Veld.</p>"
    return extract("page.html", page.encode()).title


@pytest.mark.parametrize(
    ("named", "head", "h1", "kept"),
    [
        ("Paris - Encyclopedia of X", SITE, "", "Paris"),
        ("Paris | Places — Encyclopedia of X", SITE, "", "Paris | Places"),
        ("Encyclopedia of X: Paris", SITE, "Paris", "Paris"),
        ("Paris - Encyclopedia of X - Encyclopedia of X", SITE, "", "Paris"),
        ("Harbours open · Oru Times", JSON_LD, "", "Harbours open"),
        ("Paris - Wikipedia", '<link rel=canonical href="https://en.wikipedia.org/wiki/Paris">', "", "Paris"),
        ("Paris - Wikipedia, the free one", '<link rel=canonical href="https://en.wikipedia.org/x">', "Paris", "Paris"),
        ("巴黎 - 百科", '<meta property="og:site_name" content="百科">', "", "巴黎"),
    ],
)
def test_a_title_loses_its_sites_name(named: str, head: str, h1: str, kept: str) -> None:
    assert title(named, head, h1) == kept


@pytest.mark.parametrize(
    ("named", "head", "h1"),
    [
        ("Spider-Man - A History", SITE, "Spider-Man"),  # nobody calls that a site
        ("Rust - a language", JSON_LD, "Rust"),  # nor its author
        ("Encyclopedia of X", SITE, ""),
        ("Encyclopedia of X: all that is known", SITE, "Welcome"),  # its first page
        ("Home - Encyclopedia of X", SITE, "Home"),
        ("1984 | Encyclopedia of X", SITE, ""),
        ("X - Encyclopedia of X", SITE, ""),
    ],
)
def test_other_titles_stay_whole(named: str, head: str, h1: str) -> None:
    assert title(named, head, h1) == named


def test_what_was_taken_off_is_told() -> None:
    assert without_name("Paris - The X", {"x"}) == ("Paris", "The X")


def site(folder: Path, titles: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, named in enumerate(titles):
        body = "<p>A town on a river, with its harbour and market.</p>"
        (folder / f"{number}.html").write_text(f"<title>{named}</title>{body}")
    return folder


def titles_of(index: Index) -> set[str]:
    return {hit.title for hit in index.search_text("harbour", k=50)}


TOWNS = ["Paris", "Oru &amp; Moru", "Tamm-am-See", "Veld", "Spider - Man", "Lund"]


def test_what_the_pages_of_a_folder_share_is_no_title(tmp_path: Path) -> None:
    root = site(tmp_path / "site", [f"{town} - The Other Guide" for town in TOWNS]).parent
    site(root / "mixed", ["Bread - A History", "Salt - A Life", "Ice - A History", "Sea - Two Lives", "Air | Four"])
    index = Index.build(root, tmp_path / "index")
    expected = {"Paris", "Oru & Moru", "Tamm-am-See", "Veld", "Spider - Man", "Lund"}
    mixed = {"Bread - A History", "Salt - A Life", "Ice - A History", "Sea - Two Lives", "Air | Four"}
    assert titles_of(index) == expected | mixed
    assert index.search_text("other guide paris", k=1)[0].title == "Paris"  # its words are still found
    # a page that comes later is called as those that were there
    (root / "site" / "new.html").write_text("<title>Rome - The Other Guide</title><p>A harbour.</p>")
    index.add([root / "site" / "new.html"])
    assert "Rome" in titles_of(index)


def test_pages_in_folders_of_their_own_share_the_name_of_the_site_too(tmp_path: Path) -> None:
    for number, town in enumerate(TOWNS):
        site(tmp_path / "site" / str(number), [f"The Other Guide | {town}"])
    assert "Paris" in titles_of(Index.build(tmp_path / "site", tmp_path / "index"))


@pytest.mark.parametrize(
    "titles",
    [
        [f"Chapter {n} - The Sea" for n in range(9)],
        [f"{1990 + n} - Report" for n in range(9)],
        [f"{town} - Guide" for town in TOWNS[:4]],
        [f"{town} - Guide" for town in TOWNS] + [f"Town {chr(65 + n) * 3}" for n in range(9)],
    ],
    ids=["numbered", "numbers", "few", "less than half"],
)
def test_what_tells_no_site_stays(tmp_path: Path, titles: list[str]) -> None:
    names, folder = SiteNames(tmp_path), site(tmp_path / "pages", titles)
    assert names.of_file(folder / "0.html", Document(titles[0], "")).title == titles[0]


def test_only_files_of_the_folder_are_looked_at(tmp_path: Path) -> None:
    outside = site(tmp_path / "outside", [f"{town} - Guide" for town in TOWNS])
    root = tmp_path / "root"
    root.mkdir()
    for number in range(6):
        (root / f"{number}.html").symlink_to(outside / f"{number}.html")
    os.mkfifo(root / "pipe.html")
    names = SiteNames(root)
    assert names.of_file(root / "0.html", Document("Paris - Guide", "")).title == "Paris - Guide"
    assert names.of_file(outside / "0.html", Document("Paris - Guide", "")).title == "Paris - Guide"


def test_pages_of_an_archive_lose_what_those_before_them_shared(tmp_path: Path) -> None:
    names = SiteNames(tmp_path)
    found = [names.of_entry("a.warc", "https://g.example/1", Document(f"{town} - Guide", "")).title for town in TOWNS]
    assert found[:4] == [f"{town} - Guide" for town in TOWNS[:4]] and found[4:] == TOWNS[4:]
    assert names.of_entry("a.warc", "https://[", Document("Paris", "")).title == "Paris"


def test_of_an_endless_archive_little_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_names, "_MOST_TITLES", 100)
    names = SiteNames(tmp_path)
    for number in range(1_000):
        names.of_entry("a.warc", f"https://{number}.example/", Document(f"Page {number} - Guide", ""))
    assert sum(map(len, names._titles.values())) <= 102


def test_a_hostile_title_takes_no_time() -> None:
    for unit in ("- ", " - a", "|", ": a"):
        for count in (100, 100_000):
            assert without_name(unit * count, {"x"})
