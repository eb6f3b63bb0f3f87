"""AsciiDoc, Org and SVG: headings, code, tables and pictures as their readers find them, and nothing run or fetched."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

pytest.importorskip("lxml")

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.file_kinds import extract

ADOC = """\
= Oru Manual
Jane Doe <jane@example.org>
:revdate: 2023-04-05
:product: Harbour

The {product} has *two* quays and `__init__`, wrapped by an editor somewhere in the
middle of the paragraph, as people do it in every one of their files.

== Install on `Linux`

[source,bash]
----
$ run Vec<u8>
== no heading
----

.Steps
* First
  of all
* Second https://x.example/y[step]

CPU:: The processor.
Disk::
 A place.

|===
|Port |Depth

|Hale |7 m
|Oru |9 m
|===

////
A comment.
////
image::img/a.png[The harbour, width=300]
include::/etc/passwd[]
See <<install,the chapter>>.
"""

ORG = """\
#+TITLE: Oru Notes
#+DATE: <2022-03-04 Fri>
* TODO [#A] Install :work:linux:
:PROPERTIES:
:ID: abc
:END:
Some /italic/ words with [[https://x.example][a link]] and =__init__=, wrapped by an editor in the
middle of the paragraph, as people do it in every one of their files.
** Code
#+BEGIN_SRC python
def go(self):  # a * b
    * no heading
#+END_SRC
- First
  of all
- [X] Second
| Port | Depth |
|------+-------|
| Hale | 7 m   |
#+CAPTION: The harbour
[[file:img/a.png]]
# A comment.
#+INCLUDE: "/etc/passwd"
"""


def test_asciidoc_is_read_as_it_is_meant() -> None:
    document = extract("a.adoc", ADOC.encode())
    lines = document.text.splitlines()
    assert (document.title, document.date) == ("Oru Manual", "2023-04-05")
    assert [link.url for link in document.links] == ["https://x.example/y"]
    assert document.headings == (("Oru Manual", 1), ("Install on Linux", 2))
    assert "The Harbour has two quays and __init__, wrapped by an editor somewhere in the middle of the" in lines[4]
    kept = ["$ run Vec<u8>", "== no heading", "Steps", "First of all", "Second step", "CPU: The processor."]
    kept += ["Disk: A place.", "Port: Hale | Depth: 7 m", "Port: Oru | Depth: 9 m", "See the chapter."]
    assert [line for line in lines if line in kept] == kept
    assert not any("comment" in line or "passwd" in line or "revdate" in line for line in lines)
    assert [(shown.src, shown.title) for shown in document.pictures] == [("img/a.png", "The harbour")]


def test_org_is_read_as_it_is_meant() -> None:
    document = extract("a.org", ORG.encode())
    lines = document.text.splitlines()
    assert (document.title, document.date, document.headings) == (
        "Oru Notes",
        "2022-03-04",
        (("Install", 1), ("Code", 2)),
    )
    assert "Some italic words with a link and __init__, wrapped by an editor in the middle of" in document.text
    assert [(link.text, link.url) for link in document.links] == [("a link", "https://x.example")]
    kept = ["def go(self):  # a * b", "    * no heading", "First of all", "Second", "Port: Hale | Depth: 7 m"]
    assert [line for line in lines if line in kept] == kept
    assert not any("comment" in line or "passwd" in line or "abc" in line for line in lines)
    assert [(shown.src, shown.snippet) for shown in document.pictures] == [("img/a.png", "The harbour")]


@pytest.mark.parametrize("name", ["a.adoc", "a.org"])
@pytest.mark.parametrize(
    "text",
    [
        "a * b = c and d * e, snake_case_name, 2 ~ 3, p<0.05, /usr/local/bin/x, C++ and x[0][1]",
        "Plain words alone.",
        "- 5 degrees: cold. std::vector<int> and a::b",
    ],
)
def test_signs_that_mark_nothing_stay(name: str, text: str) -> None:
    found = extract(name, text.encode()).text
    assert found.split() == [word for word in text.split() if word != "-" or not text.startswith("-")]


@pytest.mark.parametrize("name", ["a.adoc", "a.org"])
@pytest.mark.parametrize(
    "unit",
    [
        "*a ",
        "[[a][",
        "|===\n|a\n",
        "----\n",
        "#+begin_src\n",
        ":a:\n",
        "* a\n",
        "a:: b\n",
        "{a}",
        "`a",
        "link:a[",
        "| a ",
    ],
)
def test_a_hostile_page_is_read_in_proportion(name: str, unit: str) -> None:
    def took(count: int) -> float:
        start = time.process_time()
        with suppress(Unreadable):
            extract(name, (unit * count).encode())
        return time.process_time() - start

    short = took(2_000)
    assert took(16_000) < 30 * short + 0.5


SVG = """<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/hostname"><!ENTITY y "INNER">]>
<svg xmlns="http://www.w3.org/2000/svg"><title>Map of Oru</title><style>.a{}</style><script>alert(1)</script>
<g><desc>The old port</desc><text>Hale <tspan>North</tspan>&x;&y;</text></g><image href="https://x.example/a.png"/></svg>"""


def test_the_words_of_an_svg_are_read_and_nothing_else() -> None:
    document = extract("map.svg", SVG.encode())
    lines = document.text.splitlines()
    assert document.title == "Map of Oru" and lines[:2] == ["Map of Oru", "The old port"]
    assert lines[2].startswith("Hale North") and "INNER" not in document.text and not document.pictures


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>', "without words"),
        ("<html>svg</html>", "damaged SVG"),
        ("not xml", "damaged SVG"),
        ("<svg>" * 1_000, "SVG"),
    ],
)
def test_an_svg_that_says_nothing_is_told_so(content: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        extract("a.svg", content.encode())


@pytest.mark.parametrize(
    ("below", "day"),
    [
        ("Jane Doe <jane@example.org>\nv1.2, 2024-05-06: what changed", "2024-05-06"),
        ("Jane Doe\n2024-05-06", "2024-05-06"),
        ("v1.2, 2024-05-06\n:revdate: 2023-04-05", "2023-04-05"),
        ("Jane Doe\n\n2024-05-06: a day like others", None),
    ],
)
def test_the_revision_line_of_asciidoc_tells_the_day(below: str, day: str | None) -> None:
    assert extract("a.adoc", f"= Oru Manual\n{below}\n\nText.\n".encode()).date == day


def test_attributes_of_asciidoc_do_not_multiply_a_page() -> None:
    written = f":x: {'y' * 190}\n\n" + "{x} " * 5_000 + "\n\nThe end."
    text = extract("a.adoc", written.encode()).text
    assert "y" * 190 in text and text.endswith("The end.") and len(text) < 150_000
