"""What a picture's file would make a decoder do, told from the file's own blocks before anything is decoded."""

from __future__ import annotations

import re

from PIL import Image


def frames(image: Image.Image, content: bytes, most: int) -> int:
    """How many frames the file holds, or `most` + 1 for any number above `most`: counting stops there, because Pillow
    counts a GIF's or a TIFF's frames by walking through all of them."""
    if image.format == "GIF":
        return _gif_frames(content, most)
    if image.format == "TIFF":
        return _tiff_frames(image, most)
    return min(int(getattr(image, "n_frames", 1)), most + 1)


def scans(image: Image.Image, content: bytes) -> int:
    """How often a JPEG decoder goes over the picture: once for each scan, of which there may be as many as the file has
    room for, whatever its kind; 1 for everything else."""
    return max(1, _jpeg_scans(content)) if image.format in ("JPEG", "MPO") else 1


# what a decoder looks for next, also in the midst of entropy-coded data; the fill bytes, and those that stand for data
# or restart a scan, are no markers to it
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
_SCAN, _END = 0xDA, 0xD9


def _jpeg_scans(content: bytes) -> int:
    """Walks the segments of a JPEG (ITU T.81, annex B) up to its end: what is appended, such as a preview or a film, is
    not decoded."""
    count, at = 0, 0
    while (found := _MARKER.search(content, at)) and found[1][0] != _END:
        count += found[1][0] == _SCAN
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2])
    return count


def _gif_frames(content: bytes, most: int) -> int:
    """Walks the blocks of a GIF (GIF89a, appendix A), which are chained by their lengths."""
    count = 0
    try:
        at = 13 + _colors(content[10])
        while count <= most and content[at] in (0x21, 0x2C):
            if content[at] == 0x2C:
                count += 1
                at += 11 + _colors(content[at + 9])
            else:
                at += 2
            while content[at]:
                at += content[at] + 1
            at += 1
    except IndexError:  # the file ends too early; what decodes it says so
        pass
    return count


def _colors(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _tiff_frames(image: Image.Image, most: int) -> int:
    try:
        image.seek(most)
    except EOFError:
        return most
    finally:
        image.seek(0)
    return most + 1
