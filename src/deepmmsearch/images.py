"""Every pixel in the system has passed here: checked, upright, RGB, and resized once.

Sizes are (width, height) in pixels; boxes are in pixels of the image they were located in.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deepmmsearch.containers import frames, scans
from deepmmsearch.errors import UserError
from deepmmsearch.files import replacing
from deepmmsearch.types import Box

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 80_000_000
MAX_FRAMES = 1_000
# Of a progressive JPEG: cameras and encoders write about ten scans, hostile files thousands.
MAX_SCANNED_PIXELS = 20 * MAX_PIXELS
# What strangers send: the formats of the web, and no more pixels than fit into some hundred megabytes while decoded.
WEB_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
WEB_PIXELS = 25_000_000
MAX_RATIO = 180.0
# the side of the square that Qwen2-VL and Qwen2.5-VL make one token of
CELL = 28

_NAMED = "JPEG, PNG, WebP, GIF, BMP or TIFF"
_BAND = 256  # rows that are worked on at once


def load(
    source: str | Path | bytes | Image.Image,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] = FORMATS,
    name: str = "",
) -> Image.Image:
    """The picture as upright RGB, alpha on white, first frame, without metadata. `name` stands in messages for bytes.

    Raises UserError when it is missing, empty, truncated, of none of the `formats`, has more than `max_pixels` pixels
    or MAX_FRAMES frames, or would be gone over too often (all told by its header, before anything is decoded).
    """
    if isinstance(source, Image.Image):
        label = name or "the picture"
        _check_size(source.size, max_pixels, label)
        return _decode(source, label)
    if isinstance(source, bytes):
        label = name or "the picture"
        if not source:
            raise UserError(f"There are no bytes in {label}. Give a {_NAMED} picture.")
        return _open(source, label, max_pixels, formats)
    return _open(_existing(source), name or str(source), max_pixels, formats)


def digest(image: Image.Image) -> str:
    """sha256 of size and pixels (hexadecimal): the name of the image everywhere."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return hashlib.sha256(b"%dx%d:" % rgb.size + rgb.tobytes()).hexdigest()


def save(image: Image.Image, folder: Path) -> Path:
    """Writes `folder`/<sha256>.png unless it is there, and gives its path. Never leaves a half-written file."""
    path = folder / f"{digest(image)}.png"
    if path.exists():
        return path
    with replacing(path, durable=True) as draft:
        image.convert("RGB").save(draft, "PNG", compress_level=3)
    return path


def data_url(image: Image.Image, format: Literal["PNG", "JPEG"] = "PNG", quality: int = 95) -> str:
    """The image as a `data:` address, as OpenAI-compatible endpoints take it. PNG is exact; JPEG keeps the colours'
    resolution and takes a ninth of the time for less than half the bytes."""
    buffer = io.BytesIO()
    # sent, not kept: the lightest compression takes a third of the time for a tenth more bytes
    options = {"quality": quality, "subsampling": 0} if format == "JPEG" else {"compress_level": 1}
    image.convert("RGB").save(buffer, format, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def view_size(size: tuple[int, int], min_pixels: int, max_pixels: int, multiple: int = CELL) -> tuple[int, int]:
    """The size at which the model sees a picture: sides are multiples of `multiple`, the area is within the bounds, the
    aspect ratio is kept as well as both allow. Where Qwen's smart_resize keeps the bounds too, it is the same size, so
    that its processor has nothing left to resize.

    Raises UserError when no such size exists.
    """
    width, height = size
    w, h = (max(multiple, round(side / multiple) * multiple) for side in size)
    if w * h > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        w, h = (max(multiple, math.floor(side / shrink / multiple) * multiple) for side in size)
    elif w * h < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        w, h = (math.ceil(side * grow / multiple) * multiple for side in size)
    if min_pixels <= w * h <= max_pixels and max(w / h, h / w) <= MAX_RATIO:
        return w, h
    return _nearest_size(width / height, min_pixels, max_pixels, multiple)


def model_view(image: Image.Image, min_pixels: int, max_pixels: int, multiple: int = CELL) -> Image.Image:
    """The picture as the model sees it: resized once, here and nowhere else. See `view_size`."""
    size = view_size(image.size, min_pixels, max_pixels, multiple)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def clamp(box: Box, size: tuple[int, int]) -> Box:
    """The part of the box that lies within an image of that size."""
    width, height = size
    left, right = min(max(box.left, 0.0), width), min(max(box.right, 0.0), width)
    top, bottom = min(max(box.top, 0.0), height), min(max(box.bottom, 0.0), height)
    return Box(left, top, max(left, right), max(top, bottom), box.score, box.label)


def scale(box: Box, seen: tuple[int, int], original: tuple[int, int]) -> Box:
    """The box in pixels of the original, from pixels of the view it was located in."""
    x, y = original[0] / seen[0], original[1] / seen[1]
    return Box(box.left * x, box.top * y, box.right * x, box.bottom * y, box.score, box.label)


def crop(image: Image.Image, box: Box, padding: float = 0.05) -> Image.Image:
    """What the box shows, with `padding` (a share of its sides) around it, within the image; at least 1 x 1 pixel.

    Raises ValueError for a box that is not finite.
    """
    if not all(math.isfinite(v) for v in (box.left, box.top, box.right, box.bottom)):
        raise ValueError(f"A crop needs a finite box, got {box}.")
    dx, dy = padding * (box.right - box.left), padding * (box.bottom - box.top)
    padded = clamp(Box(box.left - dx, box.top - dy, box.right + dx, box.bottom + dy), image.size)
    left, top = min(math.floor(padded.left), image.width - 1), min(math.floor(padded.top), image.height - 1)
    return image.crop((left, top, max(left + 1, math.ceil(padded.right)), max(top + 1, math.ceil(padded.bottom))))


def _existing(source: str | Path) -> Path:
    text = str(source)
    if text.startswith(("http://", "https://", "data:")):
        raise UserError(f"{text[:80]!r} is an address, not a file. Save the picture and give its path.")
    path = Path(source)
    try:
        if not path.exists():
            raise UserError(f"There is no picture at {text!r}. Check the path.")
        if not path.is_file():
            raise UserError(f"{text!r} is not a file. Give the path of a {_NAMED} picture.")
        if path.stat().st_size == 0:
            raise UserError(f"The file {text!r} is empty. Give a {_NAMED} picture.")
    except (OSError, ValueError) as error:
        raise UserError(f"The path {text[:80]!r} cannot be used ({error}). Check it.") from None
    return path


def _open(source: Path | bytes, label: str, max_pixels: int, formats: tuple[str, ...]) -> Image.Image:
    # Pillow warns of odd metadata and of sizes between one and two times its own limit: ours is the one that counts,
    # and who gave the picture gets one sentence or none.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _opened(source, label, max_pixels, formats) as image:
            _check_size(image.size, max_pixels, label)
            _check_container(image, source, label)
            return _decode(image, label)


def _opened(source: Path | bytes, label: str, max_pixels: int, formats: tuple[str, ...]) -> Image.Image:
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)
    except Image.DecompressionBombError:
        raise UserError(_too_large(label, max_pixels)) from None
    except UnidentifiedImageError:
        raise UserError(f"{label} is not a picture that can be read. Give a {_NAMED} file.") from None
    except PermissionError:
        raise UserError(f"{label} may not be read (permission denied). Change its permissions.") from None
    # A broken header raises whatever the format's parser trips over; the file is untrusted.
    except Exception as error:
        raise UserError(f"{label} is damaged ({type(error).__name__}). Save the picture again.") from None


def _check_size(size: tuple[int, int], max_pixels: int, label: str) -> None:
    if size[0] * size[1] == 0:
        raise UserError(f"{label} has no pixels ({size[0]} x {size[1]}). Give another picture.")
    if size[0] * size[1] > max_pixels:
        raise UserError(_too_large(f"{label} ({size[0]} x {size[1]})", max_pixels))


def _check_container(image: Image.Image, source: Path | bytes, label: str) -> None:
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        count, times = frames(image, content, MAX_FRAMES), scans(image, content)
    except Exception as error:  # as in _opened
        raise UserError(f"{label} is damaged ({type(error).__name__}). Save the picture again.") from None
    if count > MAX_FRAMES:
        raise UserError(f"{label} has more than {MAX_FRAMES} frames. Give a single picture.")
    if image.width * image.height * times > MAX_SCANNED_PIXELS:
        raise UserError(f"{label} is a JPEG of {times} scans, which takes too long to decode. Save the picture again.")


def _too_large(label: str, max_pixels: int) -> str:
    return f"{label} is too large: more than {max_pixels / 1e6:g} megapixels. Make the picture smaller."


def _decode(image: Image.Image, label: str) -> Image.Image:
    # Decoders of untrusted files raise far more than OSError (SyntaxError, struct.error, zlib.error, ...).
    try:
        image.load()
        rgb = _to_rgb(_upright(image))
    except Exception as error:
        cause = "truncated" if "truncated" in str(error) or isinstance(error, EOFError) else "damaged"
        raise UserError(f"{label} is {cause} and cannot be decoded. Save the picture again.") from None
    rgb.info = {}
    return rgb


def _upright(image: Image.Image) -> Image.Image:
    # A broken EXIF block must not cost the picture: it is then taken as it lies.
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _from_numbers(np.asarray(image), image.mode)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        for top in range(0, rgba.height, _BAND):  # the whole at once would take four times its memory
            band = rgba.crop((0, top, rgba.width, min(top + _BAND, rgba.height)))
            under = Image.new("RGBA", band.size, (255, 255, 255, 255))
            white.paste(Image.alpha_composite(under, band).convert("RGB"), (0, top))
        return white
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _from_numbers(values: np.ndarray, mode: str) -> Image.Image:
    """A picture of 16 or 32 bits or floats as 8 bits: Pillow's own conversion clips at 255, which shows white."""
    bands = range(0, len(values), _BAND)

    def band(top: int) -> np.ndarray:
        return np.nan_to_num(values[top : top + _BAND].astype(np.float64), posinf=0.0, neginf=0.0)

    brightest = max(float(band(top).max()) for top in bands)
    ranges = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0)}.get(mode, (65535.0,))
    white = next((w for w in ranges if brightest <= w), brightest)
    pixels = np.empty(values.shape, np.uint8)
    for top in bands:
        pixels[top : top + _BAND] = np.clip(band(top) / white * 255.0, 0, 255).round()
    return Image.fromarray(pixels).convert("RGB")


def _nearest_size(ratio: float, min_pixels: int, max_pixels: int, multiple: int) -> tuple[int, int]:
    """For pictures so long that rounding leaves the bounds: the allowed size with the nearest aspect ratio."""
    cells = max_pixels // multiple**2
    best: tuple[float, tuple[int, int]] | None = None
    for rows in range(1, cells + 1):
        fewest = max(1, math.ceil(min_pixels / multiple**2 / rows), math.ceil(rows / MAX_RATIO))
        most = min(cells // rows, math.floor(rows * MAX_RATIO))
        if fewest > most:
            continue
        columns = min(max(round(rows * ratio), fewest), most)
        found = (abs(math.log(columns / rows / ratio)), (columns * multiple, rows * multiple))
        best = min(best, found) if best else found
    if best is None:
        raise UserError(
            f"No picture with sides that are multiples of {multiple} has between {min_pixels} and {max_pixels} pixels. "
            f"Set max_pixels to at least {multiple**2} and min_pixels well below it."
        )
    return best[1]
