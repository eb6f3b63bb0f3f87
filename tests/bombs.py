"""Replies that are small on the wire and huge in memory or time, and what becomes of them.

    python tests/bombs.py                # each in a process of its own, as a table
    python tests/bombs.py 1.0 NAME...    # these in one process, as lines of JSON; at most 1 s for each request

A row: the error, seconds on the clock and of processor time, and the peak memory of the process and of the largest one
it started, in MB.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from hostile_pictures import baseline, mpo, progressive

TIMEOUT = 3.0
MEGABYTE = 1_000_000
BLOCK = bytes(2**20)


@dataclass(frozen=True)
class Bomb:
    """`kind`: who receives it (fetch, page, picture). `body`: its pieces; `pause`: seconds between two."""

    kind: str
    headers: str
    body: Callable[[], Iterable[bytes]]
    pause: float = 0.0


def gzip_body(blocks: int = 10 * 1024) -> Iterator[bytes]:
    """10 GB in 10 MB: after a full flush the same compressed block may follow itself."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = compressor.compress(BLOCK) + compressor.flush(zlib.Z_FULL_FLUSH)
    yield b"\x1f\x8b\x08" + bytes(7)
    for _ in range(blocks):
        yield block


def deflate_body() -> Iterator[bytes]:
    pieces = gzip_body()
    next(pieces)
    yield b"\x78\x9c"
    yield from pieces


def brotli_body(blocks: int = 10 * 1024) -> Iterator[bytes]:
    import brotli

    compressor = brotli.Compressor(quality=1)
    yield compressor.process(BLOCK) + compressor.flush()
    for _ in range(blocks - 1):
        yield compressor.process(BLOCK) + compressor.flush()


def zstd_body(blocks: int = 160) -> Iterator[bytes]:
    """Frames of 64 MB each, 10 GB in all; the first asks for a window of 128 MB."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.enable_long_distance_matching: 1}
    compressor = zstd.ZstdCompressor(options=options)
    frame = b"".join(compressor.compress(BLOCK) for _ in range(64)) + compressor.flush()
    for _ in range(blocks):
        yield frame


def plain_body(megabytes: int = 200) -> Iterator[bytes]:
    yield b"<html><body>"
    for _ in range(megabytes):
        yield b"<p>word word word word</p>" * 40_000


def endless() -> Iterator[bytes]:
    while True:
        yield b"<p>more</p>"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(side: int, *extra: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(999)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + data + chunk(b"IEND", b"")


def gif(frames: int = 10_000) -> bytes:
    """Frames of one pixel each, 18 bytes a frame."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + bytes(6) + frame * frames + b";"


def webp(side: int = 16_383) -> bytes:
    """An animation on the largest canvas there is, with one frame of one pixel."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "WEBP", lossless=True)
    inner = buffer.getvalue()[12:]
    size = (side - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size + size
    animation = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    frame = bytes(6) + bytes(6) + (100).to_bytes(3, "little") + b"\0" + inner
    body = b"WEBP" + extended + animation + b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def pdf_bomb() -> bytes:
    """A page whose content stream is 1 MB of zlib for 1 GB of spaces."""
    compressor = zlib.compressobj(9)
    stream = b"".join(compressor.compress(b" " * 2**20) for _ in range(1024)) + compressor.flush()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    content, places = b"%PDF-1.4\n", []
    for number, written in enumerate(objects, 1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, written)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(content)
    content += b"xref\n0 5\n0000000000 65535 f \n" + table
    return content + b"trailer\n<< /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start


def pdf_loop() -> bytes:
    """A tree of pages that contains itself."""
    return (
        b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n"
        b"2 0 obj\n<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 100000000 >>\nendobj\n"
        b"trailer\n<< /Size 3 /Root 1 0 R >>\n%%EOF\n"
    )


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(12))
    head = f'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY a "ha ha ha">{entities}]>'
    return f"{head}<html><body><p>&m;</p></body></html>".encode()


def grey(width: int, height: int) -> Image.Image:
    return Image.new("L", (width, height), 128)


HTML, PDF, JPEG = "Content-Type: text/html", "Content-Type: application/pdf", "Content-Type: image/jpeg"
BOMBS: dict[str, Bomb] = {
    "gzip, 10 MB for 10 GB": Bomb("fetch", "Content-Encoding: gzip", gzip_body),
    "deflate, 10 MB for 10 GB": Bomb("fetch", "Content-Encoding: deflate", deflate_body),
    "br for 10 GB": Bomb("fetch", "Content-Encoding: br", brotli_body),
    "zstd for 10 GB, window 128 MB": Bomb("fetch", "Content-Encoding: zstd", zstd_body),
    "page of 200 MB": Bomb("page", HTML, plain_body),
    "endless slow body": Bomb("fetch", HTML, endless, pause=0.01),
    "endless fast body": Bomb("page", HTML, endless),
    "endless headers": Bomb("fetch", "X-Head: 1\r\n" * 50_000 + "X-Last: 1", endless),
    "PNG of 50,000 x 50,000": Bomb("picture", "Content-Type: image/png", lambda: [png(50_000)]),
    "PNG, text chunk of 1 GB": Bomb(
        "picture",
        "Content-Type: image/png",
        lambda: [png(16, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**30), 1)))],
    ),
    "GIF of 10,000 frames": Bomb("picture", "Content-Type: image/gif", lambda: [gif()]),
    "GIF of 500,000 frames": Bomb("picture", "Content-Type: image/gif", lambda: [gif(500_000)]),
    "JPEG of 1,000 scans": Bomb("picture", JPEG, lambda: [progressive(grey(6_000, 4_000), 1_000)]),
    "baseline JPEG of 100,000 scans": Bomb("picture", JPEG, lambda: [baseline(grey(2_000, 2_000), 100_000, b"")]),
    "MPO of 1,000 scans": Bomb("picture", JPEG, lambda: [mpo(grey(2_000, 2_000), 1_000)]),
    "WebP canvas of 16,383 x 16,383": Bomb("picture", "Content-Type: image/webp", lambda: [webp()]),
    "HTML, 400,000 nested elements": Bomb("page", HTML, lambda: [b"<div>" * 400_000]),
    "HTML, 600,000 nested formats": Bomb("page", HTML, lambda: [b"<b>" * 600_000 + b"deep"]),
    "HTML, nested tables": Bomb("page", HTML, lambda: [b"<table><tr><td>" * 130_000 + b"deep"]),
    "HTML, one element of 300,000 attributes": Bomb(
        "page", HTML, lambda: [b"<p " + b" ".join(b"a%d=1" % n for n in range(300_000)) + b">"]
    ),
    "XHTML, a billion laughs": Bomb("page", "Content-Type: application/xhtml+xml", lambda: [laughs()]),
    "PDF, stream of 1 GB": Bomb("page", PDF, lambda: [pdf_bomb()]),
    "PDF, pages in a loop": Bomb("page", PDF, lambda: [pdf_loop()]),
}


async def serve(bomb: Bomb, pieces: list[bytes] | None) -> tuple[asyncio.Server, int]:
    async def parts() -> AsyncIterator[bytes]:
        for piece in pieces if pieces is not None else bomb.body():
            yield piece
            await asyncio.sleep(bomb.pause)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\n{bomb.headers}\r\n\r\n".encode())
            async for part in parts():
                writer.write(part)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@dataclass(frozen=True)
class Row:
    name: str
    error: str
    seconds: float
    processor_seconds: float
    memory: float
    worker_memory: float


async def explode(name: str, timeout: float) -> Row:
    from deepmmsearch.errors import ToolError
    from deepmmsearch.tools.http import GuardedClient
    from deepmmsearch.tools.page_reader import WebReader
    from deepmmsearch.tools.thumbnails import fetch, open_image

    bomb = BOMBS[name]
    # what takes long or much to make is made before the clock starts; the rest is made while it is sent
    made = list(bomb.body()) if bomb.kind == "picture" or bomb.headers == PDF else None
    server, port = await serve(bomb, made)
    url = f"http://127.0.0.1:{port}/"
    # what ends at the time limit alone is given little time; the others must end by themselves, on a busy machine too
    limit = timeout if name.startswith("endless") else 30.0
    async with GuardedClient(allow_private=[f"127.0.0.1:{port}"], timeout=limit) as client:
        reader = WebReader(client, timeout=limit)
        began, busy = time.perf_counter(), processor()
        try:
            if bomb.kind == "page":
                error = f"no error: {len((await reader.read(url)).text)} characters"
            elif bomb.kind == "picture":
                error = f"no error: {(await open_image((await fetch(client, url)).content)).size}"
            else:
                error = f"no error: {len((await client.get(url)).content)} bytes"
        except ToolError as raised:
            error = f"{type(raised).__name__}: {raised}"
        seconds = time.perf_counter() - began
        reader.close()
        close_decoders()
    server.close()
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    return Row(name, error, seconds, processor() - busy, peak_memory(), child)


def close_decoders() -> None:
    """So that what they took is counted."""
    from deepmmsearch import images

    _, workers = images._decoders(os.getpid(), images.WEB_FORMATS)
    for worker in [workers.get() for _ in range(images.WORKERS)]:
        worker.close()
        workers.put(worker)


def peak_memory() -> float:
    """This process's own peak in MB. Linux counts what the parent held at the start into ru_maxrss, so the process's
    own high-water mark is read where there is one."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found.group(1)) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def processor() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def together(timeout: float, *names: str) -> list[Row]:
    """In one process of their own, so that its memory is theirs."""
    command = [sys.executable, __file__, str(timeout), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [Row(**json.loads(line)) for line in done.stdout.splitlines()]


def main(given: list[str]) -> None:
    if given:
        for name in given[1:]:
            print(json.dumps(asdict(asyncio.run(explode(name, float(given[0]))))), flush=True)
        return
    print("| bomb | error | seconds | processor | memory, MB | worker, MB |\n|---|---|---|---|---|---|")
    for name in BOMBS:
        (row,) = together(TIMEOUT, name)
        figures = f"{row.seconds:.1f} | {row.processor_seconds:.1f} | {row.memory:.0f} | {row.worker_memory:.0f}"
        print(f"| {row.name} | {row.error} | {figures} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
