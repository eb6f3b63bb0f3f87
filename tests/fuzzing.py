"""Fuzzing of readers: valid files made on the spot, damaged in ways that are the same each time, then read.

Nothing but the reader's own errors may come out, within bounds of time and memory.
"""

from __future__ import annotations

import logging
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

SECONDS = 20.0
"""Of processor time for one file: a tenth of it is much already; what hangs takes more."""
MEMORY = 1_500_000_000
"""Bytes by which the process may grow."""
LARGEST = 200_000
"""Bytes of a damaged file."""

WORDS = (
    *(b"\x00", b"\xff\xfe", b"\xfe\xff\x00a", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"),
    *(rb"\ud800", rb"\udfff\ud800", rb"\u0000", rb"\u2028", "\u2028".encode(), "\u202e".encode(), b"\x85", b"\x1b[31m"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 20, b"9" * 400, b"-1", b"1.5", b"0x1"),
    *(b"{}", b"[]", b'""', b'"', b"'", b"[", b"]", b"{", b"}", b":", b",", b"\n", b"\r\n", b"\t", b"\\", b"|", b"#"),
    *(b"../../../../etc/passwd", b"/dev/zero", b"https://[", b"file:///etc/passwd", b"data:image/png;base64,AAAA"),
    *(b"<", b"</", b"<!--", b"-->", b"<![CDATA[", b"&#x110000;", b"&#0;", b"<svg>", b"<table>", b"<base href='//x'>"),
    *(b"&a *a", b"<<: *a", b"!!python/object:os.system x", b"!!timestamp x", b"? [a]", b"- - -", b"${HOME}", b"%00"),
    *(b"endobj", b"stream\n", b"/Length 99999999", b"<< /Type /Page >>", b"1 0 R", b"xref", b"%%EOF"),
)  # fmt: skip
NESTS = (b"[", b'{"a":', b"<div>", b"<b>", b"- ", b"> ", b"(", b"a: {", b"* ", b"[[", b"![](", b"<< /A ", b"\t", b"''")
NUMBER = re.compile(rb"\d+")
TEXT = re.compile(rb'"[^"\n]{0,80}"')


@dataclass(frozen=True)
class Reader:
    """`make` fills a folder with valid files, each of which `read` reads; or the folder whole, where `whole`. `cases`:
    how many the default suite tries. `errors`: what may come out. `damage` spoils a copy of what was made in a way of
    its own, half of the time."""

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...]
    cases: int
    whole: bool = False
    damage: Callable[[Random, Path], object] | None = None


def fuzz(reader: Reader, folder: Path, cases: int | None = None, seconds: float = 0.0, seed: int = 0) -> Counter[str]:
    """Reads `cases` damaged files, or as many as it can in `seconds`; how many were read, and how many refused. Raises
    AssertionError with the file that brought about anything else, which is kept."""
    valid, case = folder / "valid", folder / "case"
    valid.mkdir(parents=True)
    reader.make(valid)
    files = sorted(path for path in valid.rglob("*") if path.is_file())
    contents = [path.read_bytes() for path in files]
    assert files
    found: Counter[str] = Counter()
    for path in [valid] if reader.whole else files:
        reader.read(path)  # what is valid is read
    end, before = time.monotonic() + seconds, _memory()
    for number in range(cases) if cases is not None else count():
        if cases is None and time.monotonic() > end:
            break
        random = Random(f"{seed} {number}")
        path = _spoiled(reader, random, files, contents, valid, case)
        try:
            with _bounded():
                reader.read(path)
            found["read"] += 1
        except reader.errors:
            found["refused"] += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__}: {error} (number {number} of seed {seed}: {path})") from error
        grown = _memory() - before
        assert grown < MEMORY, f"{grown:,} bytes more memory after number {number} of seed {seed}: {path}"
    return found


def _spoiled(
    reader: Reader, random: Random, files: Sequence[Path], contents: Sequence[bytes], valid: Path, case: Path
) -> Path:
    if case.is_dir():
        shutil.rmtree(case)
    chosen = random.randrange(len(files))
    if reader.whole:
        shutil.copytree(valid, case)
    else:
        case.mkdir()
    path = case / files[chosen].relative_to(valid)
    path.parent.mkdir(parents=True, exist_ok=True)
    if reader.damage is not None and random.random() < 0.5:
        shutil.copy(files[chosen], path)
        reader.damage(random, case if reader.whole else path)
    else:
        path.write_bytes(mutate(random, contents[chosen], contents))
    return case if reader.whole else path


def mutate(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Up to eight changes, most often one."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        content = random.choice(_CHANGES)(random, content, others)[:LARGEST]
    return content


def _span(random: Random, content: bytes) -> tuple[int, int]:
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + random.choice((0, 1, 2, 4, 16, 64, 1024)))


def _flip(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 4, 32))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _insert(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _span(random, content)
    return content[:start] + random.choice(WORDS) + content[random.choice((start, end)) :]


def _delete(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _span(random, content)
    return content[:start] + content[end:]


def _repeat(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _span(random, content)
    return content[:end] + content[start:end] * random.choice((1, 2, 30, 1000)) + content[end:]


def _splice(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return content[: random.randrange(len(content) + 1)] + other[random.randrange(len(other) + 1) :]


def _cut(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _nest(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _span(random, content)
    return content[:start] + random.choice(NESTS) * random.choice((50, 1200, 20_000)) + content[end:]


def _overwrite(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    size = random.choice((1, 2, 4, 8))
    value = random.choice(
        (0, 1, 2, 0x7F, 0x80, -1, -2, 1 << (8 * size - 1), (1 << (8 * size - 1)) - 1, random.getrandbits(60))
    )
    word = (value % (1 << 8 * size)).to_bytes(size, random.choice(("little", "big")))  # type: ignore[arg-type]
    start = random.randrange(len(content) + 1)
    return content[:start] + word + content[start + size :]


def _replace(pattern: re.Pattern[bytes]) -> Callable[[Random, bytes, Sequence[bytes]], bytes]:
    def change(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
        found = list(pattern.finditer(content[:LARGEST]))
        if not found:
            return content
        match = random.choice(found)
        return content[: match.start()] + random.choice(WORDS) + content[match.end() :]

    return change


_CHANGES = (
    *(_flip, _flip, _insert, _insert, _delete, _repeat, _splice, _cut, _nest, _overwrite),
    *(_replace(NUMBER), _replace(TEXT)),
)


class TooSlow(Exception):
    """More processor time than any reader may need."""


@contextmanager
def _bounded() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlow(f"more than {SECONDS:g} s of processor time")

    logging.disable()  # pytest would keep every warning of a parser
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        logging.disable(logging.NOTSET)


def _memory() -> int:
    """Bytes that the process holds now; 0 where the system does not say so."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    return 0
