"""What a picture looks like, as arrays: one global vector, local SIFT features, a thumbnail. No weights needed.

The global vector (HSV histogram, HOG, Lab on a 12 x 12 grid) finds the same picture recompressed, resized or cropped;
SIFT finds it inside another picture. All sizes are in pixels of the picture scaled to `SIDE` on its longer side.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from deepmmsearch.decoding import reduced
from deepmmsearch.errors import MissingExtra

SIDE = 512
MAX_UPSCALE = 2.5
SHORTEST = 8  # pixels of the shorter side at least, after reduction
THUMBNAIL = 256
GRID = 12
# relative weight of the three parts of the global vector in a cosine
WEIGHTS = {"hsv": 0.5, "hog": 0.7, "lab": 1.0}

_HSV, _HOG = 256, 576  # dimensions of the first two parts
CODE, CODE_GREY = 252, 180  # dimensions of a short code, and how many of them do not change with colours

Window = tuple[float, float, float, float]
WHOLE: Window = (0.0, 0.0, 1.0, 1.0)


def cv2_module() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingExtra("Image search", "engine") from None
    return cv2


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV and BLAS on one thread for the time of a call: on busy cores more threads are many times slower."""
    cv2 = cv2_module()
    pools = _thread_pools(len(sys.modules))
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with pools.limit(limits=1):
            yield
    finally:
        cv2.setNumThreads(before)


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> Any:
    """Looked for again, which takes 2 ms, when more has been imported (`modules`)."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        raise MissingExtra("Image search", "engine") from None
    return ThreadpoolController()


@dataclass(frozen=True)
class Features:
    """Local features: points float32 (n, 4: x, y, size, angle), descriptors uint8 (n, 128), in a picture of `width` x
    `height` pixels."""

    points: np.ndarray
    descriptors: np.ndarray
    width: int
    height: int


def pixels(image: Image.Image) -> np.ndarray:
    """uint8 (height, width, 3) RGB, longer side at most SIDE, shorter at least 8; transparency on white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image)
        image = ground
    return np.asarray(reduced(image.convert("RGB"), SIDE))


def thumbnail(image: np.ndarray) -> bytes:
    """JPEG, longer side THUMBNAIL at most."""
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    output = io.BytesIO()
    picture.save(output, "JPEG", quality=85)
    return output.getvalue()


def global_vector(image: np.ndarray, window: Window = WHOLE) -> np.ndarray:
    """float32 (dimensions,) of unit length, of a part of the picture given in fractions."""
    cv2 = cv2_module()
    height, width = image.shape[:2]
    left, right = int(window[0] * width), max(int(window[0] * width) + 2, round(window[2] * width))
    top, bottom = int(window[1] * height), max(int(window[1] * height) + 2, round(window[3] * height))
    part = cv2.resize(image[top:bottom, left:right], (64, 64), interpolation=cv2.INTER_AREA)
    parts = {"hsv": _hsv_histogram(part), "hog": _gradients(part), "lab": _lab_grid(part)}
    vector = np.concatenate(
        [WEIGHTS[name] * values / (np.linalg.norm(values) + 1e-6) for name, values in parts.items()]
    )
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def grey_part(vectors: np.ndarray) -> np.ndarray:
    """float32 (n, dimensions) of unit length: what of global vectors (n, dimensions) does not change with colours."""
    light = vectors[:, _HSV + _HOG :: 3].astype(np.float32)
    shape = vectors[:, _HSV : _HSV + _HOG].astype(np.float32)
    return _joined([(WEIGHTS["hog"], shape), (WEIGHTS["lab"], light)])


def short_code(vectors: np.ndarray) -> np.ndarray:
    """int8 (n, CODE): global vectors (n, dimensions) on a grid half as fine: they choose what is compared whole."""
    n = len(vectors)
    values = vectors.astype(np.float32)
    shape = values[:, _HSV : _HSV + _HOG].reshape(n, 4, 2, 4, 2, 9).mean((2, 4)).reshape(n, -1)
    cells = values[:, _HSV + _HOG :].reshape(n, GRID // 2, 2, GRID // 2, 2, 3).mean((2, 4))
    light, colour = cells[..., 0].reshape(n, -1), cells[..., 1:].reshape(n, -1)
    strength = np.linalg.norm(np.concatenate([light, colour], 1), axis=1, keepdims=True) + 1e-6
    parts = [0.7 * shape / (np.linalg.norm(shape, axis=1, keepdims=True) + 1e-6), light / strength, colour / strength]
    return np.asarray(np.clip(np.rint(np.concatenate(parts, 1) * 254), -127, 127).astype(np.int8))


def _joined(parts: list[tuple[float, np.ndarray]]) -> np.ndarray:
    scaled = [w * values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-6) for w, values in parts]
    vector = np.concatenate(scaled, 1)
    return np.asarray(vector / (np.linalg.norm(vector, axis=1, keepdims=True) + 1e-9), np.float32)


def _hsv_histogram(part: np.ndarray) -> np.ndarray:
    cv2 = cv2_module()
    hsv = cv2.cvtColor(part, cv2.COLOR_RGB2HSV)
    colour = cv2.calcHist([hsv], [0, 1, 2], None, [16, 4, 4], [0, 180, 0, 256, 0, 256]).ravel()
    return np.sqrt(colour)


def _gradients(part: np.ndarray, cells: int = 8, bins: int = 9) -> np.ndarray:
    """Histograms of unsigned gradient directions over a grid of cells (Dalal and Triggs 2005), per-block normalised."""
    cv2 = cv2_module()
    grey = cv2.GaussianBlur(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), (3, 3), 0).astype(np.float32)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    magnitude, angle = cv2.cartToPolar(dx, dy)
    position = (angle % np.pi) / np.pi * bins
    low = position.astype(int)
    share = position - low
    side = part.shape[0] // cells
    cell = (np.arange(part.shape[0]) // side)[:, None] * cells + np.arange(part.shape[1]) // side
    flat = np.bincount((cell * bins + low % bins).ravel(), ((1 - share) * magnitude).ravel(), cells * cells * bins)
    flat += np.bincount((cell * bins + (low + 1) % bins).ravel(), (share * magnitude).ravel(), cells * cells * bins)
    histogram = flat.reshape(cells, cells, bins)
    return np.sqrt(histogram / (histogram.sum() + 1e-6)).ravel()


def _lab_grid(part: np.ndarray) -> np.ndarray:
    return (lab(part, GRID, GRID) * np.array([1.0, 1.5, 1.5], np.float32) / 50).ravel()


def lab(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """float32 (height, width, 3): L - 50, a, b on a coarse grid."""
    cv2 = cv2_module()
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    converted = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(converted - np.array([50, 0, 0], np.float32), np.float32)


def local_features(image: np.ndarray, limit: int, side: int = SIDE) -> Features:
    """The strongest SIFT features (Lowe 2004) of the picture scaled to `side`, whose square is what it costs. Small
    pictures are enlarged: a crop has few features else."""
    cv2 = cv2_module()
    height, width = image.shape[:2]
    factor = min(MAX_UPSCALE, side / max(height, width))
    scaled = image
    if abs(factor - 1) > 0.05:
        size = (round(width * factor), round(height * factor))
        scaled = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA)
    grey = cv2.cvtColor(scaled, cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT_create(nfeatures=limit, contrastThreshold=0.03)
    points, descriptors = sift.detectAndCompute(grey, None)
    height, width = grey.shape
    if descriptors is None:
        return Features(np.zeros((0, 4), np.float32), np.zeros((0, 128), np.uint8), width, height)
    # on equal responses OpenCV keeps more than asked for
    order = np.argsort([-p.response for p in points], kind="stable")[:limit]
    rows = np.array([(*points[i].pt, points[i].size, points[i].angle) for i in order], np.float32)
    return Features(rows, np.clip(descriptors[order], 0, 255).astype(np.uint8), width, height)


def mirrored(features: Features) -> Features:
    """The features of the mirrored picture, about: SIFT's frame turns over, so its rows and directions change order."""
    points = features.points * np.array([-1, 1, 1, -1], np.float32)
    points += np.array([features.width, 0, 0, 180], np.float32)
    cells = features.descriptors.reshape(-1, 4, 4, 8)[:, ::-1][..., -np.arange(8)]
    return Features(points, cells.reshape(-1, 128), features.width, features.height)


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Hellinger-normalised, float32 (n, 128) of unit length (Arandjelovic and Zisserman 2012)."""
    values = descriptors.astype(np.float32)
    return np.asarray(np.sqrt(values / (values.sum(1, keepdims=True) + 1e-6)), np.float32)
