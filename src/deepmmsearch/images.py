"""Every pixel in the system has passed here: checked, upright, RGB, and resized once.

A picture's bytes may be anybody's. They are decoded (`decoding`) in a process that can be killed and finds neither
network nor files, which hands back plain pixels.

Sizes are (width, height) in pixels; boxes are in pixels of the image they were located in.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import index
from pathlib import Path
from queue import LifoQueue
from typing import Any, Literal

from PIL import Image

from deepmmsearch.confined import CONTENT, Worker
from deepmmsearch.decoding import NAMED, check_size, reduced, upright_rgb
from deepmmsearch.errors import Failed, Unreadable, UserError
from deepmmsearch.files import replacing
from deepmmsearch.png import png_pieces
from deepmmsearch.types import Box

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
MAX_PIXELS = 80_000_000
MAX_BYTES = 500_000_000
# What strangers send: the formats of the web, and no more pixels than fit into some hundred megabytes while decoded.
WEB_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
WEB_PIXELS = 25_000_000
MAX_RATIO = 180.0
# the side of the square that Qwen2-VL and Qwen2.5-VL make one token of
CELL = 28

WORKERS = 2
"""Processes that decode, each started when it is needed."""
SECONDS, SECONDS_PER_MEGAPIXEL = 1.0, 0.15
"""Of processor time for a picture, with the pixels that it may have."""


def load(
    source: str | Path | bytes | Image.Image,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] = FORMATS,
    name: str = "",
    side: int = 0,
) -> Image.Image:
    """The picture as upright RGB, alpha on white, first frame, without metadata. `name` stands in messages for bytes;
    with `side` it is `decoding.reduced` to that.

    Raises UserError when it is missing, empty, truncated, of none of the `formats`, has more than `max_pixels` pixels
    or `decoding.MAX_FRAMES` frames, would be gone over too often (all told by its header, before anything is decoded),
    or takes too long or too much memory.
    """
    if not isinstance(source, Image.Image):
        return loading(source, max_pixels=max_pixels, formats=formats, name=name, side=side).result()
    label = name or "the picture"
    check_size(source.size, max_pixels, label)
    rgb = upright_rgb(source, label)
    if side:
        rgb = reduced(rgb, side)
    if rgb is source:
        rgb = source.copy()
    rgb.info = {}
    return rgb


def loading(
    source: str | Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] = FORMATS,
    name: str = "",
    side: int = 0,
    kept: bool = False,
) -> Future[Image.Image]:
    """`load`, under way in another process, for who must not wait. What it raises, this raises, or the future. `kept`:
    a KeptPicture, without its pixels, which take as long to hand over as to decode."""
    label = name or ("the picture" if isinstance(source, bytes) else str(source))
    content = source if isinstance(source, bytes) else _read(_existing(source), label)
    if not content:
        raise UserError(f"There are no bytes in {label}. Give a {NAMED} picture.")
    request = {"label": label, "max_pixels": max_pixels, "formats": formats, "side": side, "kept": kept}
    threads, workers = _decoders(os.getpid(), formats)
    return threads.submit(_decoded, workers, request, content)


@dataclass(frozen=True, eq=False)
class Upload:
    """The bytes of a picture that has been decoded, and what `load` was asked for."""

    content: bytes
    max_pixels: int
    formats: tuple[str, ...]


class KeptPicture(Image.Image):
    """A picture whose pixels are in memory only while somebody looks at them: they come from what was uploaded and,
    once it lies there, from the disk. Whoever changes it has an ordinary one from then on."""

    def __init__(self, size: tuple[int, int], source: Upload | None = None) -> None:
        super().__init__()
        self._mode, self._size, self.readonly = "RGB", size, 1
        self._source: Upload | Path | None = source

    @classmethod
    def of(cls, image: Image.Image) -> KeptPicture:
        """The same picture as `image`, its pixels in memory until it lies on the disk."""
        if isinstance(image, KeptPicture):
            return image
        made = cls(image.size)
        made.info = dict(image.info)
        made._im = image.convert("RGB").im
        return made

    @property
    def path(self) -> Path | None:
        return self._source if isinstance(self._source, Path) else None

    def keep(self, path: Path) -> None:
        """`path`: where `save` wrote it."""
        if self.readonly:
            self._source, self._im = path, None

    @property
    def im(self) -> Image.core.ImagingCore:
        source = self._source
        return super().im if source is None else _pixels(source).im

    @im.setter
    def im(self, im: Image.core.ImagingCore) -> None:
        self._im, self._source = im, None

    def load(self) -> Any:
        return self.im.pixel_access(self.readonly)


# of those that are looked at now: their next look needs no decoding
@lru_cache(maxsize=2)
def _pixels(source: Upload | Path) -> Image.Image:
    if isinstance(source, Path):
        return load(source)
    return load(source.content, max_pixels=source.max_pixels, formats=source.formats)


def digest(image: Image.Image) -> str:
    """sha256 of size and pixels (hexadecimal): the name of the image everywhere."""
    if isinstance(image, KeptPicture) and image.path is not None:
        return image.path.stem
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return hashlib.sha256(b"%dx%d:" % rgb.size + rgb.tobytes()).hexdigest()


def save(image: Image.Image, folder: Path, *, private: bool = False, packed: bool = True) -> Path:
    """Writes `folder`/<sha256>.png unless it is there, and gives its path. Never leaves a half-written file. `private`:
    for its owner alone, as is the folder if it is new. Not `packed`: in a tenth of the time, as large as the pixels;
    `pack` makes it smaller later."""
    path = folder / f"{digest(image)}.png"
    if not path.exists():
        _write(image, path, private, packed)
    return path


def pack(path: Path) -> None:
    """Makes the file of a picture that was not packed smaller; nothing else may remove it meanwhile. Raises UserError,
    OSError."""
    image = load(path)
    if path.stat().st_size > 3 * image.width * image.height:
        _write(image, path, private=True, packed=True)


def _write(image: Image.Image, path: Path, private: bool, packed: bool) -> None:
    with replacing(path, durable=True, private=private) as draft, draft.open("wb") as file:
        file.writelines(png_pieces(image.convert("RGB"), packed=packed))


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
            raise UserError(f"{text!r} is not a file. Give the path of a {NAMED} picture.")
        if path.stat().st_size == 0:
            raise UserError(f"The file {text!r} is empty. Give a {NAMED} picture.")
    except (OSError, ValueError) as error:
        raise UserError(f"The path {text[:80]!r} cannot be used ({error}). Check it.") from None
    return path


def _read(path: Path, label: str) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{label} is too large: more than {MAX_BYTES / 1e6:g} MB. Make the picture smaller.")
        return path.read_bytes()
    except PermissionError:
        raise UserError(f"{label} may not be read (permission denied). Change its permissions.") from None
    except OSError as error:
        raise UserError(f"{label} cannot be read ({error.strerror or error}). Check it.") from None


@cache
def _decoders(process: int, formats: tuple[str, ...]) -> tuple[ThreadPoolExecutor, LifoQueue[Worker]]:
    """Of one process, for those that a fork inherits answer its parent; and of the `formats` that a place takes, so
    that pictures from the web neither delay those of an index or a store nor meet them. They end with their threads,
    which live as long as the process does."""
    workers: LifoQueue[Worker] = LifoQueue()  # the last one is started already
    for _ in range(WORKERS):
        workers.put(Worker("deepmmsearch.decoding", SECONDS))
    return ThreadPoolExecutor(WORKERS, thread_name_prefix="pictures"), workers


def _decoded(workers: LifoQueue[Worker], request: Mapping[str, Any], content: bytes) -> Image.Image:
    label, seconds = request["label"], SECONDS + SECONDS_PER_MEGAPIXEL * request["max_pixels"] / 1e6
    worker = workers.get()
    try:
        answer = worker.ask(request, content, seconds)
    except Unreadable as error:
        raise UserError(f"{label} cannot be decoded: {error}. Save the picture again.") from None
    except OSError as error:
        raise Failed(f"No process can be started in which {label} is decoded ({error.strerror or error}).") from None
    finally:
        workers.put(worker)
    if "refused" in answer:
        raise UserError(str(answer["refused"])[:1000])
    try:
        width, height = map(index, answer["size"])
        if request["kept"]:
            return KeptPicture((width, height), Upload(content, request["max_pixels"], request["formats"]))
        if len(answer[CONTENT]) != 3 * width * height:
            raise ValueError(answer["size"])
        return Image.frombytes("RGB", (width, height), answer[CONTENT])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{label} cannot be decoded: its extraction failed. Save the picture again.") from None


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
