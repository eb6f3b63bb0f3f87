"""The only place that starts a Python process: it imports nothing from the current folder, gets an environment of named
variables and no key that it was not handed, and ends with its parent.

Not multiprocessing: its processes, and its helper that tracks semaphores, import from the current folder and get the
whole environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import runpy
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, NamedTuple, Self

from deepmmsearch import sandbox
from deepmmsearch.disk import refusal
from deepmmsearch.environment import environment
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.sandbox import Confinement
from deepmmsearch.streams import guard_streams

_SET_DEATH_SIGNAL = 1


class Pieces(NamedTuple):
    """Bytes that are never together in memory: how many, and one piece after the other."""

    size: int
    pieces: Iterable[bytes]


def confinement() -> Confinement:
    """What this system can take from the process that takes strangers' files apart."""
    return sandbox.probe()


def start(
    module: str,
    *arguments: str,
    keys: Iterable[str] = (),
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
) -> subprocess.Popen[bytes]:
    """`python -m MODULE ARGUMENTS`. It ends with the thread that started it, at the latest with this process, and when
    its standard input is closed."""
    return _started("become", (module, *arguments), environment(keys), stdout=stdout, stderr=stderr)


def start_confined(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A module that calls `sandbox.confine` and then answers over a `ParentPipe`: it gets no key, home or folder."""
    root = Path(sys.executable).anchor
    passed = environment(confined=True)
    return _started("answer", (module, *arguments), passed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root)


def _started(entry: str, arguments: Sequence[str], passed: dict[str, str], **streams: Any) -> subprocess.Popen[bytes]:
    flags = ["-P", *(["-s"] if sys.flags.no_user_site else [])]
    code = f"from deepmmsearch.children import {entry}; {entry}()"
    command = [sys.executable, *flags, "-c", code, str(os.getpid()), *arguments]
    return subprocess.Popen(command, env=passed, stdin=subprocess.PIPE, **streams)


def become() -> None:
    """In the child: the module of `start`."""
    _die_with_parent()
    guard_streams()
    threading.Thread(target=_listen, args=(_taken_input(), None), daemon=True).start()
    answer(watched=True)


def answer(watched: bool = False) -> None:
    """In the child: the module of `start_confined`, which reads its input itself."""
    if not watched:
        _die_with_parent()
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def obey() -> None:
    """In the child: the function of a `Child`."""
    from multiprocessing.reduction import ForkingPickler
    from multiprocessing.spawn import prepare

    _die_with_parent()
    line = ParentPipe()
    guard_streams()
    try:
        prepare(json.loads(line.receive()))
        # from the parent alone; what comes back is JSON
        function, arguments = ForkingPickler.loads(line.receive())
        told = {"value": function(line, *arguments)}
    except UserError as error:
        told = {"failed" if isinstance(error, Failed) else "user error": str(error)}
    except Exception as error:
        if sentence := refusal(error):
            told = {"failed": sentence}
        else:
            traceback.print_exc()
            told = {"error": f"{type(error).__name__}: {error}"}
    line.send(json.dumps(told).encode())


def _die_with_parent() -> None:
    """By the kernel where it does that, also in the middle of C code; everywhere else by the end of the input."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    # it may have gone before that was said
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)


def write_frame(pipe: Any, *parts: bytes | Pieces) -> None:
    for part in parts:
        size, pieces = (len(part), (part,)) if isinstance(part, bytes) else part
        pipe.write(struct.pack(">I", size))
        for piece in pieces:
            pipe.write(piece)
    pipe.flush()


def read_frame(pipe: Any, longest: int = 2**32 - 1) -> bytes | None:
    """None where the other end is gone, or sends more than `longest` bytes."""
    head = pipe.read(4)
    if len(head) < 4:
        return None
    size = struct.unpack(">I", head)[0]
    if size > longest:
        return None
    content: bytes = pipe.read(size)
    return content if len(content) == size else None


def _taken_input() -> IO[bytes]:
    """Standard input, out of reach of anything else that might read it."""
    taken = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return taken


def _listen(pipe: IO[bytes], heard: SimpleQueue[bytes] | None) -> None:
    while (frame := read_frame(pipe)) is not None:
        if heard is not None:
            heard.put(frame)
    # the parent is gone, or wants no more
    os._exit(1)


class ParentPipe:
    """In the child: to and from the parent, over standard input and output. What is printed goes to standard error."""

    def __init__(self) -> None:
        self._output = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._heard: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=_listen, args=(_taken_input(), self._heard), daemon=True).start()

    def receive(self) -> bytes:
        return self._heard.get()

    def send(self, *message: bytes | Pieces) -> None:
        write_frame(self._output, *message)


class Child:
    """`function(line, *arguments)` of an importable module in a process of its own; `line` is its `ParentPipe`. What it
    sends and what it returns is JSON."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, keys: Iterable[str] = ()) -> None:
        from multiprocessing.reduction import ForkingPickler
        from multiprocessing.spawn import get_preparation_data

        work = bytes(ForkingPickler.dumps((function, arguments)))
        # what the user's own script defines is found by running it there, as multiprocessing does
        main = get_preparation_data("child") if b"__main__" in work else {}
        self._process = _started("obey", (), environment(keys), stdout=subprocess.PIPE)
        self.send(json.dumps({name: main[name] for name in main if name.startswith("init_main")}).encode())
        self.send(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # unsent bytes of a killed process
                    pipe.close()

    def send(self, message: bytes) -> None:
        try:
            write_frame(self._process.stdin, message)
        except OSError:
            raise self._gone() from None

    def receive(self) -> Any:
        """What it sent, or {"value": ...} at its end. Raises UserError as it was raised there, RuntimeError for
        anything else, also when it is gone."""
        frame = read_frame(self._process.stdout)
        if frame is None:
            raise self._gone()
        told = json.loads(frame)
        if isinstance(told, dict) and "user error" in told:
            raise UserError(told["user error"])
        if isinstance(told, dict) and "failed" in told:
            raise Failed(told["failed"])
        if isinstance(told, dict) and "error" in told:
            raise RuntimeError(told["error"])
        return told

    def end(self) -> None:
        self._process.kill()

    def _gone(self) -> RuntimeError:
        self._process.kill()
        return RuntimeError(
            f"A worker process ended with code {self._process.wait()}, perhaps for want of memory. "
            "Run again with fewer processes; nothing that was finished is lost."
        )


def call_all(calls: Sequence[tuple[Any, ...]], at_once: int, keys: Iterable[str] = ()) -> Iterator[Any]:
    """What each `(function, *arguments)` returns, in their order, each in a process of its own. The first that fails,
    and whatever else ends this, ends them all."""
    children: list[Child] = []
    over = threading.Event()

    def one(call: tuple[Any, ...]) -> Any:
        if over.is_set():
            raise CancelledError
        with Child(_plainly, *call, keys=keys) as child:
            children.append(child)
            if over.is_set():
                raise CancelledError
            return child.receive()["value"]

    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(one, call) for call in calls]
        try:
            yield from _in_order(futures)
        finally:
            over.set()
            for child in children:
                child.end()


def _in_order(futures: Sequence[Future[Any]]) -> Iterator[Any]:
    pending, given = set(futures), 0
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        while given < len(futures) and futures[given].done():
            yield futures[given].result()
            given += 1


def _plainly(line: ParentPipe, function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
