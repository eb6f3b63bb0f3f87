"""PDFs for tests, written by hand: each line of text stands where the test puts it."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image


class Line(NamedTuple):
    """`x`, `y` from the lower left corner of a page of 600 x 800 points."""

    x: float
    y: float
    text: str
    size: float = 10


class Picture(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    image: Image.Image
    filter: str = "DCTDecode"


def lines(text: str, x: float = 50, y: float = 700, size: float = 10, step: float = 12) -> list[Line]:
    return [Line(x, y - step * number, line, size) for number, line in enumerate(text.splitlines())]


def pdf(
    pages: Sequence[Sequence[Line | Picture]],
    info: Mapping[str, str] | None = None,
    rotate: int = 0,
    bookmarks: Sequence[tuple[int, str, int]] = (),
) -> bytes:
    """`bookmarks`: level, title and number of the page of each."""
    objects: list[bytes] = [b"", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"]

    def add(body: bytes) -> int:
        objects.append(body)
        return len(objects)

    kids = []
    for page in pages:
        content, names = [], []
        for item in page:
            if isinstance(item, Line):
                text = item.text.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
                content.append(b"BT /F1 %g Tf 1 0 0 1 %g %g Tm (%s) Tj ET" % (item.size, item.x, item.y, text))
            else:
                number = add(_image(item))
                names.append(b"/I%d %d 0 R" % (number, number))
                place = (item.width, item.height, item.x, item.y, number)
                content.append(b"q %g 0 0 %g %g %g cm /I%d Do Q" % place)
        stream = b"\n".join(content)
        body = add(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
        resources = b"<</Font<</F1 3 0 R>>/XObject<<%s>>>>" % b" ".join(names)
        kids.append(
            add(
                b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Rotate %d/Contents %d 0 R/Resources%s>>"
                % (rotate, body, resources)
            )
        )
    told = b" ".join(b"/%s %s" % (name.encode(), _string(value)) for name, value in (info or {}).items())
    known = add(b"<<%s>>" % told)
    outlines = len(objects) + 1
    for body in _bookmarks(bookmarks, kids, outlines):
        add(body)
    objects[0] = b"<</Type/Catalog/Pages 2 0 R/Outlines %d 0 R>>" % outlines
    objects[1] = b"<</Type/Pages/Kids[%s]/Count %d>>" % (b" ".join(b"%d 0 R" % kid for kid in kids), len(kids))
    return _file(objects, known)


def _bookmarks(marks: Sequence[tuple[int, str, int]], kids: Sequence[int], root: int) -> list[bytes]:
    """The root, and an object for each mark."""
    levels = [0, *(level for level, _, _ in marks)]
    bodies = []
    for at, level in enumerate(levels):
        after = next((n for n in range(at + 1, len(levels)) if levels[n] <= level), len(levels))
        children = [n for n in range(at + 1, after) if levels[n] == level + 1]
        body = b"/First %d 0 R/Last %d 0 R" % (root + children[0], root + children[-1]) if children else b""
        if at:
            _, title, page = marks[at - 1]
            parent = max(n for n in range(at) if levels[n] < level)
            body += b"/Title%s/Parent %d 0 R/Dest[%d 0 R/Fit]" % (_string(title), root + parent, kids[page - 1])
            if after < len(levels) and levels[after] == level:
                body += b"/Next %d 0 R" % (root + after)
        bodies.append(b"<<%s>>" % body)
    return bodies


def _string(value: str) -> bytes:
    return b"<feff%s>" % value.encode("utf-16-be").hex().encode()


def _image(picture: Picture) -> bytes:
    image = picture.image.convert("RGB")
    if picture.filter == "DCTDecode":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        data = buffer.getvalue()
    else:
        data = zlib.compress(image.tobytes())
    head = b"<</Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceRGB/BitsPerComponent 8" % image.size
    return head + b"/Filter/%s/Length %d>>stream\n%s\nendstream" % (picture.filter.encode(), len(data), data)


def _file(objects: list[bytes], info: int) -> bytes:
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    table += b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer<</Size %d/Root 1 0 R/Info %d 0 R>>\nstartxref\n%d\n%%%%EOF"
    return out + table + trailer % (len(objects) + 1, info, len(out))
