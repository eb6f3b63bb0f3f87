"""How much of a page's main text is read and how much else, beside the extractors that are usual, in one run.

`--pages FOLDER` takes any folder that holds one of these, at any depth:

    NAME.html(.gz), NAME.txt            a page and its main text
    ground-truth.json, html/ID.html.gz  {ID: {"articleBody": text}} (article-extraction-benchmark)
    evaldata.json, eval/ and cache/     {address: {"file", "with", "without"}}: text that belongs, text that does not
    ground-truth/ID.json, html/ID.html.gz   {"ground_truth": {"main_content", "with", "without"}}
    structure.json                      [{"name", "files", "main", "without"}]: pages of which all within the XPath
                                        `main`, except `without`, is main text: for structure alone

Without one it measures the pages that are made here.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxml import html as lxml_html

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.document import Origin
from deepmmsearch.reading.file_kinds import read

if TYPE_CHECKING:
    from engine import Table

GRAM = 4
STRUCTURE = ("h1", "h2", "h3", "h4", "h5", "h6", "li", "dt", "dd", "td", "th")
HEADINGS = STRUCTURE[:6]
ARTICLE = '<meta property="og:type" content="article">'
UNSEEN = ("script", "style", "noscript", "template", "button", "select", "textarea", "nav", "svg")

Extractor = Callable[[bytes], str]


@dataclass(frozen=True)
class Page:
    """`text`: the main text, "" where only parts that belong to it and parts that do not are known; `main` and
    `without`: XPaths of what holds all main text, and of what in it does not count."""

    kind: str
    content: bytes
    text: str = ""
    belongs: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    main: str = ""
    without: str = ""


# Where pages come from


def pages_of(folder: Path) -> Iterator[Page]:
    for path in sorted(folder.rglob("*.json")):
        if path.name == "ground-truth.json":
            for name, gold in json.loads(path.read_text("utf-8")).items():
                yield Page(folder.name, _content(path.parent / "html" / name), str(gold.get("articleBody", "")))
        elif path.name == "evaldata.json":
            yield from _listed(path)
        elif path.name == "structure.json":
            yield from _structured(path)
        elif path.parent.name == "ground-truth":
            told = json.loads(path.read_text("utf-8"))
            gold, kind = told["ground_truth"], told["_internal"]["page_type"]["primary"]
            content = _content(path.parents[1] / "html" / path.stem)
            yield Page(
                kind,
                content,
                gold.get("main_content") or "",
                tuple(gold.get("with") or ()),
                tuple(gold.get("without") or ()),
            )
    for path in sorted(folder.rglob("*.txt")):
        if (content := _content(path.with_suffix(""))) is not None:
            yield Page(folder.name, content, path.read_text("utf-8"))


def _content(path: Path) -> Any:
    for suffix in (".html", ".html.gz", ".htm"):
        found = path.with_name(path.name + suffix)
        if found.is_file():
            content = found.read_bytes()
            return gzip.decompress(content) if suffix.endswith(".gz") else content
    return None


def _listed(path: Path) -> Iterator[Page]:
    for item in json.loads(path.read_text("utf-8")).values():
        for place in ("cache", "eval"):
            found = path.parent / place / item["file"]
            if found.is_file():
                yield Page(path.parent.name, found.read_bytes(), "", tuple(item["with"]), tuple(item["without"]))
                break


def _structured(path: Path, most: int = 150) -> Iterator[Page]:
    rng = random.Random(5)
    for part in json.loads(path.read_text("utf-8")):
        files = sorted(found for found in path.parent.glob(part["files"]) if found.is_file())
        for found in rng.sample(files, min(most, len(files))):
            yield Page(part["name"], found.read_bytes(), main=part["main"], without=part.get("without", ""))


def made(count: int = 12) -> list[Page]:
    """Articles and pages of documentation, each among menus, boxes and a footer."""
    links = "".join(f'<li><a href="/{n}">Section {n} of the site</a></li>' for n in range(15))
    frame = (
        '<html><head><title>{} | Site</title>{}</head><body><div class="menu"><ul>{}</ul></div>{}<div class="footer">'
    )
    frame += "<p>All rights reserved by the owner of the site.</p></div></body></html>"
    pages = []
    for number in range(count):
        said = [f"In {1900 + n} the port of town {number} took in {n * number} ships of every kind." for n in range(40)]
        prose = "".join(f"<p>{sentence}</p>" for sentence in said)
        more = f'<div class="related"><h3>Read more</h3><ul>{links}</ul></div>'
        article = frame.format(
            number, '<meta property="og:type" content="article">', links, f"<div>{prose}{more}</div>"
        )
        foreign = ("Section 3 of the site", "All rights reserved")
        pages.append(Page("article", article.encode(), "\n".join(said), tuple(said[:3]), foreign))
        parts = "".join(
            f"<h2>Option {n}</h2><dl><dt>--level-{n}</dt><dd>Sets the level to {n * number}.</dd></dl>"
            f"<table><tr><th>Since</th><th>Default</th></tr><tr><td>1.{n}</td><td>{n}</td></tr></table>"
            for n in range(20)
        )
        manual = frame.format(number, "", links, f'<div id="manual"><h1>Options of {number}</h1>{parts}</div>')
        pages.append(Page("documentation", manual.encode(), foreign=foreign, main="//div[@id='manual']"))
    return pages


# Measures


def overlap(gold: str, found: str) -> tuple[float, float]:
    """Precision and recall of runs of 4 words, as article-extraction-benchmark counts them."""
    true, told = _grams(gold), _grams(found)
    common = sum((true & told).values())
    return common / max(1, told.total()), common / max(1, true.total())


def _grams(text: str) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[n : n + GRAM]) for n in range(max(1, len(words) - GRAM + 1)) if words)


def squeezed(text: str) -> str:
    """Without whatever extractors may write between the parts of a text."""
    return "".join(re.findall(r"\w", text))


def line(text: str) -> str:
    return " ".join(text.split())


def structure_of(page: Page) -> list[tuple[str, str, str]]:
    """(element, its text, the heading above it) of all structure in the main text."""
    tree = lxml_html.document_fromstring(page.content)
    roots = tree.xpath(page.main) if page.main else [tree]
    for foreign in tree.xpath(page.without) if page.without else ():
        foreign.drop_tree()
    for unseen in [e for root in roots for e in root.iter(*UNSEEN)]:
        unseen.drop_tree()
    gold = squeezed(page.text)
    found: list[tuple[str, str, str]] = []
    heading = ""
    for element in (e for root in roots for e in root.iter(*STRUCTURE)):
        text = squeezed("".join(_own_text(element)))
        if element.tag in HEADINGS:
            heading = text
        if not text or (not page.main and text not in gold):
            continue
        found.append((str(element.tag), text, "" if element.tag in HEADINGS else heading))
    return found


def _own_text(element: Any) -> Iterator[str]:
    """Up to the first structure within it."""
    yield element.text or ""
    for child in element:
        if child.tag in STRUCTURE or child.tag in ("ul", "ol", "dl", "table"):
            return
        if isinstance(child.tag, str):
            yield from _own_text(child)
        yield child.tail or ""


def structure_kept(structure: list[tuple[str, str, str]], found: str) -> float:
    """The share of it that stands in the text that was found, each part below its own heading."""
    whole, kept, heading, place = squeezed(found), 0, "", 0
    for tag, text, above in structure:
        if above != heading or tag in HEADINGS:
            place = 0
        if tag in HEADINGS:
            kept += text in whole
            heading, place = text, 0
            continue
        # the heading stands before it: look behind each place where the heading is
        place = whole.find(above) if above else 0
        kept += place >= 0 and whole.find(text, place) >= 0
    return kept / len(structure)


# Extractors


def ours(content: bytes) -> str:
    try:
        return read(Origin("html", "page", address="https://site.example/page"), content).text
    except Unreadable:
        return ""


def extractors() -> dict[str, Extractor]:
    import trafilatura

    def by_trafilatura(content: bytes) -> str:
        return trafilatura.extract(content, fast=True, include_comments=False, include_tables=True) or ""

    found: dict[str, Extractor] = {"deepmmsearch": ours, "trafilatura": by_trafilatura}
    if importlib.util.find_spec("readability") is None:
        print("  (readability-lxml: skipped, it is not installed)")
    else:
        from readability import Document

        def by_readability(content: bytes) -> str:
            summary = Document(content.decode("utf-8", "replace")).summary()
            return str(lxml_html.document_fromstring(summary).text_content())

        found["readability-lxml"] = by_readability
    return found


def measure(pages: list[Page], extract: Extractor) -> dict[str, float]:
    overlaps, structures, seconds = [], [], 0.0
    belonging = kept_belonging = foreign = kept_foreign = 0
    for page in pages:
        start = time.process_time()
        try:
            found = extract(page.content)
        except Exception:  # a peer's page that it cannot read is a page without text
            found = ""
        seconds += time.process_time() - start
        if page.text:
            overlaps.append(overlap(page.text, found))
        told = line(found)
        belonging, foreign = belonging + len(page.belongs), foreign + len(page.foreign)
        kept_belonging += sum(line(part) in told for part in page.belongs)
        kept_foreign += sum(line(part) in told for part in page.foreign)
        if (page.main or page.text) and (structure := structure_of(page)):
            structures.append(structure_kept(structure, found))
    figures: dict[str, float] = {}
    if overlaps:
        precision, recall = (statistics.mean(part) for part in zip(*overlaps, strict=True))
        figures |= {
            "precision": precision,
            "recall": recall,
            "F1": 2 * precision * recall / max(1e-9, precision + recall),
        }
    if belonging or foreign:
        precision, recall = kept_belonging / max(1, kept_belonging + kept_foreign), kept_belonging / max(1, belonging)
        figures |= {"parts: precision": precision, "parts: recall": recall}
        figures |= {"parts: F1": 2 * precision * recall / max(1e-9, precision + recall)}
        figures["boilerplate kept"] = kept_foreign / max(1, foreign)
    if structures:
        figures["structure kept"] = statistics.mean(structures)
    return figures | {"pages/s": len(pages) / max(1e-9, seconds)}


def page_quality(folder: Path | None, table: Table, most: int | None = None) -> None:
    found = list(pages_of(folder)) if folder else made()
    for kind in dict.fromkeys(page.kind for page in found):
        pages = [page for page in found if page.kind == kind][:most]
        table.head(f"Pages, {kind} ({len(pages)})")
        for name, extract in extractors().items():
            for figure, value in measure(pages, extract).items():
                table.row(f"{name}: {figure}", value)
