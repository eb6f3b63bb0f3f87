"""Commands on a disk that refuses: `limited(...)` runs them in a process of its own, in which nothing can be written
but below some folders (Landlock), or no file can get larger than so many bytes."""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deepmmsearch import sandbox

# writing, truncating, making and removing of all kinds
_WRITING = sum(1 << right for right in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))
_BENEATH = 1


@dataclass(frozen=True)
class Told:
    """How a command ended; `code` is None where it raised."""

    code: int | None
    out: str
    error: str


def limited(
    *commands: Sequence[str | Path], writable: Sequence[Path] | None = None, largest: int | None = None
) -> list[Told]:
    """`writable`: the only folders in which anything can be written, None for all; `largest`: bytes of a file."""
    if writable is not None and not sandbox.probe().files:
        pytest.skip("this system cannot take the right to write from a process")
    given = {
        "commands": [list(map(str, command)) for command in commands],
        "writable": None if writable is None else list(map(str, writable)),
        "largest": largest,
    }
    ran = subprocess.run([sys.executable, __file__, json.dumps(given)], capture_output=True, text=True, check=True)
    return [Told(**each) for each in json.loads(ran.stdout)]


def _read_only_but(folders: Sequence[str]) -> None:
    libc = sandbox._libc()
    version = sandbox._landlock_version(libc)
    handled = _WRITING & ((1 << sandbox._RIGHTS.get(version, sandbox._ALL_RIGHTS)) - 1)
    rules = struct.pack("Q", handled)
    ruleset = libc.syscall(sandbox._CREATE_RULESET, rules, ctypes.c_size_t(8), ctypes.c_uint32(0))
    for folder in (*folders, "/dev"):
        opened = os.open(folder, os.O_PATH)
        rule = struct.pack("=Qi", handled, opened)
        assert libc.syscall(sandbox._ADD_RULE, ctypes.c_int(ruleset), _BENEATH, rule, ctypes.c_uint32(0)) == 0
    libc.prctl(sandbox._SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    assert libc.syscall(sandbox._RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0


def _told(arguments: list[str]) -> dict[str, Any]:
    from deepmmsearch import cli

    sys.argv, sys.stdout, sys.stderr = ["deepmmsearch", *arguments], io.StringIO(), io.StringIO()
    out, error = sys.stdout, sys.stderr
    code: int | None = 0
    try:
        cli.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException as raised:
        code = None
        error.write(repr(raised))
    return {"code": code, "out": out.getvalue(), "error": error.getvalue()}


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    real = sys.stdout
    os.environ["DEEPMMSEARCH_CONFIG"] = os.environ.get("DEEPMMSEARCH_CONFIG", os.devnull)
    if given["writable"] is not None:
        _read_only_but(given["writable"])
        os.environ["TMPDIR"] = given["writable"][0]
    if given["largest"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given["largest"], given["largest"]))
    real.write(json.dumps([_told(command) for command in given["commands"]]))
