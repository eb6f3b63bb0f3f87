"""Ordinary changes to a picture do not hide it; nothing is claimed where there is nothing to compare."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

pytest.importorskip("cv2")
pytest.importorskip("tantivy")

from deepmmsearch.engine import Index, align, descriptors, visual_words
from deepmmsearch.engine.image import Gallery, _Query
from deepmmsearch.engine.inliers import Rooted
from test_engine_image import gallery_of, jpeg

COUNT = 40


def picture(seed: int) -> Image.Image:
    """Something with as many features as a photograph: shapes over noise, 480 x 360 pixels."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    ground = noise.normal(rng.randint(70, 180), 40, (24, 32, 3)).clip(0, 255).astype(np.uint8)
    made = Image.fromarray(ground).resize((480, 360), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(made)
    for _ in range(90):
        x, y, w, h = rng.randint(0, 480), rng.randint(0, 360), rng.randint(6, 80), rng.randint(6, 70)
        colour = tuple(rng.randint(0, 255) for _ in range(3))
        rng.choice([draw.rectangle, draw.ellipse, draw.line])([x, y, x + w, y + h], fill=colour)
    return made.filter(ImageFilter.GaussianBlur(0.8))


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    return gallery_of([picture(seed) for seed in range(COUNT)])


def tinted(made: Image.Image) -> Image.Image:
    warm = np.asarray(made, float) @ np.array([[0.39, 0.35, 0.27], [0.77, 0.69, 0.53], [0.19, 0.17, 0.13]])
    return Image.fromarray(warm.clip(0, 255).astype(np.uint8))


def covered(made: Image.Image) -> Image.Image:
    changed = made.copy()
    changed.paste(picture(900).resize((280, 205)), (150, 90))
    return changed


def collage(made: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (800, 600))
    for number, part in enumerate([picture(901), picture(902), made, picture(903)]):
        sheet.paste(part.resize((400, 300)), (400 * (number % 2), 300 * (number // 2)))
    return sheet


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "crop of 70 %": lambda made: made.crop((100, 60, 436, 312)),
    "crop of 40 %": lambda made: made.crop((180, 120, 372, 264)),
    "mirrored": ImageOps.mirror,
    "mirrored crop": lambda made: ImageOps.mirror(made).crop((40, 30, 376, 282)),
    "grey": lambda made: made.convert("L"),
    "grey crop": lambda made: made.convert("L").crop((60, 90, 396, 342)),
    "sepia": tinted,
    "covered": covered,
    "collage": collage,
    "rotated": lambda made: made.rotate(90, expand=True),
    "rotated by 15": lambda made: made.rotate(15, expand=True),
    "128 pixels": lambda made: made.resize((128, 96)),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_picture_is_found_and_nothing_else_claimed(gallery: Gallery, kind: str) -> None:
    claimed = 0
    for row in (3, 21, 38):
        hits = gallery.search(jpeg(CHANGES[kind](picture(row)).convert("RGB"), 80), 5)
        assert hits[0].row == row
        assert not any(hit.matched for hit in hits[1:])
        claimed += hits[0].matched
    assert claimed >= 2


def test_nothing_is_claimed_of_pictures_that_are_not_there(gallery: Gallery) -> None:
    for seed in range(700, 706):
        for query in (picture(seed), picture(seed).crop((100, 60, 400, 300)), picture(seed).convert("L")):
            assert not any(hit.matched for hit in gallery.search(query, 5))


def featureless() -> dict[str, Image.Image]:
    noise = np.random.default_rng(2)
    ramp = np.broadcast_to(np.linspace(200, 230, 300)[None, :, None], (200, 300, 3)).astype(np.uint8)
    dark = np.broadcast_to(np.linspace(0, 15, 300)[None, :, None], (200, 300, 3)).astype(np.uint8)
    return {
        "white": Image.new("RGB", (300, 200), "white"),
        "black": Image.new("L", (64, 64)),
        "noise over white": Image.fromarray((255 - noise.integers(0, 9, (200, 300, 3))).astype(np.uint8)),
        "a ramp": Image.fromarray(ramp),
        "nearly black": Image.fromarray(dark),
        "a line": Image.new("RGB", (6000, 1)),
        "a column": Image.new("RGB", (3, 5000), "#304050"),
        "one pixel": Image.new("RGB", (1, 1), "red"),
        "transparent": Image.new("RGBA", (200, 100), (255, 255, 255, 0)),
    }


@pytest.mark.parametrize("kind", featureless())
def test_a_featureless_query_claims_nothing(kind: str) -> None:
    query = featureless()[kind]
    shown = [Image.new("RGB", (200, 150), "white"), *featureless().values(), picture(1), ImageOps.invert(picture(2))]
    assert not any(hit.matched for hit in gallery_of(shown).search(query, 12))


def test_featureless_pictures_of_the_index_are_never_claimed() -> None:
    shown = list(featureless().values())
    for query in (picture(5), picture(5).crop((0, 0, 60, 40)), picture(5).filter(ImageFilter.GaussianBlur(60))):
        assert not any(hit.matched for hit in gallery_of(shown).search(query, 5))


def test_a_plain_flag_is_still_claimed() -> None:
    """Two fields of colour are something to compare."""
    flag = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(flag).rectangle([0, 100, 300, 200], fill="#d4213d")
    other = Image.new("RGB", (300, 200), "#0057b7")
    ImageDraw.Draw(other).rectangle([0, 100, 300, 200], fill="#ffd700")
    best = gallery_of([flag, other, picture(1)]).search(jpeg(flag.resize((210, 140)), 60), 3)[0]
    assert best.row == 0 and best.matched


def test_mirrored_features_are_those_of_the_mirrored_picture() -> None:
    pixels = np.asarray(picture(7))
    features = descriptors.local_features(pixels, 200)
    turned = Rooted.of(features).mirrored
    there = Rooted.of(descriptors.local_features(np.ascontiguousarray(pixels[:, ::-1]), 200))
    cosine = turned.rooted @ there.rooted.T
    same = cosine.max(1) > 0.9
    assert same.mean() > 0.7
    apart = np.abs(turned.features.points[:, :2] - there.features.points[cosine.argmax(1), :2])[same]
    assert np.median(apart) < 2
    assert (Rooted.of(features).rooted @ there.rooted.T).max(1).mean() < cosine.max(1).mean()


def test_near_descriptors_share_words_and_signatures() -> None:
    rng = np.random.default_rng(1)
    rooted = Rooted.of(descriptors.local_features(np.asarray(picture(8)), 200)).rooted
    word, signature = visual_words.word_and_signature(rooted)
    near = np.abs(rooted + rng.normal(0, 0.01, rooted.shape).astype(np.float32))
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    probed, signatures = visual_words.probes(near)
    hit = probed == word[:, None]
    assert hit.any(1).mean() > 0.8
    apart = np.bitwise_count(signatures ^ signature[:, None])
    assert apart[hit].mean() < 8 < apart[~hit].mean()


def test_alignment_knows_a_part_of_a_picture() -> None:
    """The query shows three quarters of it; what lies outside of the query does not count."""
    whole = picture(9)
    query = np.asarray(whole.crop((60, 45, 420, 315)))
    start = np.array([[4 / 3, 0, -1 / 6], [0, 4 / 3, -1 / 6]]) + 0.01
    placed = align.refine(align.Scene(query), align.template(align.grid(np.asarray(whole))), start)
    assert placed.agreement > 0.85
    assert not _Query(whole).is_plain


def test_added_and_removed_pictures_are_searched_with_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(4):
        picture(seed).save(folder / f"number {seed}.png")
    index = Index.build(folder, tmp_path / "index")
    picture(10).save(folder / "number 10.png")
    index.add([folder / "number 10.png"])
    for seed in (2, 10):
        best = index.search_image(picture(seed).crop((90, 60, 400, 300)), 3)[0]
        assert best.title == f"number {seed}" and best.matched
    index.remove(["number 2.png"])
    assert all(hit.title != "number 2" for hit in index.search_image(picture(2), 5))
    assert index.search_image(picture(10), 1)[0].title == "number 10"
