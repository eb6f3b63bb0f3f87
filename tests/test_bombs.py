"""Replies that are small on the wire and huge in memory or time: one clear error each, within bounds."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("httpx2")
pytest.importorskip("trafilatura")

import bombs

MEMORY, SECONDS = 512, 5.0
# what a parser takes calmly is no error
HARMLESS = {"XHTML, a billion laughs"}
# as many of a kind as is quick; all of them run alone
SLOW = {name for name in bombs.BOMBS if name.startswith(("HTML, 600", "HTML, nested", "HTML, one", "XHTML", "PDF"))}
EXPECTED = {
    "gzip, 10 MB for 10 GB": "TooLarge: .* 10 MB, decompressed",
    "deflate, 10 MB for 10 GB": "TooLarge: .* 10 MB, decompressed",
    "br for 10 GB": "TooLarge: .* 10 MB, decompressed",
    "zstd for 10 GB, window 128 MB": "TooLarge: .* 10 MB, decompressed",
    "page of 200 MB": "TooLarge: .* more than 20 MB",
    "endless slow body": "TimedOut",
    "endless fast body": "TimedOut|TooLarge",
    "endless headers": "BadReply",
    "PNG of 50,000 x 50,000": "25 megapixels",
    "PNG, text chunk of 1 GB": "damaged",
    "GIF of 10,000 frames": "1000 frames",
    "GIF of 500,000 frames": "1000 frames",
    "JPEG of 1,000 scans": "scans",
    "baseline JPEG of 100,000 scans": "scans",
    "MPO of 1,000 scans": "scans",
    "WebP canvas of 16,383 x 16,383": "25 megapixels",
    "HTML, 400,000 nested elements": "nested too deeply",
    "HTML, 600,000 nested formats": "nested too deeply",
    "HTML, nested tables": "nested too deeply",
    "HTML, one element of 300,000 attributes": "no text",
    "PDF, stream of 1 GB": "no text|damaged PDF|crashed",
    "PDF, pages in a loop": "damaged PDF|no text",
}


# PDFium unpacks a stream whole; its process has 2 GB at most
UNPACKED = {"PDF, stream of 1 GB": 1_500}


def check(row: bombs.Row) -> None:
    pattern = "^no error: " if row.name in HARMLESS else EXPECTED[row.name]
    assert re.search(pattern, row.error), row
    assert "\n" not in row.error and len(row.error) < 200
    assert row.processor_seconds < SECONDS and row.memory + row.worker_memory < UNPACKED.get(row.name, MEMORY), row


def test_every_bomb_has_an_expectation() -> None:
    assert set(bombs.BOMBS) == set(EXPECTED) | HARMLESS


def test_one_clear_error_for_each_kind_of_bomb() -> None:
    """All in one process, whose peak memory is that of the worst."""
    names = [name for name in bombs.BOMBS if name not in SLOW]
    rows = bombs.together(1.0, *names)
    assert [row.name for row in rows] == names
    for row in rows:
        check(row)


@pytest.mark.slow
@pytest.mark.parametrize("name", bombs.BOMBS)
def test_each_bomb_alone(name: str) -> None:
    (row,) = bombs.together(bombs.TIMEOUT, name)
    check(row)
