"""Extraction in a process of its own, which can be killed: a page that hangs its parser costs one timeout.

A plain subprocess rather than multiprocessing: it needs no guarded main module in the caller's script.
"""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.reading.document import Document, Showing, Unreadable
from deepmmsearch.reading.files import extract

MEMORY_LIMIT = 2 * 1024**3
# the limit is on processor time where the system can do that: a busy machine must not cost pages
WALL_FACTOR = 8

Reading = Callable[[Mapping[str, str], bytes], dict[str, Any]]


class Worker:
    """A module that calls `serve`, behind a pipe. Started on the first call, restarted after a kill or a crash; close()
    ends it. `timeout`: seconds of processor time for one call; `wall`: seconds of any time."""

    def __init__(self, module: str, timeout: float, wall: float | None = None) -> None:
        self.module, self.timeout = module, timeout
        self.wall = wall
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, request: Mapping[str, str], content: bytes) -> dict[str, Any]:
        """Raises Unreadable: refused by the extraction, over the time limit, or the process died of it; UserError for
        a package that is missing."""
        process = self._started()
        # a timer that kills works on every system, a selector on pipes does not
        wall = self.timeout * WALL_FACTOR if self.wall is None else self.wall
        clock = threading.Timer(wall, process.kill)
        clock.start()
        try:
            _send(process.stdin, json.dumps({**request, "timeout": self.timeout}).encode(), content)
            answer: dict[str, Any] = json.loads(_read(process.stdout) or b"")
        except (OSError, ValueError):
            expired = not clock.is_alive()
            self.close()
            expired = expired or process.returncode == -getattr(signal, "SIGPROF", 0)
            problem = f"took more than {self.timeout:g} s to read" if expired else "its extraction crashed"
            raise Unreadable(problem) from None
        finally:
            clock.cancel()
        if "missing" in answer:
            raise UserError(answer["missing"])
        if "reason" in answer:
            raise Unreadable(answer["reason"])
        return answer

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # unsent bytes of a killed process
                        pipe.close()
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process


class Extractor(Worker):
    """`extract` in a process of its own."""

    def __init__(self, timeout: float = 15.0) -> None:
        super().__init__("deepmmsearch.reading.worker", timeout)

    def extract(self, path: str, content: bytes) -> Document:
        """Raises Unreadable, as `ask` does."""
        answer = self.ask({"path": path}, content)
        shown = tuple(Showing(**picture) for picture in answer.pop("pictures"))
        headings = answer.pop("headings")
        return Document(**answer, pictures=shown, headings=tuple(headings))


def _send(pipe: Any, *parts: bytes) -> None:
    for part in parts:
        pipe.write(struct.pack(">I", len(part)) + part)
    pipe.flush()


def _read(pipe: Any) -> bytes | None:
    head = pipe.read(4)
    return pipe.read(struct.unpack(">I", head)[0]) if len(head) == 4 else None


def _extracted(request: Mapping[str, str], content: bytes) -> dict[str, Any]:
    document = extract(request["path"], content)
    return {
        "title": document.title,
        "text": document.text,
        "url": document.url,
        "pictures": [vars(picture) for picture in document.pictures],
        "headings": document.headings,
    }


def _answer(read: Reading, request: Mapping[str, str], content: bytes) -> dict[str, Any]:
    try:
        return read(request, content)
    except Unreadable as error:
        return {"reason": str(error)}
    except MissingExtra as error:
        return {"missing": str(error)}
    except (MemoryError, RecursionError):
        return {"reason": "too complex to read"}
    except Exception:  # whatever a parser throws at a hostile page: the build goes on
        return {"reason": "its extraction failed"}


def serve(read: Reading, memory: int = MEMORY_LIMIT) -> None:
    """Answers a `Worker` until it goes away; `memory` bounds the process, in bytes."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except (ImportError, ValueError, OSError):  # not on this system: the time limit still holds
        pass
    # libraries that print must not write into the answers
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    while (head := _read(sys.stdin.buffer)) is not None:
        content = _read(sys.stdin.buffer)
        if content is None:
            break
        request = json.loads(head)
        if hasattr(signal, "setitimer"):
            # left to its default, the signal ends the process, also in the middle of C code
            signal.setitimer(signal.ITIMER_PROF, request["timeout"])
        _send(output, json.dumps(_answer(read, request, content)).encode())


if __name__ == "__main__":
    serve(_extracted)
