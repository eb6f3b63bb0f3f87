"""Jupyter notebooks: text, code and what it printed, with the pictures that it drew."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.charset import decode
from deepmmsearch.reading.composition import Composition
from deepmmsearch.reading.document import Document, Origin
from deepmmsearch.reading.markdown import from_markdown

_LONGEST_OUTPUT = 4_000
_COLORS = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]")
_PICTURES = ("image/png", "image/jpeg")


def from_notebook(origin: Origin, content: bytes) -> Document:
    """nbformat 3 and 4. Raises Unreadable."""
    try:
        notebook = json.loads(decode(content).text)
    except (ValueError, RecursionError):
        raise Unreadable("a damaged notebook") from None
    cells = _cells(notebook)
    if cells is None:
        raise Unreadable("not a notebook")
    text = Composition(origin.longest)
    for cell in cells:
        source = _joined(cell.get("source", cell.get("input", "")))
        if cell.get("cell_type") in ("markdown", "heading"):
            _markdown(text, cell, source)
        else:
            text.add(source)
            for output in _mappings(cell.get("outputs")):
                _output(text, output)
    return text.document(text.first_heading or origin.name)


def _cells(notebook: Any) -> list[Mapping[str, Any]] | None:
    if not isinstance(notebook, Mapping):
        return None
    sheets = notebook.get("worksheets")
    if isinstance(sheets, list):
        return [cell for sheet in _mappings(sheets) for cell in _mappings(sheet.get("cells"))]
    return _mappings(notebook["cells"]) if isinstance(notebook.get("cells"), list) else None


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


def _joined(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _markdown(text: Composition, cell: Mapping[str, Any], source: str) -> None:
    page = from_markdown(f"# {source}" if cell.get("cell_type") == "heading" else source, "")
    text.headings += page.headings
    text.add(page.text)
    attached = cell.get("attachments")
    for shown in page.pictures:
        found = attached.get(shown.src.removeprefix("attachment:")) if isinstance(attached, Mapping) else None
        if isinstance(found, Mapping):
            _show(text, shown.title, found)


def _output(text: Composition, output: Mapping[str, Any]) -> None:
    data = output.get("data")
    data = data if isinstance(data, Mapping) else output
    if output.get("output_type") == "error" or "ename" in output:
        text.add(f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"[:_LONGEST_OUTPUT])
    shows = any(kind in data for kind in _PICTURES)
    told = "" if shows else _joined(data.get("text/plain", data.get("text", "")))
    text.add(_COLORS.sub("", told[:_LONGEST_OUTPUT]))
    _show(text, "", data)


def _show(text: Composition, title: str, data: Mapping[str, Any]) -> None:
    for kind in _PICTURES:
        if kind in data:
            try:
                text.show(title, base64.b64decode(_joined(data[kind])))
            except (binascii.Error, ValueError):
                continue
