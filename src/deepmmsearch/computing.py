"""A small program of a policy in a process of its own, which keeps nothing but its memory, the clock and what it prints
(`sandbox.isolate`). Each program has a new process; where the system cannot isolate it, none is run.
"""

from __future__ import annotations

import ast
import importlib
import os
import signal
import sys
import threading
import time
import traceback
import zoneinfo
from typing import Any

from deepmmsearch import sandbox
from deepmmsearch.children import start_confined, write_frame
from deepmmsearch.errors import ToolError, UserError

LONGEST_PROGRAM = 20_000
"""Characters."""
MOST_PRINTED = 20_000
"""Bytes."""
MEMORY = 512 * 1024**2
_NOT_ISOLATED = 71
_NOT_RUN = "Programs cannot be isolated here, so none is run. Use another tool or answer."
# imported before the files are gone; what they need when they are used, too
MODULES = (
    *("math", "cmath", "decimal", "fractions", "statistics", "random", "numbers", "operator", "array", "struct"),
    *("datetime", "calendar", "time", "zoneinfo", "itertools", "functools", "collections", "collections.abc", "heapq"),
    *("bisect", "string", "re", "textwrap", "unicodedata", "difflib", "json", "base64", "hashlib", "copy", "enum"),
    *("dataclasses", "typing", "types", "contextlib", "pprint", "uuid"),
)
_USED_LATER = ("_strptime", "encodings.ascii", "encodings.latin_1", "encodings.utf_16", "encodings.idna")


def check_isolation() -> None:
    """Raises UserError where a program cannot be isolated."""
    if not sandbox.can_isolate():
        raise UserError(
            "The tool python needs Linux on x86-64 or aarch64 with seccomp: this system cannot take files and network "
            "from a process. Remove python from extra, or run on such a system (also in a container)."
        )


def compute(program: str, seconds: int = 5, memory: int = MEMORY, wall: float | None = None) -> str:
    """What the program prints, the value of its last expression and the error that ended it, if one did.

    `seconds`: of processor time, with the interpreter's start; `memory`: bytes; `wall`: seconds of any time. Raises
    ToolError where it takes more than these, crashes, or cannot be isolated.
    """
    if not sandbox.can_isolate():
        raise ToolError(_NOT_RUN)
    if len(program) > LONGEST_PROGRAM:
        raise ToolError(f"The program is longer than {LONGEST_PROGRAM:,} characters. Write a shorter one.")
    process = start_confined("deepmmsearch.computing", str(seconds), str(memory))
    late = threading.Timer(4 * seconds + 10 if wall is None else wall, process.kill)
    late.start()
    assert process.stdin is not None and process.stdout is not None
    printed = b""
    try:
        with process.stdin, process.stdout:
            write_frame(process.stdin, program.encode("utf-8", "replace"))
            printed = process.stdout.read(MOST_PRINTED + 1)
    except OSError:  # it ended before it had read everything
        pass
    finally:
        process.kill()
        code = process.wait()
        late.cancel()
    text = printed[:MOST_PRINTED].decode("utf-8", "replace")
    if len(printed) > MOST_PRINTED:
        return f"{text}\nIt was ended here: it printed more than {MOST_PRINTED:,} bytes."
    if code == _NOT_ISOLATED:
        raise ToolError(_NOT_RUN)
    if code == -getattr(signal, "SIGKILL", 9):
        raise ToolError(f"The program took more than {seconds} s, so it was ended. Write one that does less.")
    if code:
        raise ToolError("The program crashed the interpreter. Write it in another way.")
    return text


# In the process


def _main() -> None:
    seconds, memory = int(sys.argv[1]), int(sys.argv[2])
    size = int.from_bytes(sys.stdin.buffer.read(4), "big")
    program = sys.stdin.buffer.read(size).decode()
    for name in (*MODULES, *_USED_LATER):
        importlib.import_module(name)
    time.localtime()
    zones = _zones(program)
    os.close(0)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    _limit(seconds, memory)
    if not sandbox.isolate():
        os._exit(_NOT_ISOLATED)
    _run(program, {"__name__": "__main__", "__builtins__": __builtins__})
    del zones
    # what it left in sys.stdout may be anything
    os._exit(0 if _flushed() else 1)


def _limit(seconds: int, memory: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    for what in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(what, (0, 0))


def _zones(program: str) -> list[Any]:
    """All time zones, where the program uses any: they are found as long as somebody has them, and however it makes up
    their names, no file is looked for."""
    found = []
    for name in zoneinfo.available_timezones() if "zoneinfo" in program.lower() else ():
        try:
            found.append(zoneinfo.ZoneInfo(name))
        except (ValueError, OSError):
            continue
    return found


def _run(program: str, names: dict[str, Any]) -> None:
    try:
        tree = ast.parse(program, "<program>")
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, "<program>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<program>", "eval"), names)
            if value is not None:
                print(repr(value))
    except SystemExit:
        pass
    except BaseException as error:
        print(_said(error))


def _said(error: BaseException) -> str:
    """The error in one line, with the line of the program where it arose."""
    try:
        where = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<program>"]
        line = error.lineno if isinstance(error, SyntaxError) else where[-1] if where else None
        said = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())[:500]
        return f"{f'Line {line}: ' if line else ''}{type(error).__name__}{f': {said}' if said else ''}"
    except Exception:  # an exception of the program's own whose text is another program
        return type(error).__name__


def _flushed() -> bool:
    try:
        sys.stdout.flush()
    except BaseException:
        return False
    return True


if __name__ == "__main__":
    _main()
