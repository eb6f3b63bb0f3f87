"""Text and Markdown -> a document."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from deepmmsearch.reading.charset import decode
from deepmmsearch.reading.document import EMPTY_ALT, Document, Origin, Showing, clean
from deepmmsearch.reading.page_pictures import MAX_PICTURES

MAX_FRONT_LINES = 60
_PICTURE = re.compile(r"!\[([^\]\n]{0,500})\]\(\s*<?([^)\s>]{1,1000}+)>?(?:\s+\"[^\"\n]*\")?\s*\)")
_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*)$", re.M)


def readable_name(path: str) -> str:
    """`paris_eiffel-tower_01.jpg` -> `paris eiffel tower 01`"""
    return clean(re.sub(r"[_\-+.]+", " ", PurePosixPath(path).stem)) or PurePosixPath(path).name


def page_name(url: str) -> str:
    """The last part of the path, or else the host."""
    parts = urlsplit(url)
    return clean(re.sub(r"[_\-+]+", " ", unquote(parts.path).rstrip("/").rpartition("/")[2])) or parts.netloc


def text_document(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable."""
    return from_text(_decoded(origin, content), origin.name)


def markdown_document(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable."""
    document = from_markdown(_decoded(origin, content), origin.name)
    # a page of the web stands where it was read
    return replace(document, url=None) if origin.address else document


def _decoded(origin: Origin, content: bytes) -> str:
    return decode(content, origin.charset, guess=bool(origin.address))


def from_text(text: str, name: str) -> Document:
    first, _, rest = text.strip().partition("\n")
    title = clean(first) if rest and 0 < len(first.strip()) <= 100 else name
    return Document(title, text)


def from_markdown(text: str, name: str) -> Document:
    """`title` and `url` of the front matter, where there is one, are the page's."""
    told, text = _front_matter(text)
    # with the marks that may close it
    lines = (line.rstrip("#").rstrip() or line for line in _HEADING.findall(text))
    headings = tuple(clean(_plain_markdown(line)) for line in lines)
    pictures = []
    for match in islice(_PICTURE.finditer(text), MAX_PICTURES):
        near = _plain_markdown(_around(text, match.start(), match.end()))
        alt = "" if EMPTY_ALT.match(match[1]) else clean(match[1])
        pictures.append(Showing(match[2], alt, near[:400], 2.0 if alt else 0.0))
    title = told.get("title") or (headings[0] if headings else name)
    url = told.get("url", "")
    address = url if url.startswith(("http://", "https://")) else None
    return Document(title, _plain_markdown(text), address, tuple(pictures), headings)


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    """What stands between two lines of dashes above a Markdown page, by name, and the page."""
    first, *lines = text.split("\n", MAX_FRONT_LINES + 1)
    end = next((n for n, line in enumerate(lines[:MAX_FRONT_LINES]) if line.rstrip() == "---"), None)
    if first.rstrip() != "---" or end is None:
        return {}, text
    pairs = (line.partition(":") for line in lines[:end])
    told = {name.strip().lower(): clean(value).strip("\"'") for name, _, value in pairs}
    return told, "\n".join(lines[end + 1 :])


def _around(text: str, start: int, end: int) -> str:
    """The rest of the paragraph that holds the picture, or else the next one."""
    before = text[max(0, start - 2_000) : start].rpartition("\n\n")[2]
    after, _, rest = text[end : end + 4_000].partition("\n\n")
    own = f"{before} {after}".strip()
    return own if len(own) > 20 else rest.strip().partition("\n\n")[0]


def _plain_markdown(text: str) -> str:
    text = re.sub(r"!\[([^\]\n]{0,500})\]\([^)\n]{0,1000}\)", "", text)
    text = re.sub(r"\[([^\]\n]{0,500})\]\([^)\n]{0,1000}\)", r"\1", text)
    text = re.sub(r"<[^<>\n]{1,500}>", "", text)
    text = re.sub(r"^[ \t]*(#{1,6}[ \t]+|>[ \t]?|```.*$|~~~.*$|[-=]{3,}[ \t]*$)", "", text, flags=re.M)
    text = re.sub(r"(\*\*|__|`)(.{1,500}?)\1", r"\2", text)
    text = re.sub(r"(?<!\w)([*_])(\S.{0,300}?)\1(?!\w)", r"\2", text)
    return re.sub(r"^[ \t]*[-*+][ \t]+", "", text, flags=re.M).strip()
