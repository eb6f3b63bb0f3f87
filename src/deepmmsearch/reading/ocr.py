"""Text in pictures and on scanned pages, by RapidOCR, whose package brings the weights, in a process of its own.

For indexes that are built with it, and for whoever wants to know what a picture says: `TextReader().picture(image)`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from typing import Any

from PIL import Image, ImageChops

from deepmmsearch.confined import Worker, serve
from deepmmsearch.decoding import reduced
from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.composition import Composition
from deepmmsearch.reading.document import Document, Origin, clean
from deepmmsearch.reading.layout import Piece, ordered, paragraphs

MEMORY = 6 * 1024**3
"""Bytes of addresses: the runtime reserves more than it uses, about 700 MB."""
SECONDS = 60.0
"""Of processor time for one picture or page."""
MAX_PAGES = 500
_SIDE = 3_600
_LEAST_SURE = 0.6
_EDGE = 32


class TextReader(Worker):
    """`picture` and `scan` in a process of its own, started when it is needed."""

    def __init__(self, timeout: float = SECONDS, memory: int = MEMORY) -> None:
        super().__init__("deepmmsearch.reading.ocr", timeout, memory=memory)

    def picture(self, image: Image.Image) -> str:
        """What is written in a picture (RGB), in reading order, a line for each paragraph; "" for nothing. Raises
        Unreadable; UserError for a package that is missing."""
        small = reduced(image, _SIDE)
        return _told(self.ask({"size": small.size}, small.tobytes()))

    def scan(self, origin: Origin, content: bytes) -> Document:
        """A PDF whose pages are pictures. Raises as `picture` does."""
        text = Composition(origin.longest)
        number, pages = 0, 1
        while number < min(pages, MAX_PAGES) and not text.full:
            answer = self.ask({"page": number}, content)
            pages = int(answer["pages"])
            number += 1
            text.mark(f"page={number}")
            text.add(_told(answer))
        document = text.document(text.first_line or origin.name)
        if not document.text:
            raise Unreadable("a scan on which no text is found")
        return document


def _told(answer: Mapping[str, Any]) -> str:
    return str(answer["text"]).encode("utf-8", "replace").decode("utf-8")


# In the process


def _answered(request: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    if "size" in request:
        return {"text": _text(Image.frombytes("RGB", request["size"], content))}
    page, pages = _page(content, int(request["page"]))
    return {"text": _text(page), "pages": pages}


def _page(content: bytes, number: int) -> tuple[Image.Image, int]:
    """A page of a PDF as a picture, and how many there are."""
    try:
        import pypdfium2 as pdfium
    except ImportError:
        raise MissingExtra("Reading PDF files", "engine") from None
    try:
        document = pdfium.PdfDocument(io.BytesIO(content))
        page = document[number]
        scale = min(300 / 72, _SIDE / max(1.0, *page.get_size()))
        return page.render(scale=scale).to_pil().convert("RGB"), len(document)
    except pdfium.PdfiumError:
        raise Unreadable("damaged PDF") from None


@cache
def _engine() -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError:
        raise MissingExtra("Reading text in pictures", "ocr") from None
    threads = "EngineConfig.onnxruntime.intra_op_num_threads"
    return RapidOCR(params={"Global.log_level": "critical", "Global.max_side_len": _SIDE, threads: 2})


def _text(picture: Image.Image) -> str:
    import numpy as np

    found = _engine()(np.asarray(_trimmed(picture))[:, :, ::-1])
    pieces = []
    for box, text, score in zip(*_parts(found), strict=True):
        if score >= _LEAST_SURE and text.strip():
            (left, top), (right, bottom) = box.min(0), box.max(0)
            # upwards, as on a page
            pieces.append(Piece(float(left), -float(bottom), float(right), -float(top), clean(text)))
    return "\n".join(paragraph.text for block in ordered(pieces) for paragraph in paragraphs(block))


def _trimmed(picture: Image.Image) -> Image.Image:
    """Without a plain margin: it is made smaller before text is looked for, and small letters are lost."""
    ground = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    box = ImageChops.difference(picture, ground).convert("L").point(lambda value: 255 * (value > 48)).getbbox()
    if box is None:
        return picture
    left, top, right, bottom = box
    right, bottom = min(picture.width, right + _EDGE), min(picture.height, bottom + _EDGE)
    return picture.crop((max(0, left - _EDGE), max(0, top - _EDGE), right, bottom))


def _parts(found: Any) -> tuple[Any, Any, Any]:
    return (found.boxes, found.txts, found.scores) if found.boxes is not None else ((), (), ())


if __name__ == "__main__":
    serve(_answered, ("rapidocr", "pypdfium2", "numpy"))
