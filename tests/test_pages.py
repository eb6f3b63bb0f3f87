"""The pages of episodes: complete, escaped, and without anything from outside."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepmmsearch.prompts import load_prompt
from deepmmsearch.show.gallery import render_episodes
from deepmmsearch.show.page import is_web_address, render_page
from deepmmsearch.show.tabulate import Table, markdown_table
from deepmmsearch.types import (
    Answer,
    Box,
    Cited,
    Completion,
    Exchange,
    Grounding,
    Hit,
    ImageSearch,
    Malformed,
    Observation,
    Question,
    TextSearch,
    Trajectory,
    Turn,
    Use,
)
from html_pages import HOSTILE, Page

PLAIN = "plain"


def trajectory(text: str = PLAIN, url: str = "https://gallery.example/balor", answer: str | None = None) -> Trajectory:
    """Every kind of action and observation, with `text` wherever somebody else writes."""
    scene, crop = Image.new("RGB", (672, 448), "blue"), Image.new("RGB", (100, 60), "red")
    hits = (Hit(text, url, text, 1.5, crop, True), Hit(text, text, text, 0.5))
    cited = (Cited(text, (2,)),)
    grounded = Observation(text, (), hits, None, Grounding(text, Box(67.2, 44.8, 336, 224)), crop, sentences=cited)
    fallen = Observation(text, error=text, grounding=Grounding(text, None, text))
    turns = (
        Turn(Completion(f"<reason>{text}</reason><img_search>x</img_search>"), ImageSearch(text), grounded),
        Turn(Completion(f"<reason>{text}</reason>"), TextSearch(text), fallen),
        Turn(Completion(f"<reason>{text}</reason>"), Use(text, {text: text}), Observation(text, (crop,))),
        Turn(Completion(f"{text}<reason>{text}</reason>"), Malformed(text), Observation(text)),
        Turn(Completion(f"<reason>{text}</reason>"), Answer(text if answer is None else answer)),
    )
    history = (Exchange(text, text),)
    metadata = {"kind": text, "rag_query": text}
    question = Question("q1", text, (scene,), (f"{text} Balor",), metadata, history)
    return Trajectory(question, load_prompt("atlas"), (Observation(text),), turns, stop="answer")


def page(text: str, url: str = "https://gallery.example/balor") -> str:
    rows = [trajectory(text, url, "Tanmir"), trajectory(text, url).failed(text)]
    tables = [Table(["kind", text], [[text, "1"], ["all", text]], text)]
    return render_episodes(text, text, tables, rows, {text: [trajectory(text, url)]})


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_becomes_an_element_or_an_attribute(hostile: str) -> None:
    found = Page(page(hostile))
    assert found.elements == Page(page(PLAIN)).elements
    assert re.sub(r"\s|\0|\u202e", "", hostile) in re.sub(r"\s|\0", "", found.text)
    assert "\u202e" not in found.text


@settings(max_examples=50)
@given(st.text())
def test_any_text_is_text(text: str) -> None:
    # Nothing is shown where nothing was said, so every text is one.
    said = f"said {text}"
    assert Page(page(said)).elements == Page(page(PLAIN)).elements


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        ("https://example.org/a?b=c&d=\"e'f<g>", True),
        ("HTTP://example.org", True),
        ("javascript:alert(1)", False),
        (" javascript:alert(1)", False),
        ("data:text/html,<script>alert(1)</script>", False),
        ("//example.org/a", False),
        ("https:///nowhere", False),
        ("https://[broken", False),
        ("file:///etc/passwd", False),
        ("", False),
    ],
)
def test_only_addresses_of_the_web_are_links(url: str, linked: bool) -> None:
    assert is_web_address(url) is linked
    found = Page(page(PLAIN, url))
    assert set(found.values("href")) == ({url} if linked else set())
    assert url.strip() in found.text


def test_nothing_comes_from_outside() -> None:
    html = page("Balor")
    found = Page(html)
    assert {tag for tag, _ in found.elements}.isdisjoint({"script", "iframe", "link", "object", "form", "base"})
    assert all(address.startswith("data:image/jpeg;base64,") for address in found.values("src", "srcset", "action"))
    assert not found.values("style") and "url(" not in html and "@import" not in html
    (policy,) = [value for value in found.values("content") if "default-src" in value]
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'")


def test_says_what_was_searched_found_and_answered() -> None:
    rows = [trajectory("Balor", answer="Balor Balor")]
    html = render_episodes("Title", "lead", [], rows, {"directly": [trajectory("Balor", answer="Tanmir")]})
    text = Page(html).text
    for piece in ("image search", "text search", "answer", "no action", "https://gallery.example/balor", "Tanmir"):
        assert piece in text
    assert "score 1.50 · match" in text and "score 0.50 · cited" in text
    assert html.count(">right<") == 2 and html.count(">wrong<") == 1


def test_the_box_is_drawn_where_it_is() -> None:
    found = Page(render_episodes("", "", [], [trajectory()]))
    (box,) = [
        dict(attributes) for tag, attributes in found.elements if tag == "rect" and ("class", "frame") in attributes
    ]
    assert [box[name] for name in ("x", "y", "width", "height")] == ["67.2", "44.8", "268.8", "179.2"]
    assert [dict(a)["viewbox"] for tag, a in found.elements if tag == "svg"] == ["0 0 672 448"]


def test_an_episode_without_an_answer_says_why() -> None:
    broken = trajectory().failed("the endpoint is down")
    assert "No answer: the endpoint is down" in Page(render_episodes("", "", [], [broken])).text


def test_half_a_surrogate_pair_is_a_replacement_character() -> None:
    html = render_episodes("t", "l", [], [trajectory("half \ud800 pair")])
    assert html.encode() and "half \ufffd pair" in html and html.endswith("</html>\n")


def test_markdown_cells_hold_no_markup() -> None:
    lines = markdown_table(Table(["a", "b"], [["x | y", "<b>\nz"], ["\u202egro.evil\x1b[2J", "&#8238;gro \u2067ע"]]))
    assert lines[2] == "| x \\| y | \\<b\\> z |"
    assert lines[3] == "| gro.evil\\[2J | \\&\\#8238;gro ע |"


def test_a_word_without_end_stays_within_the_page() -> None:
    style = re.search(r"<style>(.*?)</style>", render_page("episodes.html", "t", "l", cards=[], tables=[]), re.DOTALL)
    assert style is not None
    rules = dict(re.findall(r"(?m)^([^{}@\n]+?) \{([^}]*)\}", style[1]))
    assert "overflow-wrap: anywhere" in rules["body"] and "overflow-x: auto" in rules[".table"]
    # what stands side by side in the heading of an episode leaves room for the rest
    assert "min-width" in rules[".question"] and "max-width" in rules[".cards .kind"] and "flex: none" in rules[".mark"]
