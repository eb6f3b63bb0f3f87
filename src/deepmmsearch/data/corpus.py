"""Wikipedia as it goes with InfoSeek and Encyclopedic-VQA, as pages that `deepmmsearch index build` reads.

Two forms are published: one JSON object of articles by address, each with the titles and texts of its sections
(Encyclopedic-VQA's two million, and the 100,000 of them that go with InfoSeek); and one article a line (InfoSeek's six
million). Either is larger than a machine's memory: articles are read one by one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from deepmmsearch.data.load_report import LoadReport, Skip
from deepmmsearch.data.tables import BROKEN, Row, whole_row
from deepmmsearch.errors import UserError
from deepmmsearch.files import write_text
from deepmmsearch.progress import Watch, silent, tracked
from deepmmsearch.reading import json_stream

_WIKIPEDIA = "https://en.wikipedia.org/wiki/"


def write_pages(source: Path, out: Path, limit: int | None = None, watch: Watch = silent) -> LoadReport:
    """Writes the articles of `source` to the folder `out`, a Markdown file each with its address, at most `limit`.
    Counts them, and those that cannot be read.

    Raises UserError where `source` is of no known form, or `out` holds something.
    """
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} is there already. Give another place.")
    report = LoadReport()
    articles = islice(read_articles(source), limit)
    for key, row in tracked(articles, "Writing pages", limit, watch):
        report.rows += 1
        try:
            address, page = as_page(key, whole_row(row))
        except Skip as skip:
            report.drop(key[:120], skip)
            continue
        name = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()
        write_text(out / name[:2] / f"{name[:24]}.md", page, errors="replace")
        report.loaded += 1
    return report


def as_page(key: str, row: Row) -> tuple[str, str]:
    """The address of an article, and the article as Markdown. Raises Skip for one without a text."""
    title = _line(row.get("title") or row.get("wikipedia_title") or key)
    sections = row.get("section_texts")
    if isinstance(sections, list):
        titles = row.get("section_titles")
        heads = [*(titles if isinstance(titles, list) else ()), *([""] * len(sections))]
        parts = [
            f"## {_line(head)}\n\n{text}" if _line(head) not in ("", title) else str(text)
            for head, text in zip(heads, sections, strict=False)
            if str(text).strip()
        ]
    else:
        parts = [str(row.get("wikipedia_content") or row.get("wikipedia_summary") or "")]
    text = "\n\n".join(parts).strip()
    if not text or not title:
        raise Skip("no text")
    named = str(row.get("url") or key)
    address = named if named.startswith(("http://", "https://")) else _WIKIPEDIA + quote(title.replace(" ", "_"))
    return address, f"---\ntitle: {json.dumps(title)}\nurl: {json.dumps(_line(address))}\n---\n# {title}\n\n{text}\n"


def _line(text: Any) -> str:
    return " ".join(str(text).split())


def read_articles(source: Path) -> Iterator[tuple[str, Row]]:
    """Articles by their key: an address, a Wikidata id, or the number of the line. One that cannot be read is BROKEN.
    Raises UserError."""
    if not source.is_file():
        raise UserError(f"There is no file {source}. Give the JSON or JSON Lines of the articles.")
    packed = source.suffix.lower() == ".gz"
    kind = Path(source.stem if packed else source.name).suffix.lower()
    if kind not in (".json", ".jsonl"):
        raise UserError(
            f"{source} is of no kind read here. Expected .json, .jsonl or .jsonl.gz; unpack archives first."
        )
    try:
        with gzip.open(source, "rt", encoding="utf-8") if packed else source.open(encoding="utf-8") as file:
            yield from _lines(file) if kind == ".jsonl" else _members(file, source)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{source} cannot be read to its end ({error}). Fetch it again.") from None


def _lines(file: IO[str]) -> Iterator[tuple[str, Row]]:
    for number, row, problem in json_stream.lines(file):
        if problem or not isinstance(row, Mapping):
            yield f"line {number}", {BROKEN: problem or "it is not an object"}
        else:
            yield str(row.get("wikidata_id") or f"line {number}"), row


def _members(file: IO[str], source: Path) -> Iterator[tuple[str, Row]]:
    """The members of one JSON object, each as soon as it is read."""
    try:
        for key, row in json_stream.members(file):
            broken = {BROKEN: f"it is a {type(row).__name__}, not an article"}
            yield key, row if isinstance(row, Mapping) else broken
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise UserError(f"{source} cannot be read as one JSON object of articles: {error}. Fetch it again.") from None
