"""The bytes of a picture -> upright RGB pixels. They were written by strangers: `images` has this done in a process of
its own, which runs this module."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from deepmmsearch.children import Pieces
from deepmmsearch.confined import CONTENT, serve
from deepmmsearch.containers import frames, scans
from deepmmsearch.errors import MissingExtra, UserError

NAMED = "JPEG, PNG, WebP, GIF, BMP or TIFF"
# how files of HEIC begin, after four bytes
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypheis", b"ftypmif1", b"ftypmsf1")
MAX_FRAMES = 1_000
# Of a JPEG: cameras and encoders write about ten scans, hostile files thousands.
MAX_SCANS = 100
# Over all scans of a JPEG, as a multiple of the pixels that it may have.
MAX_PASSES = 20

_PLUGINS = ("Avif", "Bmp", "Gif", "Jpeg", "Mpo", "Png", "Tiff", "WebP")
_BAND = 256  # rows that are worked on at once


def decode(content: bytes, label: str, max_pixels: int, formats: tuple[str, ...], side: int = 0) -> Image.Image:
    """The picture as upright RGB, alpha on white, first frame. `label` stands in messages; with `side`, a JPEG both
    of whose sides are at least twice that is decoded at a half, quarter or eighth of its size, in half the time.

    Raises UserError when it is truncated or damaged, of none of the `formats`, has more than `max_pixels` pixels or
    MAX_FRAMES frames, or would be gone over too often (all told by its header, before anything is decoded).
    """
    # Pillow warns of odd metadata and of sizes between one and two times its own limit: ours is the one that counts,
    # and who gave the picture gets one sentence or none.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _opened(content, label, max_pixels, formats) as image:
            check_size(image.size, max_pixels, label)
            _check_container(image, content, label, max_pixels)
            if side:
                image.draft(None, (side, side))
            return upright_rgb(image, label)


def check_size(size: tuple[int, int], max_pixels: int, label: str) -> None:
    """Raises UserError."""
    if size[0] * size[1] == 0:
        raise UserError(f"{label} has no pixels ({size[0]} x {size[1]}). Give another picture.")
    if size[0] * size[1] > max_pixels:
        raise UserError(_too_large(f"{label} ({size[0]} x {size[1]})", max_pixels))


def upright_rgb(image: Image.Image, label: str) -> Image.Image:
    """The picture itself where it is upright RGB already. Raises UserError when it cannot be decoded."""
    # Decoders of untrusted files raise far more than OSError (SyntaxError, struct.error, zlib.error, ...).
    try:
        image.load()
        return _to_rgb(_upright(image))
    except Exception as error:
        cause = "truncated" if "truncated" in str(error) or isinstance(error, EOFError) else "damaged"
        raise UserError(f"{label} is {cause} and cannot be decoded. Save the picture again.") from None


def reduced(image: Image.Image, side: int) -> Image.Image:
    """With a longer side of at most `side` pixels and a shorter one of at least 8."""
    factor = min(1.0, side / max(image.size))
    size = (max(8, round(image.width * factor)), max(8, round(image.height * factor)))
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC)


def _opened(content: bytes, label: str, max_pixels: int, formats: tuple[str, ...]) -> Image.Image:
    if content[4:12] in _HEIC and "HEIF" in formats and "HEIF" not in Image.OPEN:
        raise MissingExtra("Reading HEIC pictures", "documents")
    try:
        return Image.open(io.BytesIO(content), formats=[name for name in formats if name in Image.OPEN])
    except Image.DecompressionBombError:
        raise UserError(_too_large(label, max_pixels)) from None
    except UnidentifiedImageError:
        raise UserError(f"{label} is not a picture that can be read. Give a {NAMED} file.") from None
    # A broken header raises whatever the format's parser trips over; the file is untrusted.
    except Exception as error:
        raise UserError(f"{label} is damaged ({type(error).__name__}). Save the picture again.") from None


def _check_container(image: Image.Image, content: bytes, label: str, max_pixels: int) -> None:
    try:
        count, times = frames(image, content, MAX_FRAMES), scans(image, content)
    except Exception as error:  # as in _opened
        raise UserError(f"{label} is damaged ({type(error).__name__}). Save the picture again.") from None
    if count > MAX_FRAMES:
        raise UserError(f"{label} has more than {MAX_FRAMES} frames. Give a single picture.")
    if times > MAX_SCANS or image.width * image.height * times > MAX_PASSES * max_pixels:
        raise UserError(f"{label} is a JPEG of {times} scans, which takes too long to decode. Save the picture again.")


def _too_large(label: str, max_pixels: int) -> str:
    return f"{label} is too large: more than {max_pixels / 1e6:g} megapixels. Make the picture smaller."


def _upright(image: Image.Image) -> Image.Image:
    # A broken EXIF block must not cost the picture: it is then taken as it lies.
    try:
        turned = image.getexif().get(Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _from_numbers(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        for top in range(0, rgba.height, _BAND):  # the whole at once would take four times its memory
            band = rgba.crop((0, top, rgba.width, min(top + _BAND, rgba.height)))
            under = Image.new("RGBA", band.size, (255, 255, 255, 255))
            white.paste(Image.alpha_composite(under, band).convert("RGB"), (0, top))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_numbers(image: Image.Image) -> Image.Image:
    """A picture of 16 or 32 bits or floats as 8 bits: Pillow's own conversion clips at 255, which shows white."""
    # hardly any picture needs it, and it takes longer to import than all else here
    import numpy as np

    values = np.asarray(image)
    bands = range(0, len(values), _BAND)

    def band(top: int) -> np.ndarray:
        return np.nan_to_num(values[top : top + _BAND].astype(np.float64), posinf=0.0, neginf=0.0)

    brightest = max(float(band(top).max()) for top in bands)
    ranges = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0)}.get(image.mode, (65535.0,))
    white = next((w for w in ranges if brightest <= w), brightest)
    pixels = np.empty(values.shape, np.uint8)
    for top in bands:
        pixels[top : top + _BAND] = np.clip(band(top) / white * 255.0, 0, 255).round()
    return Image.fromarray(pixels).convert("RGB")


# In the process


def _answered(request: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    try:
        picture = decode(content, request["label"], request["max_pixels"], tuple(request["formats"]), request["side"])
    except UserError as error:
        return {"refused": str(error)}
    if request["side"]:
        picture = reduced(picture, request["side"])
    if request["kept"]:
        return {"size": picture.size}
    return {"size": picture.size, CONTENT: Pieces(3 * picture.width * picture.height, _bands(picture))}


def _bands(picture: Image.Image) -> Iterator[bytes]:
    """Its pixels: of 12 megapixels those of the whole take six times as long."""
    for top in range(0, picture.height, _BAND):
        yield picture.crop((0, top, picture.width, min(top + _BAND, picture.height))).tobytes()


if __name__ == "__main__":
    # these alone: for one that it does not know Pillow would import all that it has
    for plugin in _PLUGINS:
        importlib.import_module(f"PIL.{plugin}ImagePlugin")
    with contextlib.suppress(ImportError):
        importlib.import_module("pi_heif").register_heif_opener()
    serve(_answered, ("numpy",))
