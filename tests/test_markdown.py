"""Markdown and reStructuredText: what is mark-up goes, what is code, text or a picture stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("lxml")
pytest.importorskip("mdit_py_plugins")

from deepmmsearch.engine import Index
from deepmmsearch.engine.chunks import passages
from deepmmsearch.reading.document import Document
from deepmmsearch.reading.file_kinds import extract


def read(source: str, name: str = "page.md") -> Document:
    return extract(name, source.encode())


CODE = "# a comment\ndef moor(*args, **kwargs):\n\n    return  harbour[__name__] << 2  # p<0.05"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (f"Text.\n\n```python\n{CODE}\n```\n", CODE),
        (f"Text.\n\n~~~\n{CODE}\n~~~\n", CODE),
        ("Text:\n\n    a = [\n      '*x*',\n    ]\n", "a = [\n  '*x*',\n]"),
        ("Call `__init__`, `Vec<u8>`, `*args` and ``a`b``.", "Call __init__, Vec<u8>, *args and a`b."),
        ("See __init__.py and __main__, but __never__ this.", "See __init__.py and __main__, but never this."),
        ("It was *built* in **1900** by ~~Moe~~ _Krag_.", "It was built in 1900 by Moe Krag."),
        (
            "Wind (p<0.05) and vector<int>, a<b and c>d, 1 < 2 > 0.",
            "Wind (p<0.05) and vector<int>, a<b and c>d, 1 < 2 > 0.",
        ),
        (
            "Mail <moe@host.example>, see <https://host.example/a>.",
            "Mail moe@host.example, see https://host.example/a.",
        ),
        ("Copy <source> to map<string, Harbour>.", "Copy <source> to map<string, Harbour>."),
        ("H<sub>2</sub>O, <b>bold</b>, <span class=x>red</span>.<!-- gone -->", "H2O, bold, red."),
        ("The price $a_1 * b_1$ and \\*stars\\*.", "The price $a_1 * b_1$ and *stars*."),
        ("A line\nthat goes on.", "A line that goes on."),
        ("A line\n**that** goes\n[on](x.md).", "A line that goes on."),
        ("港は深い。\n川は長い。", "港は深い。川は長い。"),
        ("See [[Port of Oru|the port]], [[Oru#Tides]] and m[[1]].", "See the port, Oru > Tides and m[[1]]."),
        ("Deep[^1] and [^a-z].\n\n[^1]: By *plumb*.\n[^2]: Unused.", "Deep and [^a-z].\n\nBy plumb.\n\nUnused."),
        ("> [!WARNING]\n> It is deep.", "Warning: It is deep."),
        (":::tip Mind\nThe *gap*.\n:::\n", "Mind\n\nThe gap."),
        ('!!! note "Mind"\n    The *gap*.\n', "Mind\n\nThe gap."),
        ("import Tabs from '@theme/Tabs';\n\n<Tabs>\n\nShown.\n\n</Tabs>\n", "Shown."),
        ('A {{< tip text="pod" id="x" >}} runs.', "A pod runs."),
        ("1. one\n2. two\n   more\n\n- a\n- b\n", "1. one\n2. two more\n\na\nb"),
        ("Term\n: What it is.\n", "Term: What it is."),
        ("<div align=center>\n<p>Set <b>apart</b></p>\n</div>\n", "Set apart"),
        ("<div><pre><b>def</b> f():\n  <i>return</i> 1 + <i>2</i>\n</pre></div>", "def f():\n  return 1 + 2"),
        ("<details><summary>More</summary>\n\nHidden *text*.\n\n</details>", "More\n\nHidden text."),
    ],
)
def test_what_stands_in_the_text(source: str, text: str) -> None:
    assert text in read(source + "\n\nEnd.").text


def test_headings_of_all_spellings() -> None:
    document = read("The port\n========\n\nTides\n-----\n\nHigh.\n\n### Low `tide` {#low} ###\n\n```\n# none\n```\n")
    assert document.headings == (("The port", 1), ("Tides", 2), ("Low tide", 3)) and document.title == "The port"
    assert "# none" in document.text


def test_each_row_of_a_table_says_what_its_cells_are() -> None:
    rows = "".join(f"| Port {n} | Pilot {n} |  |\n" for n in range(40))
    document = read(f"| Name | Pilot | Tide |\n|---|:-:|---|\n{rows}")
    assert document.text.startswith("Name: Port 0 | Pilot: Pilot 0\nName: Port 1") and "Tide" in document.text
    found = passages(document.text, 200)
    assert len(found) > 4 and all(passage.text.startswith("Name: Port") for passage in found[:-1])


@pytest.mark.parametrize(
    "picture",
    [
        "![Ferry](pics/a b.png)",
        "![Ferry](<pics/a b.png>)",
        "![Ferry](pics/a%20b.png)",
        "![Ferry](pics/a%20b.png 'on the pier')",
        "![Ferry][f]\n\n[f]: <pics/a b.png>",
        "![Ferry](pics\\a%20b.png)",
        "![[pics/a b.png|Ferry]]",
        "<img alt='Ferry' width=3 src='pics/a b.png'>",
        '<p align=center>\n<img src="pics/a b.png" alt=Ferry></p>',
    ],
)
def test_pictures_of_all_spellings(picture: str) -> None:
    (shown,) = read(f"# Oru\n\n{picture}\n\nThe ferry was built in Ulm in 1900.\n").pictures
    assert (shown.src.replace("%20", " "), shown.title) == ("pics/a b.png", "Ferry")
    assert shown.snippet == "The ferry was built in Ulm in 1900."


def test_brackets_in_pictures() -> None:
    document = read("![The [old] ferry|90](pics/ferry_(1).png){width=50%} ![[map.png|200]] Text.\n")
    shown = [(picture.src, picture.title) for picture in document.pictures]
    assert shown == [("pics/ferry_(1).png", "The [old] ferry"), ("map.png", "")] and document.text == "Text."


@pytest.mark.parametrize(
    "front",
    [
        "---\ntitle: 'Oru: a port'\nurl: https://host.example/o\ndate: 2023-05-06T07\nlang: de-AT\ntags: [a, b]\n---",
        "---\ntitle: Oru: a port\nurl: https://host.example/o\ndate: 2023-05-06\nlang: de\ntags: a, b\n---",
        '+++\ntitle = "Oru: a port"\nurl = "https://host.example/o"\ndate = 2023-05-06\nlang = "de"\ntags = ["a"]\n+++',
    ],
)
def test_front_matter(front: str) -> None:
    document = read(f"{front}\n\n# Heading\n\nText.\n")
    assert (document.title, document.url) == ("Oru: a port", "https://host.example/o")
    assert (document.date, document.language) == ("2023-05-06", "de")
    assert document.text.startswith("Heading\n\nText.\n\ntags: a")


def test_what_only_looks_like_front_matter_is_text() -> None:
    assert "It is deep" in read("---\n\nIt is deep\n\n---\n\nText.\n").text


RST = """.. _top:

====
Oru
====

A :ref:`port <x>` with ``__init__``, *old*, **deep** and `a link <https://host.example>`_ [1]_.

Tides
-----

.. note:: Mind
   the gap.

.. code-block:: python
   :linenos:

   # a comment
   def moor(*args):

       return  args

Example::

    $ moor  *

+------+-------+
| Name | Pilot |
+======+=======+
| Oru  | Krag  |
+------+-------+

===== ====
Quay  Tide
===== ====
East  high
===== ====

.. figure:: pics/a.png
   :alt: The ferry

   Seen from the pier of Oru.

.. py:function:: moor(*args)

   Moors.

:param x: The
   rope.

.. a comment
   over lines

term
   what it is
"""


def test_restructured_text() -> None:
    document = read(RST, "page.rst")
    assert document.title == "Oru" and document.headings == (("Oru", 1), ("Tides", 2))
    assert document.text.split("\n\n", 2)[1] == "A port with __init__, old, deep and a link."
    for told in (
        "Note: Mind the gap.",
        "# a comment\ndef moor(*args):\n\n    return  args",
        "Example:\n\n$ moor  *",
        "Name: Oru | Pilot: Krag",
        "Quay: East | Tide: high",
        "moor(*args)\n\nMoors.",
        "param x: The rope.",
        "term: what it is",
    ):
        assert told in document.text
    assert ":linenos:" not in document.text and "a comment\n   over" not in document.text
    (shown,) = document.pictures
    assert (shown.src, shown.title, shown.snippet) == ("pics/a.png", "The ferry", "Seen from the pier of Oru.")


def test_notes_find_their_pictures_by_name(tmp_path: Path) -> None:
    root = tmp_path / "vault"
    (root / "attachments").mkdir(parents=True)
    (root / "notes" / "ports").mkdir(parents=True)
    Image.effect_noise((80, 60), 80).convert("RGB").save(root / "attachments" / "emma.png")
    (root / "notes" / "ports" / "oru.md").write_text("![[emma.png]]\n\nThe ferry Emma was built in Oslo in 1900.\n")
    index = Index.build(root, tmp_path / "index")
    with Image.open(root / "attachments" / "emma.png") as picture:
        (hit,) = index.search_image(picture.convert("RGB"), 1)
    assert hit.snippet == "The ferry Emma was built in Oslo in 1900."


def test_a_build_tells_what_encodings_it_guessed(tmp_path: Path) -> None:
    root = tmp_path / "w"
    root.mkdir()
    (root / "a.txt").write_bytes("Директор музея порта Пётр Орлов открыл выставку кораблей.".encode("cp1251"))
    (root / "b.md").write_text("Plain.", encoding="utf-8")
    index = Index.build(root, tmp_path / "index")
    assert index.report.guessed == {"windows-1251": ["a.txt"]}
    assert index.report.sentence.endswith("1 read in a guessed encoding (1 windows-1251).")


@pytest.mark.parametrize(
    ("written", "day"),
    [
        *[("2021/5/3", "2021-05-03"), ("2021.05.03", "2021-05-03"), ("2021-5-3 10:00", "2021-05-03")],
        *[("3 May 2021", "2021-05-03"), ("May 3rd, 2021", "2021-05-03"), ("3. Mai 2021", "2021-05-03")],
        *[("Mon, 03 May 2021 10:00:00 +0000", "2021-05-03"), ("2021年5月3日", "2021-05-03")],
        *[("2021", "2021-01-01"), ("2021-05", "2021-05-01"), ("9999-99-99", None), ("03/05/2021", None)],
        *[("soon", None), ("20210", None), ("May <b>'", None)],
    ],
)
def test_days_above_a_page_as_people_write_them(written: str, day: str | None) -> None:
    assert extract("a.md", f"---\ndate: {written}\n---\nText.".encode()).date == day
