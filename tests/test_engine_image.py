"""Pictures are found recompressed, cropped and inside of scenes; a match is claimed only when there is one."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

pytest.importorskip("cv2")

from deepmmsearch.engine import align, descriptors, image
from deepmmsearch.engine.image import Gallery, Match, picture_row
from deepmmsearch.engine.picture_segment import PictureSegment
from deepmmsearch.engine.segments import stacked

COLOURS = ["#c81e28", "#143c96", "#fad21e", "#ffffff", "#14783c", "#141414", "#f08214", "#5ab4dc"]


def flag(rng: random.Random) -> Image.Image:
    """Bold, of two or three colours, with a small emblem; 320 x 200 pixels."""
    picture = Image.new("RGB", (320, 200))
    draw = ImageDraw.Draw(picture)
    a, b, c, e = rng.sample(COLOURS, 4)
    match rng.randrange(4):
        case 0:
            for i, colour in enumerate((a, b, c)):
                draw.rectangle([i * 107, 0, i * 107 + 107, 200], fill=colour)
        case 1:
            for i, colour in enumerate((a, b, c)):
                draw.rectangle([0, i * 67, 320, i * 67 + 67], fill=colour)
        case 2:
            draw.rectangle([0, 0, 320, 200], fill=a)
            draw.polygon([(0, 0), (144, 100), (0, 200)], fill=b)
        case 3:
            draw.rectangle([0, 0, 320, 200], fill=a)
            draw.rectangle([96, 0, 134, 200], fill=b)
            draw.rectangle([0, 84, 320, 120], fill=b)
    x, y = rng.choice([(160, 100), (80, 60), (220, 100)])
    r = rng.randint(22, 36)
    shape = rng.randrange(3)
    if shape == 0:
        draw.ellipse([x - r, y - r, x + r, y + r], fill=e)
    elif shape == 1:
        draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=e)
    else:
        draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=e)
    return picture


def clutter(rng: random.Random) -> Image.Image:
    scene = Image.new("RGB", (672, 448), tuple(rng.randint(90, 230) for _ in range(3)))
    draw = ImageDraw.Draw(scene)
    draw.rectangle([0, rng.randint(200, 320), 672, 448], fill=tuple(rng.randint(60, 200) for _ in range(3)))
    for _ in range(35):
        x, y, w, h = rng.randint(0, 672), rng.randint(0, 448), rng.randint(8, 90), rng.randint(8, 80)
        colour = tuple(rng.randint(0, 255) for _ in range(3))
        rng.choice([draw.rectangle, draw.ellipse])([x, y, x + w, y + h], fill=colour)
    return scene


def hang(scene: Image.Image, cloth: Image.Image, rng: random.Random, x: int, y: int) -> tuple[int, int, int, int]:
    size = (w := rng.randint(150, 180), int(w * 0.625))
    lit = ImageEnhance.Brightness(cloth).enhance(rng.uniform(0.85, 1.15)).resize(size).convert("RGBA")
    turned = lit.rotate(rng.uniform(-5, 5), Image.Resampling.BICUBIC, expand=True)
    scene.paste(turned, (x, y), turned)
    return x, y, x + turned.width, y + turned.height


def jpeg(picture: Image.Image, quality: int = 70) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def gallery_of(pictures: list[Image.Image]) -> Gallery:
    rows = [(n, picture_row(descriptors.pixels(p))) for n, p in enumerate(pictures)]
    # in two segments, as an index that was added to
    half = len(rows) // 2
    return Gallery([PictureSegment(stacked(part)) for part in (rows[:half], rows[half:]) if part])


@pytest.fixture(scope="module")
def flags() -> list[Image.Image]:
    rng = random.Random(4)
    return [flag(rng) for _ in range(60)]


@pytest.fixture(scope="module")
def gallery(flags: list[Image.Image]) -> Gallery:
    return gallery_of(flags)


def _right(match: list[Match], row: int) -> bool:
    return match[0].row == row


def test_jittered_crops_are_found_first_and_matched(gallery: Gallery, flags: list[Image.Image]) -> None:
    rng = random.Random(1)
    found = []
    for row in range(0, 60, 2):
        scene = clutter(rng)
        box = hang(scene, flags[row], rng, rng.randint(40, 400), rng.randint(40, 250))
        w, h = box[2] - box[0], box[3] - box[1]
        jitter = [side + rng.uniform(-0.15, 0.15) * (w, h)[i % 2] for i, side in enumerate(box)]
        hit = gallery.search(jpeg(scene.crop([round(v) for v in jitter])), 5)
        found.append((_right(hit, row), hit[0].matched and _right(hit, row)))
    assert sum(first for first, _ in found) >= 29
    assert sum(matched for _, matched in found) >= 26


def test_flags_are_found_in_grey_and_claimed_by_no_colours(gallery: Gallery, flags: list[Image.Image]) -> None:
    """In grey many flags are alike: found, but a claim needs colours or local features."""
    rng = random.Random(5)
    first = claimed_wrongly = 0
    for row in range(0, 60, 6):
        scene = clutter(rng)
        left, top, right, bottom = hang(scene, flags[row], rng, rng.randint(40, 400), rng.randint(40, 250))
        box = (left + rng.randint(-12, 12), top + rng.randint(-12, 12), right + 9, bottom - 9)
        hits = gallery.search(jpeg(scene.crop(box).convert("L")), 5)
        first += hits[0].row == row
        claimed_wrongly += any(hit.matched and hit.row != row for hit in hits)
    assert first >= 8 and not claimed_wrongly


def test_a_black_and_white_drawing_is_claimed_without_colours() -> None:
    drawn = Image.new("L", (300, 200), 255)
    draw = ImageDraw.Draw(drawn)
    draw.ellipse([40, 30, 150, 160], fill=0)
    draw.rectangle([180, 90, 280, 190], fill=90)
    others = [Image.new("RGB", (300, 200), colour) for colour in ("red", "white")]
    best = gallery_of([others[0], drawn.convert("RGB"), others[1]]).search(jpeg(drawn.resize((240, 160))), 3)[0]
    assert best.row == 1 and best.matched
    # two fields of colour have nothing in common with two grey ones but that
    fields = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(fields).rectangle([0, 100, 300, 200], fill="#143c96")
    hits = gallery_of([fields, *others]).search(fields.convert("L"), 3)
    assert hits[0].row == 0 and not any(hit.matched for hit in hits)


def test_boxes_a_quarter_too_small_still_find_the_flag(gallery: Gallery, flags: list[Image.Image]) -> None:
    rng = random.Random(6)
    first = 0
    for row in range(0, 60, 6):
        scene = clutter(rng)
        left, top, right, bottom = hang(scene, flags[row], rng, rng.randint(40, 400), rng.randint(40, 250))
        width, height = right - left, bottom - top
        x, y = left + round(rng.uniform(0, 0.25) * width), top + round(rng.uniform(0, 0.25) * height)
        first += (
            gallery.search(jpeg(scene.crop((x, y, x + round(0.75 * width), y + round(0.75 * height)))), 3)[0].row == row
        )
    assert first >= 9


def test_one_flag_in_a_scene_is_found_several_are_no_match(gallery: Gallery, flags: list[Image.Image]) -> None:
    rng = random.Random(2)
    right = matched = claimed = 0
    for row in range(0, 24, 2):
        scene = clutter(rng)
        hang(scene, flags[row], rng, rng.randint(20, 450), rng.randint(20, 300))
        best = gallery.search(jpeg(scene, 85), 3)[0]
        right += best.row == row
        matched += best.matched and best.row == row
    for row in range(0, 24, 2):
        scene = clutter(rng)
        for i, (x, y) in enumerate([(20, 20), (250, 240), (460, 30)]):
            hang(scene, flags[row + 20 * i - 19 * (i == 2)], rng, x, y)
        claimed += any(match.matched for match in gallery.search(jpeg(scene, 85), 5))
    assert right >= 10 and matched >= 7 and claimed <= 1


def test_nothing_is_claimed_for_what_is_not_there(gallery: Gallery) -> None:
    rng = random.Random(3)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8))
    plain = [Image.new("RGB", (160, 90), colour) for colour in ("red", "white", "#202020")]
    for query in [noise, *plain, *(clutter(rng) for _ in range(6))]:
        assert not any(match.matched for match in gallery.search(query, 5))


def test_copies_match_together_lookalikes_do_not(flags: list[Image.Image]) -> None:
    first = flags[0]
    soft = first.resize((250, 156))
    other = first.copy()
    ImageDraw.Draw(other).rectangle([0, 0, 319, 199], outline="black", width=30)
    found = gallery_of([first, jpeg(soft), other, *flags[1:8]]).search(jpeg(first.resize((180, 112))), 5)
    assert {m.row for m in found if m.matched} == {0, 1}


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3000, 2), (5000, 4000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_any_size_and_mode_can_be_searched(gallery: Gallery, size: tuple[int, int], mode: str) -> None:
    assert len(gallery.search(Image.new(mode, size), 3)) <= 3


def test_one_picture_and_few_features(flags: list[Image.Image]) -> None:
    alone = gallery_of([Image.new("RGB", (64, 64), "red")])
    assert len(alone.search(flags[0], 5)) == 1 and not alone.search(flags[0], 5)[0].matched


def test_threads_are_given_back() -> None:
    import cv2

    before = cv2.getNumThreads()
    with descriptors.one_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


def test_alignment_finds_a_shifted_picture(flags: list[Image.Image]) -> None:
    scene = Image.new("RGB", (400, 300), "#888888")
    scene.paste(flags[3].resize((160, 100)), (100, 80))
    template = align.template(align.grid(np.asarray(flags[3])))
    start = np.array([[0.44, 0, 0.23], [0, 0.37, 0.24]])
    placed = align.refine(align.Scene(np.asarray(scene)), template, start)
    assert placed.agreement > 0.85
    assert np.allclose(placed.region, (100 / 400, 80 / 300, 260 / 400, 180 / 300), atol=0.02)


def test_agreement_ignores_light_but_not_colour(flags: list[Image.Image]) -> None:
    grid = align.grid(np.asarray(flags[1]))
    darker = align.grid(np.asarray(ImageEnhance.Brightness(flags[1]).enhance(0.85)))
    swapped = align.grid(np.asarray(flags[1])[..., ::-1].copy())
    assert align.raw_agreement(grid, grid) > 0.999
    assert align.raw_agreement(darker, grid) > 0.85 > align.raw_agreement(swapped, grid)
    plain = np.full((8, 8, 3), 128, np.uint8)
    assert align.agreement(align.grid(plain), align.template(grid)) < 0.1


def test_windows_are_bounded(flags: list[Image.Image]) -> None:
    scene = align.Scene(np.asarray(flags[0].resize((672, 448))))
    many, grids = align.windows(scene, 100_000)
    few, _ = align.windows(scene, 1_000)
    assert len(few) < len(many) == len(grids) and grids.shape[1] == align.CELLS**2 * 3
    assert image.GALLERY_FEATURES <= 500


def test_features_of_a_detailed_picture_cost_less_and_a_plain_one_keeps_all_of_its_own() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (90, 120, 3), np.uint8)
    detailed = np.asarray(Image.fromarray(noise).resize((720, 540), Image.Resampling.BICUBIC))
    plain = descriptors.pixels(flag(random.Random(5)))
    row, whole = picture_row(descriptors.pixels(Image.fromarray(detailed))), picture_row(plain)
    assert row["size"].max() == image.GALLERY_SIDE and len(row["points"][0]) == image.GALLERY_FEATURES
    assert whole["size"].max() == descriptors.SIDE
    expected = descriptors.local_features(plain, image.GALLERY_FEATURES)
    assert len(expected.points) < image.GALLERY_FEATURES
    assert np.array_equal(whole["points"][0], expected.points)
