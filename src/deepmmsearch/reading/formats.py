"""Text, Markdown, reStructuredText, AsciiDoc and Org -> a document."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from deepmmsearch.reading.asciidoc import from_asciidoc
from deepmmsearch.reading.charset import decode
from deepmmsearch.reading.document import Document, Origin, clean
from deepmmsearch.reading.markdown import from_markdown
from deepmmsearch.reading.org import from_org
from deepmmsearch.reading.plain_text import from_text
from deepmmsearch.reading.rst import from_rst


def readable_name(path: str) -> str:
    """`paris_eiffel-tower_01.jpg` -> `paris eiffel tower 01`"""
    return clean(re.sub(r"[_\-+.]+", " ", PurePosixPath(path).stem)) or PurePosixPath(path).name


def page_name(url: str) -> str:
    """The last part of the path, or else the host."""
    parts = urlsplit(url)
    return clean(re.sub(r"[_\-+]+", " ", unquote(parts.path).rstrip("/").rpartition("/")[2])) or parts.netloc


def text_document(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    return _document(from_text, origin, content)


def markdown_document(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    return _document(from_markdown, origin, content)


def rst_document(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    return _document(from_rst, origin, content)


def asciidoc_document(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    return _document(from_asciidoc, origin, content)


def org_document(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    return _document(from_org, origin, content)


def _document(reader: Callable[[str, str], Document], origin: Origin, content: bytes) -> Document:
    text, guessed = decode(content, origin.charset)
    document = reader(text, origin.name)
    # a page of the web stands where it was read
    return replace(document, charset=guessed, url=None if origin.address else document.url)
