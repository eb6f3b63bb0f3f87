"""Where in a query a known picture shows, and how well it agrees once laid over it.

Two ways to propose a place: similarity transforms over SIFT matches (RANSAC) for pictures with texture, colour windows
at many scales for plain ones (flags have a handful of features). Gauss-Newton alignment refines both, and the colour
agreement after that decides. A transform is a 2 x 3 matrix from picture to query, both in fractions of their sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deepmmsearch.engine import descriptors as d

GRID = 24
CELLS = 6
MAX_FLAT = 0.9
PLAIN = 0.88  # agreement with its own mean from which a picture is plain
GREY = 2.0  # mean strength of colours (Lab) below which a picture has none
LIGHT = 20.0  # brightness that light may add or take, of 100
GAIN = 1.3  # contrast and saturation that light may change, as a factor either way
WHOLE, PARTLY = 0.99, 0.35  # share of a picture that must lie in the query to count as all of it, to count at all
HOPELESS = 0.3  # agreement below which five turns of alignment were in vain
COARSE = 144  # longer side of the query in which windows are compared, pixels
SCALES = (0.17, 0.21, 0.26, 0.33, 0.42, 0.54, 0.7, 0.9)
ASPECTS = (0.75, 1.0, 1.5)
MAX_COMPARISONS = 12_000_000


# means over the cells of a grid, from both sides
_BLOCKS = np.kron(np.eye(CELLS), np.full((1, GRID // CELLS), CELLS / GRID)).astype(np.float32)
_EVERYWHERE = np.ones((GRID, GRID), np.float32)


@dataclass(frozen=True)
class Placement:
    """`agreement` in [0, 1]; `inliers`: distinct SIFT matches behind it, 0 for colour windows."""

    matrix: np.ndarray
    agreement: float
    inliers: int = 0

    @property
    def corners(self) -> np.ndarray:
        return np.asarray(np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], float) @ self.matrix.T)

    @property
    def region(self) -> tuple[float, float, float, float]:
        (left, top), (right, bottom) = self.corners.min(0), self.corners.max(0)
        return float(left), float(top), float(right), float(bottom)


class Scene:
    """A query as a pyramid of Lab pictures, from which regions are sampled; without colours where `grey`."""

    def __init__(self, pixels: np.ndarray, grey: bool = False) -> None:
        cv2 = d.cv2_module()
        self.height, self.width = pixels.shape[:2]
        level = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        if grey:
            level[..., 1:] = 0
        self.levels = [level]
        while min(level.shape[:2]) > 2 * GRID:
            height, width = level.shape[:2]
            # not pyrDown: it stands on even pixels, which shifts every level by half a pixel
            level = cv2.resize(level, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
            self.levels.append(level)

    def sample(self, matrix: np.ndarray, size: int) -> np.ndarray:
        """float32 (size, size, 3) Lab under the transform, from the level that is about as coarse."""
        cv2 = d.cv2_module()
        across = math.hypot(matrix[0, 0] * self.width, matrix[1, 0] * self.height)
        down = math.hypot(matrix[0, 1] * self.width, matrix[1, 1] * self.height)
        fine = 2 * size  # sampled finer, then averaged, like the grids of the pictures
        coarseness = max(min(across, down) / fine, 1.0)
        level = self.levels[min(int(math.log2(coarseness)), len(self.levels) - 1)]
        height, width = level.shape[:2]
        # grid point i stands at (i + 0.5) / fine of the picture, pixel j of the level at j + 0.5
        to_level = matrix * np.array([[width], [height]])
        to_level[:, :2] /= fine
        to_level[:, 2] += 0.5 * to_level[:, :2].sum(1) - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        found = cv2.warpAffine(level, to_level, (fine, fine), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.resize(found, (size, size), interpolation=cv2.INTER_AREA))


@dataclass(frozen=True)
class Template:
    """A picture to look for: Lab on a grid, and what Gauss-Newton needs of it."""

    grid: np.ndarray
    descent: np.ndarray
    flat: float


def grid(pixels: np.ndarray) -> np.ndarray:
    """float32 (GRID, GRID, 3) Lab of uint8 RGB pixels of any size."""
    return d.lab(pixels, GRID, GRID) + np.array([50, 0, 0], np.float32)


def template(grid: np.ndarray) -> Template:
    smooth = d.cv2_module().GaussianBlur(grid, (3, 3), 0)
    dy, dx = np.gradient(smooth, axis=(0, 1))
    centre = (np.arange(GRID) + 0.5) / GRID
    x, y = np.meshgrid(centre, centre)
    columns = [g * f[..., None] * GRID for g in (dx, dy) for f in (x, y, np.ones_like(x))]
    # a brightness offset, so that light is not taken for a shift
    columns.append(np.broadcast_to(np.array([1.0, 0, 0]), grid.shape))
    steepest = np.stack([c.reshape(-1) for c in columns], 1)
    hessian = steepest.T @ steepest
    damping = np.diag([1e-3 * np.trace(hessian[:6, :6]) + 1e-3] * 6 + [1e-3])
    descent = (np.linalg.inv(hessian + damping) @ steepest.T).astype(np.float32)
    plain = np.broadcast_to(grid.mean((0, 1)), grid.shape)
    return Template(grid, descent, min(MAX_FLAT, raw_agreement(plain, grid)))


def refine(scene: Scene, picture: Template, matrix: np.ndarray, turns: int = 12) -> Placement:
    """Inverse compositional Gauss-Newton (Baker and Matthews 2004), affine; the best placement on the way is kept."""
    best = Placement(matrix, 0.0)
    current = matrix
    stale = 0
    for turn in range(turns):
        found = scene.sample(current, GRID)
        inside = _inside(current)
        score = agreement(found, picture, inside)
        stale = 0 if score > best.agreement + 0.01 else stale + 1
        if score > best.agreement:
            best = Placement(current, score)
        if stale == 3 or (turn == 4 and best.agreement < HOPELESS):
            break
        # what disagrees wholly (an overlap, the surroundings) must not pull
        error = np.minimum(np.maximum((found - picture.grid).reshape(-1), -40), 40)
        if inside is not None:
            error = error * np.repeat(inside.ravel(), 3)
        a, b, c, e, f, g, _ = picture.descent @ error
        determinant = (1 + a) * (1 + f) - b * e
        if not 0.3 < determinant < 3:
            break
        inverse = np.array([[1 + f, -b], [-e, 1 + a]]) / determinant
        linear = current[:, :2] @ inverse
        current = np.column_stack([linear, current[:, 2] - linear @ (c, g)])
        if not sane(current):
            break
    return best


def sane(matrix: np.ndarray) -> bool:
    """Neither mirrored nor collapsed nor sheared out of shape, and at least half inside of the query."""
    (a, b, x), (c, e, y) = matrix.tolist()
    across, down = math.hypot(a, c), math.hypot(b, e)
    if not (0.05 < across < 2.5 and 0.05 < down < 2.5 and 0.2 < across / down < 5):
        return False
    sine = (a * e - b * c) / (across * down)
    return sine > 0.7 and 0 < x + (a + b) / 2 < 1 and 0 < y + (c + e) / 2 < 1


def _inside(matrix: np.ndarray) -> np.ndarray | None:
    """float32 (GRID, GRID): 1 where the picture's grid lies in the query; None where all of it does, nearly."""
    (a, b, x), (c, e, y) = matrix
    centre = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
    across = a * centre + b * centre[:, None] + x
    down = c * centre + e * centre[:, None] + y
    inside = ((across > 0) & (across < 1) & (down > 0) & (down < 1)).astype(np.float32)
    return None if inside.mean() > WHOLE else inside


def raw_agreement(found: np.ndarray, expected: np.ndarray, inside: np.ndarray | None = None) -> float:
    """Of two Lab grids, in [0, 1]: from the mean difference and that of the worst twelfth of blocks (a missing emblem
    is a small part of a flag, but all that tells it from another). Light is fitted first, within LIGHT and GAIN.
    `inside` (as of _inside): the cells that count, all where None."""
    light, truth = found[..., 0], expected[..., 0]
    share = inside if inside is not None else _EVERYWHERE
    count = float(share.sum())
    mean, target = float((light * share).sum()) / count, float((truth * share).sum()) / count
    centred, wanted = (light - mean) * share, (truth - target) * share
    gain = _gain(float((centred * wanted).sum()), float((centred * centred).sum()))
    offset = mean - target
    difference = gain * centred - wanted + (offset - min(LIGHT, max(-LIGHT, offset)))
    colour, hue = found[..., 1:] * share[..., None], expected[..., 1:] * share[..., None]
    saturation = _gain(float((colour * hue).sum()), float((colour * colour).sum()))
    distance = np.sqrt((0.7 * difference) ** 2 + ((saturation * colour - hue) ** 2).sum(-1))
    distance = np.minimum(distance, 60) * share
    blocks = (_BLOCKS @ distance @ _BLOCKS.T).ravel()
    if inside is not None:
        area = (_BLOCKS @ inside @ _BLOCKS.T).ravel()
        blocks = blocks[area > 0.5] / area[area > 0.5]
    worst = np.sort(blocks)[-max(1, len(blocks) // 12) :].mean() if len(blocks) else 60.0
    return float(max(0.0, 1 - distance.sum() / count / 80 - worst / 100))


def _gain(product: float, square: float) -> float:
    return min(GAIN, max(1 / GAIN, product / (square + 1)))


def agreement(found: np.ndarray, picture: Template, inside: np.ndarray | None = None) -> float:
    """In [0, 1], 0 being what a plain field would reach: a plain picture agrees with every plain region."""
    flat = picture.flat
    if inside is not None:
        if inside.mean() < PARTLY:
            return 0.0
        mean = (picture.grid * inside[..., None]).sum((0, 1)) / inside.sum()
        flat = min(MAX_FLAT, raw_agreement(np.broadcast_to(mean, picture.grid.shape), picture.grid, inside))
    return max(0.0, (raw_agreement(found, picture.grid, inside) - flat) / (1 - flat))


def without_colours(grid: np.ndarray) -> np.ndarray:
    return np.asarray(grid * np.array([1, 0, 0], np.float32))


def is_grey(grid: np.ndarray) -> bool:
    return float(np.abs(grid[..., 1:]).mean()) < GREY


def is_plain(grid: np.ndarray) -> bool:
    """Nothing in it tells it from a plain field."""
    return raw_agreement(np.broadcast_to(grid.mean((0, 1)), grid.shape), grid) > PLAIN


def coarse(grids: np.ndarray) -> np.ndarray:
    """float32 (n, CELLS * CELLS * 3) from Lab grids (n, GRID, GRID, 3): block means, brightness centred."""
    n = len(grids)
    side = GRID // CELLS
    blocks = grids.reshape(n, CELLS, side, CELLS, side, 3).mean((2, 4))
    return _centred(blocks)


def _centred(blocks: np.ndarray) -> np.ndarray:
    blocks = blocks.astype(np.float32)
    blocks[..., 0] = 0.7 * (blocks[..., 0] - blocks[..., 0].mean((1, 2), keepdims=True))
    return blocks.reshape(len(blocks), CELLS * CELLS * 3)


def windows(scene: Scene, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour windows over the query: transforms (n, 2, 3) and their coarse grids (n, CELLS * CELLS * 3); about `limit`
    at most, by a wider stride."""
    cv2 = d.cv2_module()
    factor = COARSE / max(scene.width, scene.height)
    size = (max(CELLS, round(scene.width * factor)), max(CELLS, round(scene.height * factor)))
    source = scene.levels[0]
    small = cv2.resize(source, size, interpolation=cv2.INTER_AREA)
    total = cv2.integral(small)
    for stride in (1 / 6, 1 / 4.5, 1 / 3, 1 / 2):
        boxes = _boxes(scene.width / scene.height, stride)
        if len(boxes) <= limit:
            break
    left, top, right, bottom = boxes.T
    fractions = np.arange(CELLS + 1) / CELLS
    x = np.rint((left[:, None] + (right - left)[:, None] * fractions) * size[0]).astype(int)
    y = np.rint((top[:, None] + (bottom - top)[:, None] * fractions) * size[1]).astype(int)
    corner = total[y[:, :, None], x[:, None, :]]
    sums = corner[:, 1:, 1:] - corner[:, :-1, 1:] - corner[:, 1:, :-1] + corner[:, :-1, :-1]
    area = np.maximum(1, np.diff(y)[:, :, None] * np.diff(x)[:, None, :])
    matrices = np.zeros((len(boxes), 2, 3))
    matrices[:, 0, 0], matrices[:, 0, 2] = right - left, left
    matrices[:, 1, 1], matrices[:, 1, 2] = bottom - top, top
    return matrices, _centred(sums / area[..., None])


def _boxes(ratio: float, stride: float) -> np.ndarray:
    """(n, 4) left, top, right, bottom in fractions of a query that is `ratio` times as wide as high."""
    found = [np.array([[0.0, 0.0, 1.0, 1.0]])]
    for aspect in ASPECTS:
        for scale in SCALES:
            # a scale is a share of the longer side
            width, height = (scale, scale * ratio / aspect) if ratio >= 1 else (scale * aspect / ratio, scale)
            if width > 1 or height > 1:
                continue
            x = np.linspace(0, 1 - width, 1 + round((1 - width) / (width * stride)))
            y = np.linspace(0, 1 - height, 1 + round((1 - height) / (height * stride)))
            left, top = (grid.ravel() for grid in np.meshgrid(x, y))
            found.append(np.column_stack([left, top, left + width, top + height]))
    return np.concatenate(found)
