"""An atlas on disk: what its pages say, what its files hold, and that nothing is ever half-written."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from deepmmsearch.atlas import wordings as say
from deepmmsearch.atlas.pages import SITES, WORDING, SitePage, SitePicture, make_pages
from deepmmsearch.atlas.questions import make_questions
from deepmmsearch.atlas.world import World, make_world
from deepmmsearch.atlas.world_files import (
    count_questions,
    holds_atlas,
    load_questions,
    read_questions,
    render_page,
    write_atlas,
)
from deepmmsearch.errors import UserError


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3, "eval", countries=12, famous=2)


@pytest.fixture(scope="module")
def pages(world: World) -> list[SitePage]:
    return make_pages(world)


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atlas") / "world"
    write_atlas(world, folder, make_questions(world, 12))
    return folder


def sentences(pages: list[SitePage], *sites: str) -> set[str]:
    texts = (text for page in pages if page.site in sites for text in page.paragraphs)
    return {s for text in texts for s in re.findall(r"[^.]+\.", text)}


def said(pages: list[SitePage], *sites: str) -> set[str]:
    return {s.strip() for s in sentences(pages, *sites)}


def test_every_told_fact_is_told_and_every_untold_one_is_not(world: World, pages: list[SitePage]) -> None:
    reliable = said(pages, *WORDING)
    for entity in world.entities:
        for relation, value in entity.facts.items():
            forms = {form(relation, entity.name, value) for form in say.FACTS.values()}
            assert bool(forms & reliable) == (relation not in entity.untold)


def test_the_reliable_sites_say_nothing_wrong(world: World, pages: list[SitePage]) -> None:
    true = {f(r, e.name, v) for e in world.entities for r, v in e.facts.items() for f in say.FACTS.values()}
    facts = {
        s for s in said(pages, *WORDING) if re.search(r" (is the|has the) |^The \w+ of \w+ is \w+( metres)?\.$", s)
    }
    assert facts and facts <= true


def test_each_wording_has_its_site_and_is_about_as_common(pages: list[SitePage]) -> None:
    counts = Counter({site: len(said(pages, site)) for site in WORDING})
    assert all("has the" not in s for s in said(pages, "encyclopedia", "travel"))
    assert max(counts.values()) < 1.6 * min(counts.values())


def test_stale_and_gossip_pages_are_always_wrong(world: World, pages: list[SitePage]) -> None:
    doubtful = said(pages, "old-almanac", "chatter")
    assert doubtful
    for entity in world.entities:
        for relation, value in entity.facts.items():
            assert not {form(relation, entity.name, value) for form in say.DOUBTFUL.values()} & doubtful


def test_an_untold_currency_is_told_in_one_trade_report_and_referred_to(world: World, pages: list[SitePage]) -> None:
    untold = [c for c in world.of("country") if c.untold]
    assert untold
    for country in untold:
        sentence = say.economy(country.name, country.facts["currency"])
        assert [p.site for p in pages if any(sentence in text for text in p.paragraphs)] == ["trade"]
        assert say.see_economy(country.name) in said(pages, "encyclopedia")


def test_every_flag_has_two_pictures_with_its_name(world: World, pages: list[SitePage]) -> None:
    shown = Counter(name for p in pages if p.picture for name in p.picture.alt.split())
    assert all(shown[country.name] == 2 for country in world.of("country"))


def test_addresses_and_files_are_unique(pages: list[SitePage]) -> None:
    assert len({p.url for p in pages}) == len(pages)
    files = [(p.site, p.picture.file) for p in pages if p.picture]
    assert len(set(files)) == len(files)
    assert {p.site for p in pages} == set(SITES)


def test_same_seed_same_files(world: World, folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "world"
    write_atlas(make_world(3, "eval", countries=12, famous=2), again, make_questions(world, 12))
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert all((folder / n).read_bytes() == (again / n).read_bytes() for n in names)


def test_questions_come_back(world: World, folder: Path) -> None:
    made, loaded = make_questions(world, 12), load_questions(folder)
    assert count_questions(folder) == 12
    for a, b in zip(made, loaded, strict=True):
        assert (a.id, a.text, a.answers, dict(a.metadata)) == (b.id, b.text, b.answers, dict(b.metadata))
        assert a.image is not None and b.image is not None and a.image.size == b.image.size


def test_questions_are_read_one_at_a_time(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "questions.jsonl").read_text().splitlines()
    (tmp_path / "questions.jsonl").write_text(f"{lines[0]}\nnonsense\n")
    shutil.copytree(folder / "images", tmp_path / "images")
    rows = read_questions(tmp_path)
    assert next(rows).id.endswith("00000")
    with pytest.raises(UserError, match="line 2"):
        next(rows)


def test_sites_hold_nothing_of_the_questions(folder: Path) -> None:
    inside = {p.suffix for p in (folder / "sites").rglob("*") if p.is_file()}
    assert inside == {".html", ".png", ".jpg"}
    assert not any("?" in p.read_text().split("<main>")[1] for p in (folder / "sites").rglob("*.html"))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_pages_show_pictures_that_exist(folder: Path) -> None:
    shown = 0
    for path in (folder / "sites").rglob("*.html"):
        tags = _Tags()
        tags.feed(path.read_text(encoding="utf-8"))
        for tag, attributes in tags.found:
            if tag == "img":
                assert attributes["alt"] and (path.parent / str(attributes["src"])).is_file()
                shown += 1
            if tag == "a":
                assert (path.parent / str(attributes["href"])).is_file()
    assert shown > 20


def test_pages_are_escaped() -> None:
    hostile = '<script>alert(1)</script> & "quotes"'
    page = SitePage("chatter", "x", hostile, (hostile, hostile), SitePicture('a"b.png', hostile, lambda: None))  # type: ignore[arg-type,return-value]
    html = render_page(page, page, page)
    assert "<script" not in html and html.count("&lt;script&gt;") == 7 and 'src="a&quot;b.png"' in html


def test_a_folder_of_something_else_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UserError, match="not an atlas"):
            holds_atlas(place, world, 1)
        with pytest.raises(UserError, match="is not empty"):
            write_atlas(world, place)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing(world: World, tmp_path: Path) -> None:
    target = tmp_path / "world"

    def failing():  # type: ignore[no-untyped-def]
        yield from make_questions(world, 2)
        raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError):
        write_atlas(world, target, failing())
    assert list(tmp_path.iterdir()) == []
    write_atlas(world, target, make_questions(world, 2))
    assert [p.name for p in tmp_path.iterdir()] == ["world"] and count_questions(target) == 2


def test_an_atlas_that_is_there_stays(world: World, tmp_path: Path) -> None:
    target = tmp_path / "world"
    assert not holds_atlas(target, world, 1)
    write_atlas(world, target, make_questions(world, 1))
    assert holds_atlas(target, world, 1)
    with pytest.raises(UserError, match="is not empty"):
        write_atlas(world, target, make_questions(world, 2))
    with pytest.raises(UserError, match=r"is another atlas \(questions: 1 -> 2; search_share: null -> 0.5\)"):
        holds_atlas(target, world, 2, 0.5)
    assert count_questions(target) == 1
