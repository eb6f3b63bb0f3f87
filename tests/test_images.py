from __future__ import annotations

import contextlib
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepmmsearch import decoding, images
from deepmmsearch.errors import UserError
from deepmmsearch.types import Box


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def here(content: bytes, max_pixels: int = 10**6) -> Image.Image:
    """Decoded in this process."""
    return decoding.decode(content, "it", max_pixels, images.FORMATS)


def huge_png(side: int = 50_000) -> bytes:
    """The header of a picture that would take 7.5 GB, and hardly any data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


# nothing here writes HEIC; how one is read is in test_engine_parts
WRITTEN = tuple(format for format in images.FORMATS if format != "HEIF")


@pytest.mark.parametrize("format", WRITTEN)
def test_loads_the_named_formats(format: str) -> None:
    loaded = images.load(encode(noise(), format))
    assert (loaded.mode, loaded.size, loaded.info) == ("RGB", (40, 30), {})


def test_loads_from_path_bytes_and_pillow_alike(tmp_path: Path) -> None:
    content = encode(noise(), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(content)
    shas = {images.digest(images.load(s)) for s in (path, str(path), content, noise())}
    assert len(shas) == 1


def test_a_pillow_image_is_copied() -> None:
    given_image = noise()
    loaded = images.load(given_image)
    loaded.putpixel((0, 0), (1, 2, 3))
    assert given_image.getpixel((0, 0)) != (1, 2, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no bytes"),
        (b"<html>not a picture</html>", "not a picture"),
        (b"%PDF-1.7 ...", "not a picture"),
        (encode(noise(200, 200), "PNG")[:5000], "truncated"),
        (encode(noise(200, 200), "JPEG")[:5000], "truncated"),
        (encode(noise(), "PNG")[:20], "cannot be|damaged|not a picture"),
        (encode(noise(), "PPM"), "not a picture"),
        (huge_png(), "too large: more than 80 megapixels"),
        (huge_png(10_000), "10000 x 10000.* too large"),
    ],
)
def test_bad_bytes_are_one_clear_sentence(content: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        images.load(content, name="upload.png")
    assert "\n" not in str(caught.value)


def test_bad_paths_are_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    cases = {
        str(tmp_path / "none.png"): "There is no picture",
        str(tmp_path): "not a file",
        str(tmp_path / "empty.png"): "is empty",
        "https://example.org/a.png": "an address",
        "a\0b": "cannot be used|There is no picture",
        "x" * 5000: "cannot be used|There is no picture",
        "/dev/zero": "not a file",
    }
    for path, says in cases.items():
        with pytest.raises(UserError, match=says):
            images.load(path)


def test_the_pixel_cap_is_a_setting_and_decodes_nothing() -> None:
    content = encode(noise(), "PNG")
    assert images.load(content, max_pixels=1200).size == (40, 30)
    with pytest.raises(UserError, match=r"40 x 30"):
        images.load(content, max_pixels=1199)
    with pytest.raises(UserError, match=r"40 x 30"):
        images.load(noise(), max_pixels=1199)


@settings(max_examples=150)
@given(st.sampled_from(WRITTEN), st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_damaged_files_raise_nothing_but_user_errors(format: str, seed: int, count: int) -> None:
    content = bytearray(encode(noise(), format))
    random = np.random.default_rng(seed)
    for at in random.integers(0, len(content), count):
        content[at] = random.integers(0, 256)
    with contextlib.suppress(UserError):
        assert here(bytes(content)).mode == "RGB"


def animation(format: str, frames: int) -> bytes:
    pictures = [Image.new("RGB", (4, 4), (n * 89 % 256, n * 53 % 256, n)) for n in range(frames)]
    return encode(pictures[0], format, save_all=True, append_images=pictures[1:], duration=20, lossless=True)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_frames_are_counted_before_they_are_decoded(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = animation(format, 30)
    assert images.load(content).getpixel((0, 0)) == (0, 0, 0)
    monkeypatch.setattr(decoding, "MAX_FRAMES", 30)
    assert here(content).size == (4, 4)
    monkeypatch.setattr(decoding, "MAX_FRAMES", 29)
    with pytest.raises(UserError, match="more than 29 frames"):
        here(content)


@settings(max_examples=100)
@given(st.sampled_from(["GIF", "TIFF", "WEBP", "PNG"]), st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_damaged_animations_raise_nothing_but_user_errors(format: str, seed: int, count: int) -> None:
    content = bytearray(animation(format, 5))
    random = np.random.default_rng(seed)
    for at in random.integers(0, len(content), count):
        content[at] = random.integers(0, 256)
    with contextlib.suppress(UserError):
        here(bytes(content[: random.integers(1, len(content) + 1)]))


def test_only_the_formats_that_are_named_are_opened() -> None:
    for format in ("BMP", "TIFF"):
        with pytest.raises(UserError, match="is not a picture"):
            images.load(encode(noise(), format), formats=images.WEB_FORMATS)


def test_alpha_and_deep_pixels_do_not_depend_on_the_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    clear = Image.fromarray(rng.integers(0, 256, (70, 9, 4), dtype=np.uint8), "RGBA")
    deep = Image.fromarray(rng.integers(0, 2**16, (70, 9), dtype=np.uint16))
    whole = [images.digest(images.load(p)) for p in (clear, deep)]
    white = Image.new("RGBA", clear.size, (255,) * 4)
    assert whole[0] == images.digest(Image.alpha_composite(white, clear).convert("RGB"))
    monkeypatch.setattr(decoding, "_BAND", 16)
    assert [images.digest(images.load(p)) for p in (clear, deep)] == whole


def test_cmyk_becomes_rgb() -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    red, green, blue = images.load(encode(cyan, "JPEG", quality=95)).getpixel((3, 3))
    assert red < 10 and green > 245 and blue > 245


def test_exif_orientation_is_applied() -> None:
    image = noise(40, 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = images.load(encode(image, "PNG", exif=exif))
    assert loaded.size == (20, 40)
    assert np.array_equal(np.asarray(loaded), np.rot90(np.asarray(image), -1))


def test_alpha_becomes_white() -> None:
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert images.load(encode(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    half = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert images.load(encode(half, "PNG")).getpixel((0, 0)) == (127, 127, 127)
    palette = noise().convert("P")
    assert images.load(encode(palette, "GIF", transparency=palette.getpixel((3, 3)))).getpixel((3, 3)) == (255,) * 3
    grey = Image.new("LA", (2, 2), (0, 0))
    assert images.load(encode(grey, "PNG")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "RGBA", "LA"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert images.load(Image.new(mode, (3, 2))).mode == "RGB"


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert [images.load(encode(deep, "PNG")).getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (100,) * 3, (255,) * 3]
    dark = Image.fromarray(np.array([[0, 200]], dtype=np.uint16))
    assert images.load(encode(dark, "TIFF")).getpixel((1, 0)) == (1, 1, 1)
    floats = Image.fromarray(np.array([[0.0, 0.5, 1.0, math.nan]], dtype=np.float32))
    assert [images.load(floats).getpixel((x, 0))[0] for x in range(4)] == [0, 128, 255, 0]


def test_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.load(content).getpixel((0, 0)) == (255, 0, 0)


def test_digest_is_of_pixels_and_size() -> None:
    flat = Image.new("RGB", (2, 8))
    assert images.digest(flat) != images.digest(Image.new("RGB", (8, 2)))
    assert images.digest(noise(seed=1)) != images.digest(noise(seed=2))
    assert images.digest(images.load(encode(noise(), "BMP"))) == images.digest(images.load(encode(noise(), "PNG")))


def test_saves_by_content_and_exactly(tmp_path: Path) -> None:
    path = images.save(noise(), tmp_path / "images")
    assert path.stem == images.digest(noise()) == images.digest(images.load(path))
    before = path.stat().st_mtime_ns
    assert images.save(noise(), tmp_path / "images") == path
    assert path.stat().st_mtime_ns == before
    assert [p.name for p in (tmp_path / "images").iterdir()] == [path.name]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (40, 30), (7, 700), (300, 2)])
def test_what_is_written_is_what_other_programs_read(tmp_path: Path, size: tuple[int, int], packed: bool) -> None:
    for picture in (
        noise(*size),
        Image.new("RGB", size, "red"),
        Image.linear_gradient("L").resize(size).convert("RGB"),
    ):
        path = images.save(picture, tmp_path / "images", packed=packed)
        with Image.open(path) as read:
            assert (read.format, read.mode, read.size, read.info) == ("PNG", "RGB", size, {})
            assert read.tobytes() == picture.tobytes()
        images.pack(path)
        with Image.open(path) as read:
            assert read.tobytes() == picture.tobytes()


def test_a_packed_drawing_is_small(tmp_path: Path) -> None:
    drawing = Image.new("RGB", (400, 300), "white")
    drawing.paste("blue", (50, 50, 200, 200))
    path = images.save(drawing, tmp_path, packed=False)
    assert path.stat().st_size > 400 * 300 * 3
    images.pack(path)
    assert path.stat().st_size < 4000


def test_a_kept_picture_is_the_same_in_everything_and_holds_no_pixels(tmp_path: Path) -> None:
    plain = noise(64, 48)
    plain.info["address"] = "https://a.example/"
    kept = images.KeptPicture.of(plain)
    assert kept.tobytes() == plain.tobytes()
    kept.keep(images.save(kept, tmp_path))
    assert kept._im is None and (kept.size, kept.mode, kept.info) == (plain.size, "RGB", plain.info)
    assert images.digest(kept) == images.digest(plain) and images.save(kept, tmp_path) == kept.path
    assert kept.copy() == plain and np.array_equal(np.asarray(kept), np.asarray(plain))
    box = (3, 4, 30, 40)
    assert kept.crop(box) == plain.crop(box) and kept.convert("L").tobytes() == plain.convert("L").tobytes()
    assert kept.resize((9, 9)) == plain.resize((9, 9)) and kept.getpixel((5, 6)) == plain.getpixel((5, 6))
    assert kept.load()[5, 6] == plain.load()[5, 6] and images.data_url(kept) == images.data_url(plain)
    small = kept.copy()
    small.thumbnail((8, 8))
    other = Image.new("RGB", (64, 48))
    other.paste(kept)
    assert other.tobytes() == plain.tobytes() and small.size == (8, 6)
    assert kept._im is None


def test_of_an_upload_only_its_bytes_are_kept(tmp_path: Path) -> None:
    content = encode(noise(64, 48), "PNG")
    kept = images.loading(content, kept=True).result()
    assert isinstance(kept, images.KeptPicture) and kept._im is None and kept.size == (64, 48)
    assert kept.tobytes() == noise(64, 48).tobytes() and images.digest(kept) == images.digest(noise(64, 48))
    kept.keep(images.save(kept, tmp_path))
    assert kept.tobytes() == noise(64, 48).tobytes() and kept._im is None
    assert images.KeptPicture.of(kept) is kept
    with pytest.raises(UserError, match=r"damaged|truncated"):
        images.loading(content[:-2000], kept=True).result()
    with pytest.raises(UserError, match="too large"):
        images.loading(content, max_pixels=100, kept=True).result()


def test_a_kept_picture_that_is_changed_is_one_of_its_own(tmp_path: Path) -> None:
    kept = images.KeptPicture.of(noise())
    path = images.save(kept, tmp_path)
    kept.keep(path)
    kept.putpixel((0, 0), (1, 2, 3))
    assert kept.getpixel((0, 0)) == (1, 2, 3) and images.digest(kept) != path.stem
    kept.keep(path)
    assert kept.getpixel((0, 0)) == (1, 2, 3), "no longer the one that lies there"
    assert images.digest(images.load(path)) == path.stem


def test_data_url_is_exact_as_png() -> None:
    import base64

    head, body = images.data_url(noise()).split(",", 1)
    assert head == "data:image/png;base64"
    assert images.digest(images.load(base64.b64decode(body))) == images.digest(noise())
    assert images.data_url(noise(), "JPEG").startswith("data:image/jpeg;base64,")


SIDE = st.integers(1, 6000)


@settings(max_examples=300)
@given(SIDE, SIDE, st.integers(1, 64), st.integers(1, 400), st.sampled_from([14, 28, 32]))
def test_views_are_within_the_bounds(width: int, height: int, least: int, more: int, multiple: int) -> None:
    low, high = least * multiple**2 // 2, (least + more) * multiple**2
    w, h = images.view_size((width, height), low, high, multiple)
    assert w % multiple == h % multiple == 0
    assert low <= w * h <= high
    assert max(w / h, h / w) < 200
    # What a processor with the same bounds would do to the view: nothing.
    assert images.view_size((w, h), low, high, multiple) == (w, h)


def test_views_agree_with_the_processor_of_qwen() -> None:
    smart_resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl").smart_resize
    random = np.random.default_rng(0)
    for width, height in random.integers(20, 3000, (300, 2)).tolist():
        h, w = smart_resize(height, width, factor=28, min_pixels=3136, max_pixels=1_003_520)
        assert images.view_size((width, height), 3136, 1_003_520) == (w, h)
        assert smart_resize(h, w, factor=28, min_pixels=3136, max_pixels=1_003_520) == (h, w)


def test_views_resize_once() -> None:
    image = noise(448, 448)
    view = images.model_view(image, 3136, 18816)
    assert view.size == (112, 112)
    assert images.model_view(view, 3136, 18816) is view
    assert images.model_view(noise(5000, 3), 3136, 18816).size[1] == 28


def test_impossible_bounds_are_a_user_error() -> None:
    with pytest.raises(UserError, match="No picture with sides"):
        images.view_size((100, 100), 1, 500)
    with pytest.raises(UserError, match="No picture with sides"):
        images.view_size((100, 100), 1000, 1200)


def test_boxes_are_scaled_clamped_and_cut_with_padding() -> None:
    seen = Box(10, 20, 50, 60, 0.7)
    assert images.scale(seen, (100, 100), (1000, 500)) == Box(100, 100, 500, 300, 0.7)
    assert images.clamp(Box(-5, -5, 2000, 3), (40, 30)) == Box(0, 0, 40, 3)
    assert images.crop(noise(), Box(10, 10, 30, 20), 0).size == (20, 10)
    assert images.crop(noise(), Box(10, 10, 30, 20), 0.1).size == (24, 12)
    cut = images.crop(noise(), Box(10, 10, 30, 20), 0)
    assert np.array_equal(np.asarray(cut), np.asarray(noise())[10:20, 10:30])
    with pytest.raises(ValueError, match="finite"):
        images.crop(noise(), Box(math.nan, 0, 1, 1))


NUMBER = st.floats(-1e6, 1e6)


@settings(max_examples=300)
@given(NUMBER, NUMBER, NUMBER, NUMBER, st.floats(0, 1))
def test_no_finite_box_breaks_a_crop(a: float, b: float, c: float, d: float, padding: float) -> None:
    width, height = images.crop(noise(), Box(a, b, c, d), padding).size
    assert 1 <= width <= 40 and 1 <= height <= 30
