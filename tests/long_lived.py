"""Every kind of process that this project starts, at once, until somebody ends the first: `main(FOLDER)` leaves a file
KIND-PID in FOLDER for each of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from deepmmsearch.children import Child, ParentPipe, call_all, start
from deepmmsearch.data.workers import Tell, run_shards
from deepmmsearch.reading.worker import Extractor

KINDS = ("stage", "function", "below", "several", "several", "shard", "shard", "pages")


def note(folder: str, kind: str, pid: int | None = None) -> None:
    Path(folder, f"{kind}-{pid or os.getpid()}").touch()


def stay(line: ParentPipe | None, folder: str, kind: str) -> None:
    note(folder, kind)
    time.sleep(600)


def one_below(line: ParentPipe, folder: str) -> None:
    with Child(stay, folder, "below") as child:
        child.receive()


class Staying:
    """The shards of a data build."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    async def __call__(self, shard: str, tell: Tell, /) -> None:
        stay(None, self.folder, "shard")


def main(folder: str) -> None:
    # who was started in the background ignores it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = f"import os, pathlib, time; pathlib.Path({folder!r}, f'stage-{{os.getpid()}}').touch(); time.sleep(600)"
    threading.Thread(target=lambda: list(run_shards(Staying(folder), ["a", "b"], 2)), daemon=True).start()
    with start("given_code", code), Child(stay, folder, "function"), Child(one_below, folder), Extractor(600) as pages:
        pages.extract("a.txt", b"Hello.")
        assert pages._process is not None
        note(folder, "pages", pages._process.pid)
        list(call_all([(stay, None, folder, "several")] * 2, 2))
