"""A module in a process of its own, which can be killed: what hangs a parser costs one request its time limit.

It is confined (`sandbox`): what takes it over through a parser finds no network, no files and no keys.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from deepmmsearch import sandbox
from deepmmsearch.children import ParentPipe, read_frame, start_confined, write_frame
from deepmmsearch.errors import MissingExtra, Unreadable, UserError

MEMORY_LIMIT = 2 * 1024**3
# the limit is on processor time where the system can do that: a busy machine must not cost what was asked
WALL_FACTOR = 8
# of one answer: more than the longest text or the largest picture needs
LARGEST_ANSWER = 256 * 1024**2
CONTENT = "content"
"""What an answer holds under this name is bytes, or `Pieces` of them, which travel as they are; the rest is JSON."""

Reading = Callable[[Mapping[str, Any], bytes], dict[str, Any]]


class Worker:
    """A module that calls `serve`, behind a pipe. Started on the first call, restarted after a kill or a crash; close()
    ends it. `timeout`: seconds of processor time for one call; `wall`: seconds of any time; `memory`: bytes."""

    def __init__(self, module: str, timeout: float, wall: float | None = None, memory: int = MEMORY_LIMIT) -> None:
        self.module, self.timeout = module, timeout
        self.wall, self.memory = wall, memory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, request: Mapping[str, Any], content: bytes, timeout: float | None = None) -> dict[str, Any]:
        """`timeout`: instead of the usual one. Raises Unreadable: refused by the extraction, over the time limit, or
        the process died of it; UserError for a package that is missing."""
        seconds = self.timeout if timeout is None else timeout
        answer = self._exchange(request, content, seconds) or self._exchange(request, content, seconds)
        if answer is None:
            raise Unreadable("its extraction crashed")
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

    def start(self) -> None:
        """For whoever has something else to do until it is asked."""
        self._started()

    def _exchange(self, request: Mapping[str, Any], content: bytes, seconds: float) -> dict[str, Any] | None:
        """None where the process was killed, perhaps by a kernel without memory before it heard of this."""
        process = self._started()
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        # a timer that kills works on every system, a selector on pipes does not
        clock = threading.Timer(seconds * WALL_FACTOR if self.wall is None else self.wall, end)
        clock.start()
        try:
            write_frame(process.stdin, json.dumps({**request, "timeout": seconds}).encode(), content)
            answer: dict[str, Any] = json.loads(read_frame(process.stdout, LARGEST_ANSWER) or b"")
            plain = read_frame(process.stdout, LARGEST_ANSWER)
            if not isinstance(answer, dict) or plain is None:
                raise ValueError(answer)
            return {**answer, CONTENT: plain}
        except (OSError, ValueError, RecursionError):
            self.close()
        finally:
            clock.cancel()
        if late.is_set() or process.returncode == -getattr(signal, "SIGPROF", 0):
            raise Unreadable(f"took more than {seconds:g} s to read")
        if process.returncode == -getattr(signal, "SIGKILL", 0):
            return None
        raise Unreadable("its extraction crashed")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = start_confined(self.module, str(self.memory))
        return self._process


def _answer(reading: Reading, request: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    try:
        return reading(request, content)
    except Unreadable as error:
        return {"reason": str(error)}
    except MissingExtra as error:
        return {"missing": str(error)}
    except (MemoryError, RecursionError):
        return {"reason": "too complex to read"}
    except Exception:  # whatever a parser throws at a hostile page: the build goes on
        return {"reason": "its extraction failed"}


def serve(reading: Reading, libraries: Iterable[str] = ()) -> None:
    """Answers a `Worker` until it goes away. `libraries`: what `reading` imports when it needs it."""
    _limit(int(sys.argv[1]))
    _compile(libraries)
    sandbox.confine()
    line = ParentPipe()
    while True:
        request, content = json.loads(line.receive()), line.receive()
        if hasattr(signal, "setitimer"):
            # left to its default, the signal ends the process, also in the middle of C code
            signal.setitimer(signal.ITIMER_PROF, request["timeout"])
        answer = _answer(reading, request, content)
        plain = answer.pop(CONTENT, b"")
        line.send(json.dumps(answer).encode(), plain)


def _limit(memory: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        # where the system confines no files, nothing is written to one all the same
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):  # not on this system: the time limit still holds
        pass


def _compile(libraries: Iterable[str]) -> None:
    """Imports those that no earlier process has compiled: a confined one cannot keep what it compiles."""
    for name in () if sys.dont_write_bytecode else libraries:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.cached is not None and not Path(spec.cached).exists():
            importlib.import_module(name)
