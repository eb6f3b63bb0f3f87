"""What a picture's file would make a decoder do, told from the file's own blocks before anything is decoded."""

from __future__ import annotations

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
    """How often a JPEG decoder goes over the whole picture: once for each scan of a progressive file, of which there
    may be as many as the file has room for. An upper bound; 1 for everything else."""
    return max(1, content.count(b"\xff\xda")) if image.format == "JPEG" and image.info.get("progressive") else 1


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
