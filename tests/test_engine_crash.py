"""Killed at any moment, an index is as its last commit left it; readers read on, a second writer is refused."""

from __future__ import annotations

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
from deepmmsearch.engine.writer import Writer
from deepmmsearch.errors import UserError

# adds document after document, with a row of an array each, and says which are committed
ADDER = """
import sys, numpy as np
from deepmmsearch.engine.index import Index
from deepmmsearch.engine.writer import Writer
index = Index.open(sys.argv[1])
n = int(sys.argv[2])
with Writer(index.store) as writer:
    while True:
        for _ in range(5):
            row = writer.add_row("rows", {"value": np.float32([n])})
            writer.add("passage", f"f{n}", {"n": n}, url="u", title="t", body=f"doc {n}", row=row)
            n += 1
        writer.commit()
        print(n, flush=True)
"""


def _numbers(index: Index) -> list[int]:
    return sorted(r.content["n"] for r in index.store.snapshot().find("kind", "passage"))


def _check(index: Index, acknowledged: int) -> int:
    """A committed prefix, whole batches, and every document finds its row."""
    numbers = _numbers(index)
    assert numbers == list(range(len(numbers))) and len(numbers) % 5 == 0 and len(numbers) >= acknowledged
    snapshot = index.store.snapshot()
    arrays = snapshot.arrays("rows")
    if numbers:
        assert arrays is not None
        rows = dict(zip(arrays["ids"].tolist(), arrays["value"][:, 0].tolist(), strict=True))
        assert {r.content["row"]: r.content["n"] for r in snapshot.find("kind", "passage")} == rows
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
        writer.add("passage", "last", {"n": count}, body="last")
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
        writer.add("passage", "f", {"n": 0}, body="x")
    assert _numbers(empty) == []
    with Writer(empty.store):
        pass  # the lock was given back
