"""JSON and JSON Lines whose values are texts with a title and an address, such as the Wikipedia that goes with InfoSeek
and Encyclopedic-VQA: each a document. Other JSON is one document of its values by name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from deepmmsearch.errors import Unreadable
from deepmmsearch.notation import without_halves
from deepmmsearch.reading.collection import CollectionEntry
from deepmmsearch.reading.composition import Composition
from deepmmsearch.reading.document import Document, Origin, clean
from deepmmsearch.reading.json_stream import items, lines, members

TEXTS = (
    *("text", "contents", "content", "body", "passage", "document", "article", "wikipedia_content", "markdown"),
    *("wikipedia_summary", "abstract", "context", "paragraph", "paragraphs"),
)
TITLES = ("title", "wikipedia_title", "headline", "name", "heading")
ADDRESSES = ("url", "link", "source_url", "wikipedia_url", "address")
_SECTIONS, _HEADINGS = "section_texts", "section_titles"
_SMALL = 1_000_000
"""Bytes of a JSON file that may be one document."""


def json_entries(path: Path, after: str) -> Iterator[CollectionEntry]:
    """Raises Unreadable."""
    packed = path.suffix.lower() == ".gz"
    inner = Path(path.stem if packed else path.name).suffix.lower()
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as file:
            found = _lines(file) if inner in (".jsonl", ".ndjson") else _members(path, file)
            for number, (name, row, problem) in enumerate(found, 1):
                if number > int(after or 0):
                    yield _entry(name, row, problem, str(number))
    except UnicodeDecodeError:
        raise Unreadable("not text in UTF-8") from None
    except (EOFError, OSError, ValueError) as error:
        raise Unreadable(f"damaged JSON ({clean(str(error))[:100]})") from None


def _entry(name: str, row: Any, problem: str, cursor: str) -> CollectionEntry:
    if problem:
        return CollectionEntry(name, cursor, problem=f"damaged JSON ({problem})")
    address = _first(row, ADDRESSES) if isinstance(row, Mapping) else ""
    if not address and name.startswith(("http://", "https://")):
        address = name
    address = address if address.startswith(("http://", "https://")) and len(address) < 2_000 else ""
    content = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
    return CollectionEntry(without_halves(name), cursor, content, Origin("record", _line(name)), _line(address))


def _lines(file: IO[str]) -> Iterator[tuple[str, Any, str]]:
    for number, value, problem in lines(file):
        yield str(number), value, problem


def _members(path: Path, file: IO[str]) -> Iterator[tuple[str, Any, str]]:
    small = path.suffix.lower() != ".gz" and path.stat().st_size <= _SMALL
    kept: list[tuple[str, Any]] = []
    is_list = file.read(4_096).lstrip().startswith("[")
    file.seek(0)
    for name, value in items(file) if is_list else members(file):
        if has_text(value):
            yield from ((key, one, "") for key, one in kept)
            kept = []
            yield name, value, ""
        elif small:
            kept.append((name, value))
    # none of them is a text of its own
    if kept:
        yield path.stem, dict(kept), ""


def has_text(row: Any) -> bool:
    return isinstance(row, Mapping) and (_SECTIONS in row or any(isinstance(row.get(key), str) for key in TEXTS))


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of these that the row has, whatever the case of its names."""
    lowered = {str(key).lower(): value for key, value in row.items()}
    return next((str(lowered[name]).strip() for name in names if isinstance(lowered.get(name), str | int)), "")


def _line(text: str) -> str:
    return clean(without_halves(text))


def from_record(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable."""
    try:
        row = json.loads(content)
    except (ValueError, RecursionError):
        raise Unreadable("damaged JSON") from None
    text = Composition(origin.longest)
    title = _line(_first(row, TITLES)) if isinstance(row, Mapping) else ""
    if isinstance(row, Mapping) and isinstance(row.get(_SECTIONS), list):
        _sections(text, row, title)
    elif has_text(row):
        written = next(row[key] for key in TEXTS if isinstance(row.get(key), str))
        text.add(without_halves(written))
    else:
        for name, value in _leaves(row, ""):
            text.add(f"{name}: {value}" if name else value)
    return text.document(
        title or origin.name, _first(row, ("date", "published", "timestamp")) if isinstance(row, Mapping) else ""
    )


def _sections(text: Composition, row: Mapping[str, Any], title: str) -> None:
    titles = row.get(_HEADINGS)
    heads = [*(titles if isinstance(titles, list) else ()), *([""] * len(row[_SECTIONS]))]
    for head, section in zip(heads, row[_SECTIONS], strict=False):
        if str(section).strip():
            text.head("" if _line(str(head)) == title else _line(str(head)))
            text.add(without_halves(str(section)))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every value with the names that lead to it."""
    waiting: list[tuple[str, Any]] = [(name, value)]
    while waiting:
        name, one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += reversed([(f"{name}.{key}" if name else str(key), inner) for key, inner in one.items()])
        elif isinstance(one, list):
            if all(isinstance(inner, str | int | float) for inner in one):
                one = ", ".join(map(str, one))
                yield _line(name), _line(one)
            else:
                waiting += reversed([(name, inner) for inner in one])
        elif one is not None and (told := _line(str(one))):
            yield _line(name), told
