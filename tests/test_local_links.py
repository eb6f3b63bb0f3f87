"""Links of pages in an index: kept with the page, followed by `visit` into other pages of it, and nowhere else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("lxml")
pytest.importorskip("tantivy")

from deepmmsearch.actions.visit import Visit
from deepmmsearch.agent import Toolbox
from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.engine.linked_pages import MOST, MOST_CHARACTERS, links_of_page
from deepmmsearch.prompts import load_prompt
from deepmmsearch.tools.index_tools import LocalReader, LocalTextSearch
from deepmmsearch.types import Completion, Limits, Link, Observation, Question, TextSearch, Trajectory, Turn

TEXT = "<p>The harbour of Oru lies on the coast, and its ferries sail every day of the year.</p>"
SITE = {
    "manual/index.html": f"<title>Manual</title><nav><a href='/'>Home page</a></nav><h1>Manual</h1>{TEXT}<ul>"
    "<li><a href='parts/ferry.html#fares'>Fares of the ferry</a></li><li><a href='parts/'>All the parts</a></li>"
    "<li><a href='/manual/crane'>The great crane</a></li><li><a href='missing.html'>A page that is gone</a></li>"
    "<li><a href='../../../etc/passwd'>Outside of it</a></li><li><a href='javascript:alert(1)'>A script</a></li>"
    "<li><a href='https://oru.example/tides'>Tides by the hour</a></li><li><a href='plan.png'>A plan</a></li>"
    "<li><a href='https://other.example/'>Another site</a></li><li><a href='../notes/day%20one.md'>Notes</a></li></ul>",
    "manual/parts/ferry.html": f"<title>Ferry</title><h1>Ferry</h1>{TEXT}<p><a href='../index.html'>The manual</a></p>",
    "manual/parts/index.html": f"<title>Parts</title><h1>Parts</h1>{TEXT}",
    "manual/crane.html": f"<title>Crane</title><h1>Crane</h1>{TEXT}",
    "tides.html": f"<title>Tides</title><link rel=canonical href='https://oru.example/tides'>{TEXT}"
    "<p><a href='/fog'>Fog at sea</a></p>",
    "fog.htm": f"<title>Fog</title><link rel=canonical href='https://oru.example/fog'>{TEXT}",
    "notes/day one.md": "# Day one\n\nSee [the *manual*](../manual/index.html), [[day two|the next day]],"
    " [x](mailto:a@b) and [here](#day-one).",
    "notes/day two.md": "# Day two\n\n[Tides][1] of the day.\n\n[1]: https://me:secret@oru.example/tides\n",
}


def site(folder: Path) -> Path:
    for name, text in SITE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.build(site(tmp_path_factory.mktemp("site")), tmp_path_factory.mktemp("links") / "index")


def test_links_lead_to_pages_of_the_index_by_the_addresses_it_reads(index: Index) -> None:
    assert index.read("manual/index.html").links == (
        Link("Fares of the ferry", "manual/parts/ferry.html"),
        Link("All the parts", "manual/parts/index.html"),
        Link("The great crane", "manual/crane.html"),
        Link("Tides by the hour", "https://oru.example/tides"),
        Link("Notes", "notes/day%20one.md"),
    )
    assert all(index.read(link.url).text for link in index.read("manual/index.html").links)
    assert index.read("notes/day one.md").links == (
        Link("the manual", "manual/index.html"),
        Link("the next day", "notes/day%20two.md"),
    )
    assert index.read("notes/day%20two.md").links == (Link("Tides", "https://oru.example/tides"),)
    # relative to where the page says that it is from
    assert index.read("tides.html").links == (Link("Fog at sea", "https://oru.example/fog"),)


def test_visit_follows_a_link_by_its_number(index: Index) -> None:
    tools = Toolbox(LocalTextSearch(index), reader=LocalReader(index), extra=(Visit(),))
    start = Trajectory(Question("q", "Where are the fares?"), load_prompt("deepmmsearch-r1"))
    hits = tuple(hit for hit in index.search_text("manual") if hit.url == "manual/index.html")
    trajectory = start.then(Turn(Completion("x"), TextSearch("manual"), Observation("", hits=hits)), Limits())

    def opened(content: str) -> Observation:
        nonlocal trajectory
        action = Visit().read(content)
        seen = asyncio.run(tools.execute(action, trajectory))
        trajectory = trajectory.then(Turn(Completion("y"), action, seen), Limits())
        return seen

    assert "[2] link: Fares of the ferry" in opened('{"hit": 1}').text.splitlines()
    ferry = opened('{"link": 2}')
    assert ferry.error is None and ferry.hits[0].url == "manual/parts/ferry.html"
    assert opened('{"link": 2}').hits[0].title == "Manual"
    refused = opened('{"url": "https://other.example/"}')
    assert refused.error is not None and "is not opened" in refused.error


def test_links_go_with_their_page_and_change_with_it(tmp_path: Path) -> None:
    folder = site(tmp_path / "site")
    index = Index.build(folder, tmp_path / "index")
    (folder / "manual/index.html").write_text(
        f"<title>M</title>{TEXT}<p>It has <a href='crane.html'>The crane</a> now.</p>"
    )
    index.update()
    assert index.read("manual/index.html").links == (Link("The crane", "manual/crane.html"),)
    index.remove(["manual/crane.html"])
    assert index.read("manual/index.html").links == ()
    index.remove(["manual/index.html"])
    assert links_of_page(index.store.snapshot(), "manual/index.html", "") == ()


def test_links_are_bounded_and_an_index_with_titles_apart_keeps_none(tmp_path: Path) -> None:
    folder = site(tmp_path / "site")
    many = "".join(f"<li>{'Of it. ' * 9}<a href='{'x' * 900}{n}.html'>Number {n}</a></li>" for n in range(MOST + 50))
    (folder / "many.html").write_text(f"<title>Many</title>{TEXT}<ul>{many}</ul>")
    index = Index.build(folder, tmp_path / "index")
    (record,) = [r for r in index.store.snapshot().find("file", "many.html") if r.kind == "links"]
    kept = record.content["links"]
    assert 0 < len(kept) < MOST and sum(len(text) + len(target) for text, target in kept) <= MOST_CHARACTERS
    apart = Index.build(folder, tmp_path / "apart", IndexSettings(titles="apart"))
    assert apart.read("manual/index.html").links == () and not list(apart.store.snapshot().find("kind", "links"))
