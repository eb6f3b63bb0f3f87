"""Pages of PDFs as pictures, drawn in a process that finds neither network nor files."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from PIL import Image

from deepmmsearch.confined import CONTENT, Worker
from deepmmsearch.errors import Unreadable
from deepmmsearch.serve.refusals import NamedRefusal

SECONDS = 10.0
"""Of processor time for a page."""
AT_ONCE = 2


class PdfPage(NamedTuple):
    """A page, and how many there are."""

    image: Image.Image
    pages: int


class PdfPages:
    """Draws so many pages AT_ONCE, each in a process of its own."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)

    async def draw(self, content: bytes, number: int) -> PdfPage:
        """Page `number`, counted from 1. Raises UserError for what is not a PDF, has no such page, or takes too long,
        or where the extra is missing."""
        async with self._free:
            return await asyncio.to_thread(_drawn, content, number)


def _drawn(content: bytes, number: int) -> PdfPage:
    try:
        with Worker("deepmmsearch.serve.pdf_drawing", SECONDS) as worker:
            answer = worker.ask({"page": number}, content)
    except Unreadable as error:
        raise NamedRefusal(
            f"The PDF cannot be shown: {error}. Save the page as a picture.", "bad_pdf", why=str(error)
        ) from None
    width, height = answer["size"]
    return PdfPage(Image.frombytes("RGB", (int(width), int(height)), answer[CONTENT]), int(answer["pages"]))
