"""Killed at any moment, an index is as its last commit left it; readers read on, a second writer is refused."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tantivy")

from deepmmsearch.engine import Index
from deepmmsearch.engine.storage import Record
from deepmmsearch.engine.writer import NewPassage, Writer
from deepmmsearch.errors import UserError

# adds document after document, with a row of an array each, and says which are committed
ADDER = """
import sys, numpy as np
from deepmmsearch.engine.index import Index
from deepmmsearch.engine.writer import NewPassage, Writer
index = Index.open(sys.argv[1])
n = int(sys.argv[2])
with Writer(index.store) as writer:
    while True:
        for _ in range(5):
            row = writer.add_row("rows", {"value": np.float32([n])})
            writer.add_page(f"f{n}", "u", "t", [NewPassage(f"doc {n}", row)])
            n += 1
        writer.commit()
        print(n, flush=True)
"""


def _numbers(index: Index) -> list[int]:
    return sorted(map(_number, index.store.snapshot().find("kind", "passage")))


def _number(record: Record) -> int:
    return int(record.content["text"].removeprefix("doc "))


def _check(index: Index, acknowledged: int) -> int:
    """A committed prefix, whole batches, and every document finds its row."""
    numbers = _numbers(index)
    assert numbers == list(range(len(numbers))) and len(numbers) % 5 == 0 and len(numbers) >= acknowledged
    snapshot = index.store.snapshot()
    arrays = snapshot.arrays("rows")
    if numbers:
        assert arrays is not None
        rows = dict(zip(arrays["ids"].tolist(), arrays["value"][:, 0].tolist(), strict=True))
        assert {r.content["row"]: _number(r) for r in snapshot.find("kind", "passage")} == rows
    return len(numbers)


@pytest.fixture
def empty(tmp_path: Path) -> Index:
    (tmp_path / "w").mkdir()
    return Index.build(tmp_path / "w", tmp_path / "i")


def test_kill_leaves_a_committed_prefix(empty: Index) -> None:
    rng = random.Random(5)
    count = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", ADDER, str(empty.store.folder), str(count)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(rng.uniform(0, 0.4))
        process.kill()
        said = [line for line in (first + process.stdout.read()).splitlines(keepends=True) if line.endswith("\n")]
        process.wait()
        count = _check(Index.open(empty.store.folder), int(said[-1]))
    # the next writer clears what the killed ones left and goes on
    with Writer(empty.store) as writer:
        writer.add_page("last", "u", "t", [NewPassage(f"doc {count}")])
        writer.commit()
    named = {s.name for s in empty.store.snapshot().segments}
    assert {p.name for p in empty.store.arrays.iterdir()} == named


def test_readers_read_while_a_writer_adds(empty: Index) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ADDER, str(empty.store.folder), "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    seen: list[int] = []
    failures: list[BaseException] = []

    def read() -> None:
        own = Index.open(empty.store.folder)
        try:
            deadline = time.monotonic() + 60
            while len(set(seen)) < 3 and time.monotonic() < deadline:
                for attempt in range(5):
                    try:
                        seen.append(_check(own, 5))
                        break
                    except FileNotFoundError:  # merged away between commit and read: Index.search_* does the same
                        own.store.refresh()
                        assert attempt < 4
                assert own.search_text("doc", 1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(UserError, match="Another process is writing"):
        Writer(empty.store)
    process.kill()
    process.wait()
    process.stdout.close()
    assert not failures and len(set(seen)) >= 3


def test_what_is_not_committed_is_gone(empty: Index) -> None:
    with Writer(empty.store) as writer:
        writer.add_row("rows", {"value": np.zeros(1, np.float32)})
        writer.add_page("f", "u", "t", [NewPassage("doc 0")])
    assert _numbers(empty) == []
    with Writer(empty.store):
        pass  # the lock was given back


# builds an index of a folder, committing all the time, and says when it begins
BUILDER = """
import sys
from deepmmsearch.engine import Index, writer
writer.COMMIT_SECONDS = float(sys.argv[3])
print("begins", flush=True)
Index.build(sys.argv[1], sys.argv[2])
print("ends", flush=True)
"""


def _documents(root: Path, count: int) -> None:
    root.mkdir()
    for n in range(count):
        (root / f"d{n:03}.md").write_text(f"# Title {n}\n\n" + f"The word{n} stands in document {n}. " * 60)


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_killed_build_has_whole_files_and_goes_on(tmp_path: Path, seconds: float) -> None:
    """Killed at any moment: while it walks, reads, commits or merges."""
    root, folder = tmp_path / "docs", tmp_path / "index"
    _documents(root, 120)
    rng = random.Random(int(seconds * 100))
    command = [sys.executable, "-c", BUILDER, str(root), str(folder), str(seconds)]
    before = 0
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.9))
        process.kill()
        process.wait()
        process.stdout.close()
        if not (folder / "meta.json").exists():
            continue
        index = Index.open(folder)
        snapshot = index.store.snapshot()
        files = {r.file for r in snapshot.find("kind", "file")}
        passages = [r.file for r in snapshot.find("kind", "passage")]
        # each file that is recorded is there whole, and nothing of any other
        assert set(passages) == files and all(passages.count(file) == passages.count("d000.md") for file in files)
        assert len(files) >= before
        before = len(files)
    report = Index.build(root, folder).report
    assert report.unchanged == before and report.added == 120 - before
    assert len(Index.open(folder).search_text("word7", 3)) == 3


def test_a_second_build_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    root, folder = tmp_path / "docs", tmp_path / "index"
    _documents(root, 5)
    Index.build(root, folder)
    with Writer(Index.open(folder).store):
        (root / "new.md").write_text("A lighthouse.")
        for change in (lambda: Index.build(root, folder), lambda: Index.open(folder).add([root / "new.md"])):
            with pytest.raises(UserError, match="Another process is writing"):
                change()
    assert Index.build(root, folder).report.added == 1


def test_a_full_disk_costs_what_was_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = tmp_path / "docs", tmp_path / "index"
    _documents(root, 8)
    monkeypatch.setattr("deepmmsearch.engine.writer.COMMIT_SECONDS", 0.0)
    plain, commits = Writer.commit, iter(range(99))

    def full(self: Writer) -> None:
        if next(commits) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(self)

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "commit", full)
        with pytest.raises(OSError, match="No space left"):
            Index.build(root, folder)
    assert Index.open(folder).stats()["files"] == 3
    assert Index.build(root, folder).report.added == 5
