"""The pictures of published data: bytes, base64, files beside the annotations, addresses that may be dead."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

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
    return text.startswith(("http://", "https://"))


def load_picture(source: Any, folders: Folders = (), *others: str, roots: Folders | None = None) -> Image:
    """The picture that a row names: bytes, base64, a `{bytes, path}` of the `datasets` library, a path within one of
    `folders`, or an address, which is looked for in the folders by `named_by`, by its last part and by `others`;
    `roots` as for `find_file`.

    Raises Skip: no picture is named, its file is missing or outside, it was never downloaded, it cannot be decoded.
    """
    if isinstance(source, Mapping):
        source = source.get("bytes") or source.get("path")
    if source is None or source == b"" or (isinstance(source, str) and source.strip().lower() in _NOTHING):
        found = find_file(folders, *others, roots=roots)
        if found is None:
            raise Skip("no picture named")
        return _decode(found)
    if isinstance(source, Image | bytes):
        return _decode(source)
    text = str(source).strip()
    if is_address(text):
        last = PurePosixPath(unquote(urlsplit(text).path)).name
        found = find_file(folders, named_by(text), *others, last, roots=roots)
        if found is None:
            raise Skip("picture not downloaded", text[:120])
        return _decode(found)
    # a path may look like base64, but no path is as long as a picture
    names = (text, *others, PurePosixPath(text).name)
    found = find_file(folders, *names, roots=roots) if len(text) < 1024 else None
    if found is not None:
        return _decode(found)
    if (embedded := _from_base64(text)) is not None:
        return _decode(embedded)
    raise Skip("picture file missing", text[:120])


_NOTHING = {"", "null", "none", "nan"}


def _from_base64(text: str) -> bytes | None:
    """Bytes of a `data:` address or of bare base64; None for what is a path."""
    body = text.split(",", 1)[1] if text.startswith("data:") and "," in text else text
    if len(body) < 64 and body is text:
        return None
    try:
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        return None


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
