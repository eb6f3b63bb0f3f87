"""An index is kept up to date with its folder: what has rested is read, what is gone is removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

pytest.importorskip("tantivy")

from deepmmsearch.engine import Index
from deepmmsearch.engine.build_report import Outcome
from deepmmsearch.engine.watching import watching
from deepmmsearch.engine.writer import Writer


class Ended(Exception):
    """All that was to happen has happened."""


@pytest.fixture
def index(tmp_path: Path) -> Index:
    root = tmp_path / "docs"
    root.mkdir()
    (root / "old.md").write_text("An old harbour.")
    return Index.build(root, tmp_path / "index")


def watched(index: Index, *happens: Callable[[], object], log: Callable[..., None] = lambda *_: None) -> list[str]:
    """What is said when something happens after each look, and then nothing in three more."""
    pauses = iter((*happens, *([lambda: None] * 3)))

    def pause(seconds: float) -> None:
        happen = next(pauses, None)
        if happen is None:
            raise Ended
        happen()

    said: list[str] = []
    with pytest.raises(Ended):
        said.extend(_all(watching(index, 0.0, log=log, pause=pause), said))
    return said


def _all(sentences: Iterator[str], said: list[str]) -> Sequence[str]:
    for sentence in sentences:
        said.append(sentence)
    return ()


def test_new_changed_renamed_and_deleted_files_are_followed(index: Index) -> None:
    root = index.root
    assert watched(index) == []
    said = watched(index, lambda: (root / "new.md").write_text("A lighthouse."))
    assert [s.partition(",")[0] for s in said] == ["1 added"] and index.search_text("lighthouse")
    assert len(watched(index, lambda: (root / "new.md").write_text("A drawbridge."))) == 1
    assert index.search_text("drawbridge") and not index.search_text("lighthouse")
    (said_once,) = watched(index, lambda: (root / "new.md").rename(root / "moved.md"))
    assert "1 added" in said_once and "1 removed" in said_once
    assert [hit.url for hit in index.search_text("drawbridge")] == ["moved.md"]
    assert len(watched(index, lambda: (root / "moved.md").unlink())) == 1 and not index.search_text("drawbridge")


def test_a_file_that_is_still_written_is_left_until_it_rests(index: Index) -> None:
    path = index.root / "long.md"
    seen: list[int] = []

    def write(text: str) -> Callable[[], None]:
        def happens() -> None:
            seen.append(len(index.search_text("chapter")))
            with path.open("a") as file:
                file.write(text)

        return happens

    said = watched(index, *(write(f"Chapter {n}.\n") for n in range(4)))
    assert seen == [0, 0, 0, 0] and len(said) == 1 and "Chapter 3." in index.read("long.md").text


def test_what_cannot_be_read_is_tried_once_and_told_of_once(index: Index) -> None:
    told: list[tuple[Outcome, str, str]] = []
    (index.root / "bad.pdf").write_bytes(b"%PDF-1.4 cut")
    said = watched(
        index,
        lambda: None,
        lambda: None,
        lambda: (index.root / "more.md").write_text("More."),
        log=lambda *row: told.append(row),
    )
    assert len(said) == 2
    assert [row[:2] for row in told] == [("skipped", "bad.pdf"), ("added", "more.md")]


def test_another_writer_is_waited_for(index: Index) -> None:
    opened: list[Writer] = []
    said = watched(
        index,
        lambda: (index.root / "new.md").write_text("A lighthouse."),
        lambda: opened.append(Writer(index.store)),
        lambda: None,
        lambda: opened[0].close(),
    )
    assert "Another process is writing" in said[0] and "1 added" in said[1] and len(said) == 2


def test_a_folder_that_went_away_takes_nothing_with_it(index: Index, tmp_path: Path) -> None:
    root, away = index.root, tmp_path / "away"
    said = watched(index, lambda: root.rename(away), lambda: None, lambda: away.rename(root))
    assert len(said) == 1 and "cannot be read" in said[0] and index.search_text("harbour")
    # an empty folder is where a disk was that is not there now
    root.rename(away)
    root.mkdir()
    said = watched(index)
    assert len(said) == 1 and "is empty" in said[0] and index.search_text("harbour")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("A harbour.")
    command = [sys.executable, "-c", "from deepmmsearch.cli import main; main()", "index", "watch", "docs"]
    process = subprocess.Popen(
        [*command, "--every", "0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Watching ")
    assert "1 added" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors.endswith("Stopped. What was done is in the index.\n")
    assert Index.open(tmp_path / "index").search_text("harbour")
