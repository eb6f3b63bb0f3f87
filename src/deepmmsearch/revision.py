"""Which source made a result."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from deepmmsearch.environment import environment

PACKAGE = Path(__file__).resolve().parent
# a repository's configuration can name programs for nearly everything. Only objects are read, which needs none; what
# these commands could start all the same, a transport that fetches what is missing, is forbidden
_QUIET = (
    *("--no-pager", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-c", "protocol.allow=never"),
    *("-c", "safe.bareRepository=explicit"),
)
_VARIABLES = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_NO_LAZY_FETCH": "1"}


def revision(package: Path = PACKAGE) -> str:
    """The git revision of this source tree, `+changed` where it differs; empty outside a checkout."""
    root = package.parent.parent
    # an installed package may lie inside somebody's repository, which is not its own
    if package.parent.name != "src" or not (root / ".git").exists():
        return ""
    try:
        head = _git(root, "rev-parse", "--verify", "HEAD").decode().strip()
        listed = _git(root, "ls-tree", "-r", "-z", "HEAD", "--", package.relative_to(root).as_posix())
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + ("+changed" if _changed(root, package, listed) else "")


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(
        [_program(), *_QUIET, "-C", str(root), *arguments],
        capture_output=True,
        timeout=10,
        check=True,
        # where its .git is damaged, git would look for a repository in the folders above
        env={**environment(), **_VARIABLES, "GIT_CEILING_DIRECTORIES": str(root.parent)},
    ).stdout


def _program() -> str:
    """Raises FileNotFoundError. Never the one of the current folder, where Windows would look first."""
    places = [entry for entry in os.get_exec_path() if Path(entry).is_absolute()]
    found = shutil.which("git", path=os.pathsep.join(places))
    if found is None or not Path(found).is_absolute():
        raise FileNotFoundError("git")
    return found


def _changed(root: Path, package: Path, listed: bytes) -> bool:
    """Compared here: git itself would pass the files through filters, which are programs."""
    known = {}
    for entry in filter(None, listed.split(b"\0")):
        about, _, path = entry.partition(b"\t")
        known[os.fsdecode(path)] = about.split()[2].decode()
    there = {
        path.relative_to(root).as_posix(): path
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    return known.keys() != there.keys() or any(not _same(there[name], known[name]) for name in known)


def _same(path: Path, wanted: str) -> bool:
    content = path.read_bytes()
    # as git writes lines where it was told to change their ends
    return wanted in (_blob(content, wanted), _blob(content.replace(b"\r\n", b"\n"), wanted))


def _blob(content: bytes, wanted: str) -> str:
    digest = hashlib.sha1 if len(wanted) == 40 else hashlib.sha256
    return digest(b"blob %d\0" % len(content) + content).hexdigest()
