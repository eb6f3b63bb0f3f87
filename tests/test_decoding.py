"""Pictures are decoded in a confined process that can be killed: a bad one costs itself, a good one stays as it is."""

from __future__ import annotations

import asyncio
import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from deepmmsearch import decoding, images
from deepmmsearch.children import confinement
from deepmmsearch.errors import Failed, UserError
from hostile_pictures import baseline, mpo, progressive


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width: int = 60, height: int = 40, channels: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8))


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def deep(kind: type[np.generic]) -> Image.Image:
    values = np.random.default_rng(0).random((40, 60))
    return Image.fromarray((values * (1 if kind is np.float32 else 60_000)).astype(kind))


def frames_of(format: str, **options: object) -> bytes:
    others = [Image.new("RGB", (60, 40), (n * 40, 0, 0)) for n in range(5)]
    return encode(noise(), format, save_all=True, append_images=others, **options)


LEGITIMATE: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encode(noise(), "JPEG"),
    "progressive JPEG": lambda: encode(noise(), "JPEG", progressive=True),
    "grey JPEG": lambda: encode(noise().convert("L"), "JPEG"),
    "CMYK JPEG": lambda: encode(noise().convert("CMYK"), "JPEG"),
    **{f"JPEG, orientation {n}": lambda n=n: encode(noise(), "JPEG", exif=exif(n)) for n in range(2, 10)},  # type: ignore[misc]
    "JPEG, broken EXIF": lambda: encode(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"),
    "JPEG, profile": lambda: encode(
        noise(), "JPEG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ),
    "JPEG, a film behind it": lambda: encode(noise(), "JPEG") + b"\xff\xda\0\x0c" * 5_000,
    "MPO": lambda: frames_of("MPO"),
    "JPEG, a scan for each colour": lambda: baseline(noise(), 3),
    "PNG": lambda: encode(noise(), "PNG"),
    "PNG, alpha": lambda: encode(noise(channels=4), "PNG"),
    "PNG, grey and alpha": lambda: encode(noise(channels=4).convert("LA"), "PNG"),
    "PNG, palette": lambda: encode(noise().quantize(16), "PNG"),
    "PNG, clear colour": lambda: encode(noise().quantize(16), "PNG", transparency=3),
    "PNG, 16 bits": lambda: encode(deep(np.uint16), "PNG"),
    "PNG, one bit": lambda: encode(noise().convert("1"), "PNG"),
    "PNG, orientation": lambda: encode(noise(), "PNG", exif=exif(6)),
    "animated PNG": lambda: frames_of("PNG"),
    "GIF": lambda: encode(noise().quantize(16), "GIF", transparency=3),
    "animated GIF": lambda: frames_of("GIF"),
    "WebP": lambda: encode(noise(), "WEBP"),
    "WebP, lossless, alpha": lambda: encode(noise(channels=4), "WEBP", lossless=True),
    "animated WebP": lambda: frames_of("WEBP"),
    "BMP": lambda: encode(noise(), "BMP"),
    "TIFF": lambda: encode(noise(), "TIFF", compression="tiff_lzw"),
    "TIFF, floats": lambda: encode(deep(np.float32), "TIFF"),
    "TIFF, 32 bits": lambda: encode(deep(np.int32), "TIFF"),
    "several TIFFs": lambda: frames_of("TIFF"),
    "long": lambda: encode(noise(1, 600), "PNG"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("name", LEGITIMATE)
def test_the_other_process_gives_the_same_pixels(name: str) -> None:
    content = LEGITIMATE[name]()
    loaded, here = images.load(content), decoding.decode(content, "it", 10**6, images.FORMATS)
    assert (loaded.mode, loaded.size, loaded.info) == ("RGB", here.size, {})
    assert loaded.tobytes() == here.tobytes()
    with Image.open(io.BytesIO(content)) as opened:
        if opened.mode == "RGB" and "orientation" not in name:
            assert loaded.tobytes() == opened.tobytes()
    assert images.digest(images.load(content, side=32)) == images.digest(decoding.reduced(here, 32))


@pytest.mark.parametrize("turned", [1, 6])
def test_a_large_photograph_is_decoded_at_about_the_size_that_is_asked_for(turned: int) -> None:
    ramp = np.add.outer(np.arange(1200), np.arange(1600))[..., None] * [0.05, 0.09, 0.02]
    content = encode(Image.fromarray(ramp.astype(np.uint8)), "JPEG", exif=exif(turned))
    whole = decoding.decode(content, "it", 10**7, images.FORMATS)
    assert whole.size == ((1600, 1200) if turned == 1 else (1200, 1600))
    part = decoding.decode(content, "it", 10**7, images.FORMATS, side=300)
    assert sorted(part.size) == [300, 400]
    loaded, same = images.load(content, side=300), decoding.reduced(whole, 300)
    assert loaded.size == same.size
    assert abs(np.asarray(loaded, float) - np.asarray(same, float)).mean() < 1
    # what is too large is told by the size that the file has
    with pytest.raises(UserError, match="1600 x 1200"):
        decoding.decode(content, "it", 10**6, images.FORMATS, side=300)


# --- hostile


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(side: int, *before: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((side // 8 + 1) * side))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def wide_frames(format: str) -> bytes:
    """Two frames on a canvas of 36 megapixels."""
    pictures = [Image.new("1", (6_000, 6_000), n) for n in range(2)]
    return encode(pictures[0], format, save_all=True, append_images=pictures[1:], duration=20)


def test_an_mpo_is_one() -> None:
    with Image.open(io.BytesIO(mpo(noise(), 20))) as opened:
        assert opened.format == "MPO"


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "baseline JPEG of many scans": (lambda: baseline(noise(), 3_000), "JPEG of 3000 scans"),
    "baseline JPEG of many empty scans": (lambda: baseline(noise(), 3_000, b""), "JPEG of 3000 scans"),
    "progressive JPEG of many scans": (lambda: progressive(noise(), 3_000), "JPEG of 3000 scans"),
    "MPO of many scans": (lambda: mpo(noise(), 3_000), "JPEG of 3000 scans"),
    "PNG of 36 megapixels": (lambda: png(6_000), "more than 25 megapixels"),
    "PNG, text of 1 GB": (lambda: png(8, *text_bomb()), "damaged|took more|too complex"),
    "GIF of huge frames": (lambda: wide_frames("GIF"), "more than 25 megapixels"),
    "TIFF, no end of frames": (lambda: endless_tiff(), "more than 1000 frames|damaged|truncated|took more"),
    "truncated": (lambda: encode(noise(), "JPEG")[:900], "truncated"),
    "nothing": (lambda: b"\0" * 99, "not a picture"),
}


def text_bomb() -> Iterator[bytes]:
    packed = zlib.compress(bytes(2**20))
    for _ in range(200):
        yield chunk(b"zTXt", b"Comment\0\0" + packed)


def endless_tiff() -> bytes:
    """One directory that follows itself, at another place each time, without ever ending."""
    content = bytearray(encode(noise(8, 8), "TIFF"))
    at = struct.unpack("<I", content[4:8])[0]
    count = struct.unpack("<H", content[at : at + 2])[0]
    directory = bytes(content[at : at + 2 + 12 * count])
    for _ in range(1_100):
        where = len(content) + len(content) % 2
        content[at + len(directory) : at + len(directory) + 4] = struct.pack("<I", where)
        content += bytes(where - len(content)) + directory + bytes(4)
        at = where
    return bytes(content)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_costs_too_much_is_one_sentence(name: str) -> None:
    made, says = HOSTILE[name]
    bounds: dict[str, Any] = {} if name.startswith("TIFF") else {"formats": images.WEB_FORMATS}
    with pytest.raises(UserError, match=says) as caught:
        images.load(made(), max_pixels=images.WEB_PIXELS, name="A picture", **bounds)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("A picture")
    assert images.load(encode(noise(), "PNG")).size == (60, 40)


def test_scans_count_with_the_pixels_that_they_go_over() -> None:
    """Up to the end of the picture: previews before it and what is appended do not count."""
    assert images.load(baseline(noise(), 50)).size == (60, 40)
    with pytest.raises(UserError, match="JPEG of 50 scans"):
        images.load(baseline(noise(), 50), max_pixels=60 * 40)
    preview, content = progressive(noise(), 10), encode(noise(), "JPEG")
    segments = (b"\xff\xe5" + struct.pack(">H", len(preview) + 2) + preview) * 40
    assert images.load(content[:2] + segments + content[2:]).tobytes() == images.load(content).tobytes()


def slow_gif() -> bytes:
    """3 million blocks, which are walked over one by one to count the frames."""
    head = encode(Image.new("P", (8, 8)), "GIF")[:-1]
    return head + b"\x21\xfe" + b"\x01x" * 3_000_000 + b"\0;"


@pytest.mark.skipif(sys.platform == "win32", reason="needs interval timers")
def test_one_that_takes_too_long_is_killed_and_the_next_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SECONDS", 0.05)
    monkeypatch.setattr(images, "SECONDS_PER_MEGAPIXEL", 0.0)
    with pytest.raises(UserError, match=r"A picture cannot be decoded: took more than 0\.05 s to read\."):
        images.load(slow_gif(), name="A picture")
    monkeypatch.undo()
    assert images.load(encode(noise(), "PNG")).size == (60, 40)


SITE = """
import os, socket, sys, time
import PIL.Image as Pillow

opening = Pillow.open

def tried(action):
    try:
        action()
    except OSError:
        return 0
    return 1

def opened(source, *arguments, **options):
    order = source.getvalue()[:9]
    if order == b"\\0 crash..":
        os.abort()
    if order == b"\\0 hang...":
        time.sleep(600)
    if order == b"\\0 hungry.":
        bytearray(3 * 2**30)
    if order == b"\\0 probe..":
        secret = source.getvalue()[9:].decode()
        file = tried(lambda: open(secret).read())
        written = tried(lambda: open(secret + ".new", "w"))
        network = tried(lambda: socket.socket(socket.AF_INET))
        return Pillow.new("RGB", (1, 1), (file, written, network))
    return opening(source, *arguments, **options)

if "deepmmsearch.decoding" in sys.orig_argv:
    Pillow.open = opened
"""
CRASH, HANG = b"\0 crash..", b"\0 hang..."


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes of the test's own, in which some files have an effect that a hole in a decoder might have; 4 s on the
    clock for each."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setattr(images, "SECONDS", 0.5)
    monkeypatch.setattr(images, "SECONDS_PER_MEGAPIXEL", 0.0)
    images._decoders.cache_clear()
    yield
    for formats in (images.FORMATS, images.WEB_FORMATS):
        threads, workers = images._decoders(os.getpid(), formats)
        threads.shutdown()
        while not workers.empty():
            workers.get().close()
    images._decoders.cache_clear()


def test_one_that_kills_the_process_costs_itself(fresh: None) -> None:
    good = encode(noise(), "PNG")
    for content in (good, CRASH, good, CRASH, CRASH, good):
        if content is good:
            assert images.load(content).size == (60, 40)
        else:
            with pytest.raises(UserError, match="evil cannot be decoded: its extraction crashed"):
                images.load(content, name="evil")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is expected to keep to it")
def test_one_that_takes_too_much_memory_costs_itself(fresh: None) -> None:
    with pytest.raises(UserError, match=r"damaged \(MemoryError\)"):
        images.load(b"\0 hungry.")
    assert images.load(encode(noise(), "PNG")).size == (60, 40)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_process_that_was_killed_is_started_again(fresh: None) -> None:
    """Also where it is still dying when the next picture comes."""
    good = encode(noise(), "PNG")
    images.load(good)
    _, workers = images._decoders(os.getpid(), images.FORMATS)
    for _ in range(5):
        worker = workers.get()
        assert worker._process is not None
        worker._process.kill()
        workers.put(worker)
        assert images.load(good).size == (60, 40)


@pytest.mark.skipif(not confinement().network, reason="this system cannot take the network from a process")
def test_it_has_no_network(fresh: None, tmp_path: Path) -> None:
    assert images.load(b"\0 probe.." + bytes(tmp_path / "secret")).getpixel((0, 0))[2] == 0


@pytest.mark.skipif(not confinement().files, reason="this system cannot take the files from a process")
def test_it_has_no_files(fresh: None, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    assert images.load(b"\0 probe.." + bytes(tmp_path / "secret")).getpixel((0, 0))[:2] == (0, 0)
    assert not (tmp_path / "secret.new").exists()


async def test_who_waits_for_one_keeps_nobody_else_waiting(fresh: None) -> None:
    """Neither the loop nor other pictures."""
    pytest.importorskip("httpx2")
    from deepmmsearch.errors import ToolError
    from deepmmsearch.tools.thumbnails import open_image

    hanging = [asyncio.create_task(open_image(HANG))]
    for _ in range(5):
        assert (await open_image(encode(noise(), "PNG"))).size == (60, 40)
    hanging.append(asyncio.create_task(open_image(HANG)))
    # and now, with both processes for the web taken, one of our own
    assert (await asyncio.wrap_future(images.loading(encode(noise(), "PNG")))).size == (60, 40)
    assert not any(task.done() for task in hanging)
    for task in hanging:
        with pytest.raises(ToolError, match="took more than"):
            await task


async def test_a_search_has_one_picture_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a search with many hostile pictures takes no more than its share."""
    pytest.importorskip("httpx2")
    import base64

    from deepmmsearch.tools.providers import pictures
    from deepmmsearch.types import Hit

    under_way: list[bytes] = []
    most: dict[bytes, int] = {}

    async def opened(content: bytes, **_: Any) -> Image.Image:
        under_way.append(content)
        most[content] = max(most.get(content, 0), under_way.count(content))
        most[b"all"] = max(most.get(b"all", 0), len(under_way))
        await asyncio.sleep(0.01)
        under_way.remove(content)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(pictures, "open_image", opened)

    async def search(name: bytes) -> list[Hit]:
        address = "data:image/png;base64," + base64.b64encode(name).decode()
        hits = [(Hit(str(n), f"https://a.example/{n}", ""), address) for n in range(5)]
        return await pictures.illustrated(SimpleNamespace(outside=None), hits, 5)  # type: ignore[arg-type]

    found = await asyncio.gather(search(b"one"), search(b"two"))
    assert all(hit.image is not None for hits in found for hit in hits)
    assert most == {b"one": 1, b"two": 1, b"all": 2}


def test_many_threads_get_each_their_own() -> None:
    given = {n: encode(Image.new("RGB", (n + 1, 9), (n, 0, 0)), "PNG") for n in range(40)}
    with ThreadPoolExecutor(16) as pool:
        got = dict(zip(given, pool.map(images.load, given.values()), strict=True))
    assert all(p.size == (n + 1, 9) and p.getpixel((0, 0)) == (n, 0, 0) for n, p in got.items())
    assert len(images._decoders(os.getpid(), images.FORMATS)[0]._threads) <= images.WORKERS


FORKS = """
import io, os, sys
from PIL import Image
from deepmmsearch import images

def picture(side):
    buffer = io.BytesIO()
    Image.new("RGB", (side, 9)).save(buffer, "PNG")
    return images.load(buffer.getvalue()).width

def pid():
    workers = images._decoders(os.getpid(), images.FORMATS)[1]
    worker = workers.get()
    workers.put(worker)
    return worker._process.pid

assert picture(1) == 1
before = pid()
children = []
for n in range(2, 5):
    if not (child := os.fork()):
        right = all(picture(n * k) == n * k for k in range(1, 30)) and pid() != before
        os._exit(0 if right else 1)
    children.append(child)
assert all(picture(k) == k for k in range(1, 30))
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
assert pid() == before and picture(7) == 7
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_has_processes_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_process_that_was_taken_over_forges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[dict[str, Any]] = [
        {"size": [2, 2]},
        {"size": [2, 2], "content": b"123"},
        {"size": [-1, -4], "content": b"123456789012"},
        {"size": ["a", 10**9], "content": b""},
        {"size": [10**9, 10**9], "content": b"123"},
        {"size": 7, "content": b"123"},
        {"size": [1.0, 1.0], "content": b"123"},
        {"content": b"123"},
    ]
    for answer in answers:
        monkeypatch.setattr("deepmmsearch.confined.Worker.ask", lambda *_, given=answer: dict(given))
        with pytest.raises(UserError, match="cannot be decoded"):
            images.load(b"any")


def test_a_process_that_cannot_be_started_is_no_fault_of_the_picture(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(Failed, match="No process can be started"):
        images.load(encode(noise(), "PNG"))


def test_a_build_goes_on_past_hostile_pictures(fresh: None, tmp_path: Path) -> None:
    pytest.importorskip("tantivy")
    pytest.importorskip("cv2")
    from deepmmsearch.engine import Index

    docs = tmp_path / "docs"
    docs.mkdir()
    for name, content in {
        "a.jpg": baseline(noise(), 3_000),
        "b.jpg": CRASH,
        "d.gif": wide_frames("GIF") + b"\0" * 64,
        "e.jpg": b"",
        "good.png": encode(noise(), "PNG"),
        "x.png": png(9_000),
        "z.md": b"# Oru\n\nIt has a capital.",
    }.items():
        (docs / name).write_bytes(content)
    report = Index.build(docs, tmp_path / "index").report
    assert report.added == 3
    assert report.skipped == {
        "a picture that takes too long to decode": ["a.jpg"],
        "a damaged picture": ["b.jpg"],
        "empty file": ["e.jpg"],
        "of more than 64 megapixels": ["x.png"],
    }
