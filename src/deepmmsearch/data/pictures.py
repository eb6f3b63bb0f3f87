"""The pictures of published data: bytes, base64, files beside the annotations, addresses that may be dead."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.data.load_report import Skip
from deepmmsearch.errors import UserError
from deepmmsearch.files import lies_in

EXTENSIONS = (".jpg", ".jpeg", ".JPEG", ".JPG", ".png", ".PNG", ".webp", ".gif", ".bmp")
Folders = tuple[Path, ...]


def find_file(folders: Folders, *stems: str, roots: Folders | None = None) -> Path | None:
    """The first of `stems` that exists in one of the folders, as it stands or with a picture's extension.

    Whoever wrote the rows may name any picture of the reader's disk: raises Skip for one that lies in none of the
    `roots` (default: the folders), links and absolute paths included.
    """
    outside = ""
    for stem in filter(None, stems):
        for folder in folders:
            for name in (stem, *(stem + extension for extension in EXTENSIONS)):
                path = folder / name
                if not _is_file(path):
                    continue
                if lies_in(path, *(folders if roots is None else roots)):
                    return path
                outside = outside or (stem if ".." not in PurePosixPath(stem).parts else "")
    if outside:
        raise Skip("picture outside the folder", f"{outside[:120]}; allow its folder with --images or images:")
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def named_by(address: str) -> str:
    """The file name under which the picture of an address is kept: the same on every machine, safe on every disk."""
    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def is_address(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def load_picture(source: Any, folders: Folders = (), *others: str, roots: Folders | None = None) -> Image:
    """The picture that a row names: bytes, base64, a `{bytes, path}` of the `datasets` library or another object with
    one of PARTS, a path within one of `folders`, or an address, which is looked for in the folders by `named_by`, by
    its last part and by `others`; `roots` as for `find_file`.

    Raises Skip: no picture is named, its file is missing or outside, it was never downloaded, it cannot be decoded.
    """
    while isinstance(source, Mapping):
        if source and not any(part in source for part in PARTS):
            raise Skip("picture in an unknown form", f"an object of {', '.join(map(str, source))}"[:120])
        source = next((source[part] for part in PARTS if not names_nothing(source.get(part))), None)
    if names_nothing(source):
        found = find_file(folders, *others, roots=roots)
        if found is None and any(others):
            raise Skip("picture file missing", next(filter(None, others))[:120])
        if found is None:
            raise Skip("no picture named")
        return _decode(found)
    if isinstance(source, bytearray | memoryview):
        source = bytes(source)
    if isinstance(source, Image | bytes):
        return _decode(source)
    if isinstance(source, float) and source.is_integer():  # a number in a column with gaps
        source = int(source)
    if not isinstance(source, str | Path | int):
        raise Skip("picture in an unknown form", f"a {type(source).__name__}")
    text = str(source).strip()
    if is_address(text):
        last = PurePosixPath(unquote(text.partition("?")[0].partition("#")[0])).name
        found = find_file(folders, named_by(text), *others, last, roots=roots)
        if found is None:
            raise Skip("picture not downloaded", text[:120])
        return _decode(found)
    # a path may look like base64, but no path is as long as a picture
    found = find_file(folders, *_spellings(text), *others, *_ends(text), roots=roots) if len(text) < 1024 else None
    if found is not None:
        return _decode(found)
    if (embedded := from_base64(text)) is not None:
        return _decode(embedded)
    raise Skip("picture file missing" if len(text) < 1024 else "picture cannot be decoded", text[:120])


_DEEPEST = 6
PARTS = ("bytes", "data", "base64", "b64", "path", "file_path", "file_name", "filename", "url", "image_url", "src")
_NOTHING = {"", "null", "none", "nan", "n/a", "<na>"}


def names_nothing(source: Any) -> bool:
    """An empty cell, as tables of any kind write it."""
    if isinstance(source, str):
        return source.strip().lower() in _NOTHING
    return source is None or source == b"" or (isinstance(source, float) and source != source)


def _spellings(text: str) -> tuple[str, ...]:
    """A path as it stands, and as other systems write it: with backslashes, escaped, as a `file:` address."""
    bare = re.sub(r"\Afile:(//[^/]*)?", "", text)
    return tuple(dict.fromkeys((text, bare, unquote(bare), unquote(bare).replace("\\", "/"))))


def _ends(text: str) -> tuple[str, ...]:
    """What is left of a path where the folders that it begins with are other ones here, the longest first."""
    parts = PurePosixPath(_spellings(text)[-1]).parts
    return tuple(str(PurePosixPath(*parts[place:])) for place in range(max(1, len(parts) - _DEEPEST), len(parts)))


def from_base64(text: str) -> bytes | None:
    """Bytes of a `data:` address or of bare base64, in its usual or its web alphabet, broken into lines or not, with or
    without the signs that fill it up; None for what is a path."""
    _head, comma, body = text.partition(",") if text[:5].lower() == "data:" else ("", "", text)
    body = "".join(body.split()).rstrip("=").translate(_WEB_ALPHABET)
    try:
        found = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None
    # the name of a file may be made of the same letters
    return found if comma or len(text) >= 1024 or found.startswith(BEGINNINGS) else None


_WEB_ALPHABET = str.maketrans("-_", "+/")
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def _decode(source: Image | bytes | Path) -> Image:
    try:
        return images.load(source)
    except UserError as error:
        kind = "truncated" if "truncated" in str(error) else "cannot be decoded"
        raise Skip(f"picture {kind}", str(error)[:160]) from None


def encode(image: Image, format: str = "PNG", quality: int = 92) -> bytes:
    """The picture as a file. PNG is exact; JPEG (without colour subsampling) and WEBP are about a tenth of its size."""
    buffer = io.BytesIO()
    match format:
        case "PNG":
            image.save(buffer, "PNG", compress_level=3)
        case "JPEG":
            image.save(buffer, "JPEG", quality=quality, subsampling=0)
        case "WEBP":
            image.save(buffer, "WEBP", quality=quality)
        case _:
            raise ValueError(f"pictures are kept as PNG, JPEG or WEBP, not {format!r}")
    return buffer.getvalue()
