"""What the recorder and the guarded client cost.

    python benchmarks/tools.py            # about two minutes on an idle machine
    python benchmarks/tools.py --quick

1. A cached call against a plain SELECT of the same row by the same process, in turns; goal: at most 3 times.
2. Calls a second through one cassette that 8 processes share: all answered from it, and all new to it.
3. The guarded client against plain httpx on a local server (`tools_client.py`); goal: at most 1.3 times.

Times are processor times where one process is measured (what others do on the machine does not count), and by the
clock where several are.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import itertools
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from deepmmsearch.environment import environment
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.recorded import RecordedTextSearch
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.types import Hit

PROCESSES = 8
HITS, SNIPPET = 5, 400
SAME = 1000


class Instant:
    """A provider that answers at once: what is left is the recorder."""

    name = "instant"

    async def search(self, query: str, k: int) -> list[Hit]:
        text = f"{query} is known for what is said of it. " * (SNIPPET // 40)
        return [Hit(f"{query}, page {n}", f"https://veld.test/{query}/{n}", text, 1 / (n + 1)) for n in range(k)]


def searcher(path: Path, memory: int = 64_000_000) -> tuple[Recorder, RecordedTextSearch]:
    recorder = Recorder(Cassette(path), memory=memory)
    return recorder, RecordedTextSearch(Instant(), recorder)


async def overhead(path: Path, rounds: int, batch: int = 250) -> dict[str, float]:
    """Microseconds of processor time for one of each, the median of `rounds` batches that take turns."""
    warm, tool = searcher(path)
    for start in range(0, SAME, 100):
        await asyncio.gather(*(tool.search(f"q{n}", HITS) for n in range(start, start + 100)))
    cold, forgetful = searcher(path, memory=0)
    keys = [key for (key,) in warm.cassette.rows("SELECT key FROM entries")]
    connection = sqlite3.connect(path, isolation_level=None)

    def read(key: bytes) -> str:
        row: str = connection.execute("SELECT result FROM entries WHERE key = ?", (key,)).fetchone()[0]
        return row

    numbers = itertools.cycle(range(SAME))
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "read": lambda: _repeat(batch, lambda: read(keys[next(numbers)])),
        "read and parse": lambda: _repeat(batch, lambda: json.loads(read(keys[next(numbers)]))),
        "first": lambda: _ask(batch, lambda: forgetful.search(f"q{next(numbers)}", HITS)),
        "again": lambda: _ask(batch, lambda: tool.search(f"q{next(numbers)}", HITS)),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, way in ways.items():
            began = time.process_time()
            await way()
            # the first two warm SQLite's and the processor's caches
            if number >= 2:
                taken[name].append((time.process_time() - began) / batch * 1e6)
    warm.close()
    cold.close()
    connection.close()
    return {name: statistics.median(times) for name, times in taken.items()}


async def _repeat(times: int, what: Callable[[], object]) -> None:
    for _ in range(times):
        what()


async def _ask(times: int, what: Callable[[], Awaitable[object]]) -> None:
    for _ in range(times):
        await what()


async def work(path: Path, calls: int, new: bool, at_once: int = 32) -> dict[str, float]:
    """One process's share: `calls` searches, `at_once` at a time. `lag`: longest time in ms the event loop stood."""
    recorder, tool = searcher(path)
    name = os.getpid() if new else "q"
    numbers = iter(range(calls))
    lags = [0.0]

    async def one() -> None:
        for n in numbers:
            await tool.search(f"{name}{n if new else n % SAME}", HITS)
            # as in an episode, where the policy speaks between two calls
            await asyncio.sleep(0)

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            lags.append(1000 * (time.perf_counter() - began) - 5)

    # all begin together, however long each took to start
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    ticking = asyncio.create_task(tick())
    began, used = time.time(), time.process_time()
    await asyncio.gather(*(one() for _ in range(at_once)))
    ended, used = time.time(), time.process_time() - used
    ticking.cancel()
    recorder.close()
    return {"began": began, "ended": ended, "processor": used, "lag": max(lags)}


def together(path: Path, calls: int, new: bool) -> dict[str, float]:
    """Calls a second of all processes by the clock, and processor time of one call in microseconds."""
    command = [sys.executable, __file__, "--worker", str(path), str(calls), "new" if new else "same"]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment()) for _ in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    done = [json.loads(worker.communicate()[0]) for worker in workers]
    span = max(d["ended"] for d in done) - min(d["began"] for d in done)
    return {
        "rate": PROCESSES * calls / span,
        "processor": sum(d["processor"] for d in done) / (PROCESSES * calls) * 1e6,
        "lag": max(d["lag"] for d in done),
    }


def client_overhead(quick: bool) -> None:
    if importlib.util.find_spec("tools_client") is None:
        print("3. guarded client: benchmarks/tools_client.py is not there")
        return
    command = [sys.executable, str(Path(__file__).with_name("tools_client.py")), *(["--quick"] if quick else [])]
    print("3. guarded client", flush=True)
    subprocess.run(command, check=False, env=environment())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        path, calls, kind = given.worker
        print(json.dumps(asyncio.run(work(Path(path), int(calls), kind == "new"))))
        return
    busy = f", {os.getloadavg()[0]:.1f} processes waiting" if hasattr(os, "getloadavg") else ""
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores{busy}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cache.sqlite"
        o = asyncio.run(overhead(path, 20 if given.quick else 100))
        print(
            f"1. processor time of one of {SAME} answers ({HITS} hits of about {SNIPPET} characters), in microseconds"
        )
        print(f"   plain SELECT               {o['read']:6.1f}")
        print(f"   plain SELECT, JSON parsed  {o['read and parse']:6.1f}")
        print(f"   cached call, first time    {o['first']:6.1f}   {o['first'] / o['read']:.1f} x SELECT, "
              f"{o['first'] / o['read and parse']:.1f} x SELECT with JSON")  # fmt: skip
        print(f"   cached call, again         {o['again']:6.1f}   {o['again'] / o['read']:.1f} x SELECT, "
              f"{o['again'] / o['read and parse']:.1f} x SELECT with JSON (goal: at most 3 x SELECT)")  # fmt: skip
        same = together(path, 500 if given.quick else 5000, new=False)
        new = together(path, 50 if given.quick else 500, new=True)
    print(f"2. {PROCESSES} processes, one cassette")
    for name, figures in (("known to it", same), ("new to it", new)):
        print(f"   {name:12s} {figures['rate']:8.0f} calls/s, {figures['processor']:6.0f} us of processor time each, "
              f"event loop held up {figures['lag']:.0f} ms at most")  # fmt: skip
    client_overhead(given.quick)


if __name__ == "__main__":
    main()
