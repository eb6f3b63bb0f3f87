"""What survives a kill: results that were paid for, line by line, and small files that appear whole."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl


class Journal:
    """Results by id in a file of JSON lines. A half-written last line is cut off when the journal is opened.

    A line is handed to the operating system before `append` returns: it survives the death of the process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0
        if path.exists():
            with path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):
                        break
                    row = json.loads(line)
                    self.entries[row["id"]] = row["value"]
                    whole += len(line)
            os.truncate(path, whole)
        self._file = path.open("ab", buffering=0)

    def append(self, id: str, value: Any) -> None:
        self._file.write(json.dumps({"id": id, "value": value}, ensure_ascii=True).encode() + b"\n")
        self.entries[id] = value

    def close(self) -> None:
        self._file.close()


def write_json(value: Any, path: Path) -> None:
    """Writes a JSON file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock file; gives False instead of waiting where `wait` is off and another process holds it. Where the
    platform has no file locks (Windows) nothing is locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if sys.platform == "win32":
            yield True
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
