"""A page of a PDF -> a picture. PDFs were written by strangers: `pdf_pages` has this done in a process of its own,
which runs this module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepmmsearch.confined import CONTENT, serve
from deepmmsearch.errors import MissingExtra, Unreadable

SIDE = 2_000
"""Pixels of the longer side: small print can be read."""
LARGEST_SCALE = 8.0


def draw(request: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    """Pixels (RGB), size, and how many pages there are. Raises Unreadable."""
    try:
        from pypdfium2 import PdfDocument, PdfiumError
    except ImportError:
        raise MissingExtra("Drawing a page of a PDF", "serve") from None

    number = request["page"]
    try:
        document = PdfDocument(content)
        pages = len(document)
        if not 0 < number <= pages:
            raise Unreadable(f"it has {pages} page{'' if pages == 1 else 's'}, and page {number} was asked for")
        page = document[number - 1]
        width, height = page.get_size()
        scale = min(LARGEST_SCALE, SIDE / max(width, height, 1.0))
        image = page.render(scale=scale).to_pil().convert("RGB")
    except PdfiumError as error:
        raise Unreadable(str(error).rstrip(".") or "it is damaged") from None
    return {"size": image.size, "pages": pages, CONTENT: image.tobytes()}


if __name__ == "__main__":
    serve(draw, ("pypdfium2",))
