"""The report page: complete, escaped, and without anything from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepmmsearch.prompts import load_prompt
from deepmmsearch.show.page import Report, answers_by_question, render, write_report
from deepmmsearch.show.table import Table
from deepmmsearch.types import (
    Answer,
    Box,
    Completion,
    Grounding,
    Hit,
    ImageSearch,
    Malformed,
    Observation,
    Question,
    TextSearch,
    Trajectory,
    Turn,
)


def trajectory(text: str = "Whose flag?", url: str = "https://gallery.example/balor") -> Trajectory:
    """Every kind of action and observation, with `text` wherever somebody else writes."""
    scene, crop = Image.new("RGB", (672, 448), "blue"), Image.new("RGB", (100, 60), "red")
    hit = Hit(text, url, text, 1.5, crop, True)
    grounded = Observation(text, hits=(hit,), grounding=Grounding(text, Box(67.2, 44.8, 336, 224)), crop=crop)
    fallen = Observation(text, error=text, grounding=Grounding(text, None, text))
    turns = (
        Turn(Completion(f"<reason>{text}</reason><img_search>x</img_search>"), ImageSearch(text), grounded),
        Turn(Completion(text), TextSearch(text), fallen),
        Turn(Completion(text), Malformed(text), Observation(text)),
        Turn(Completion(f"<reason>{text}</reason>"), Answer(text)),
    )
    question = Question("q1", text, (scene,), ("Balor",), {"kind": text})
    return Trajectory(question, load_prompt("atlas"), turns=turns, stop="answer")


class _Page(HTMLParser):
    """Tags, attributes and text, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def report(text: str) -> Report:
    rows = [trajectory(text)]
    return Report(text, text, [Table(["kind", text], [[text, "1"], ["all", text]], text)], rows, {text: {"q1": text}})


PLAIN = _Page(render(report("plain")))


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from(
            ["<script>", "</pre>", "</details>", "&", "'", '"', " onload=x", "<!--", "-->", "\u202e", "Balor", "]]>"]
        )
    ).map("".join)
    | st.text()
)
def test_no_text_becomes_markup(text: str) -> None:
    page = _Page(render(report(text)))
    # Whether an empty reason or a right answer is shown depends on the text; no other tag may.
    assert set(page.tags) <= set(PLAIN.tags)
    assert [t for t in page.tags if t not in ("p", "bdi", "b")] == [t for t in PLAIN.tags if t not in ("p", "bdi", "b")]
    assert {name for name, _ in page.attributes} <= {name for name, _ in PLAIN.attributes}


def test_nothing_comes_from_outside() -> None:
    html = render(report("Balor"))
    sources = [value or "" for name, value in _Page(html).attributes if name in ("src", "href", "srcset", "action")]
    assert sources and all(s.startswith("data:image/jpeg;base64,") for s in sources)
    assert "default-src 'none'" in html and "url(" not in html and "@import" not in html


def test_says_what_was_searched_found_and_answered() -> None:
    html = render(Report("Title", "lead", [], [trajectory("Balor")], {"directly": {"q1": "Tanmir"}}))
    page = _Page(html)
    for piece in (
        "image search",
        "text search",
        "answer",
        "no action",
        "https://gallery.example/balor",
        "score 1.50",
        "Tanmir",
    ):
        assert piece in page.text
    assert html.count(">right<") == 2 and html.count(">wrong<") == 1


def test_the_box_is_drawn_where_it_is() -> None:
    html = render(Report("", "", [], [trajectory()]))
    assert re.findall(r"<i style='(.*?)'>", html) == ["left:10.00%;top:10.00%;width:40.00%;height:40.00%"]


def test_an_episode_without_an_answer_says_why() -> None:
    broken = trajectory().failed("the endpoint is down")
    assert "the endpoint is down" in _Page(render(Report("", "", [], [broken]))).text


def test_written_whole_even_with_half_a_surrogate_pair(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(Report("t", "l", [], [trajectory("half \ud800 pair")]), path)
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_answers_by_question() -> None:
    assert answers_by_question([trajectory("Balor")]) == {"q1": "Balor"}
