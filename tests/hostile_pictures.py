"""JPEGs that go over themselves as often as they are told to."""

from __future__ import annotations

import io

from PIL import Image


def baseline(picture: Image.Image, scans: int, data: bytes | None = None) -> bytes:
    """Three scans, one for each colour, and the last one again and again; `data`: what is in the repeated ones."""
    grey = _jpeg(picture.convert("L"))
    frame, start = grey.index(b"\xff\xc0"), grey.index(b"\xff\xda")
    colours = b"\3" + b"".join(bytes((n, 0x11, 0)) for n in (1, 2, 3))
    head = grey[:frame] + b"\xff\xc0\0\x11" + grey[frame + 4 : frame + 9] + colours + grey[frame + 13 : start]

    def scan(colour: int, data: bytes) -> bytes:
        return b"\xff\xda\0\x08\1" + bytes((colour, 0, 0, 63, 0)) + data

    own = grey[start + 10 : -2]
    again = scan(3, own if data is None else data) * (scans - 3)
    return head + scan(1, own) + scan(2, own) + scan(3, own) + again + grey[-2:]


def progressive(picture: Image.Image, scans: int, **options: object) -> bytes:
    """The last scan of the first picture again and again; `options` may make it an MPO, which holds several."""
    content = _jpeg(picture, progressive=True, quality=30, **options)
    end = content.index(b"\xff\xd9", content.index(b"\xff\xda"))
    last = content[content.rindex(b"\xff\xda", 0, end) : end]
    return content[:end] + last * (scans - content[:end].count(b"\xff\xda")) + content[end:]


def mpo(picture: Image.Image, scans: int) -> bytes:
    """Of a kind that Pillow calls by another name."""
    return progressive(picture, scans, format="MPO", save_all=True, append_images=[picture])


def _jpeg(picture: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()
