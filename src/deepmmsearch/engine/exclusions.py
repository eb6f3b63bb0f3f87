"""Patterns like those of .gitignore: which files and folders of an indexed folder are left out.

Patterns may be a stranger's: neither a part of a path nor `**` is matched by backtracking.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

IGNORE_FILE = ".deepmmsearchignore"
MOST_BYTES = 1_000_000
MOST_PATTERNS = 10_000
_ANY = "**"


@dataclass(frozen=True)
class Pattern:
    """One line: the parts of a path that it stands for. `again`: it takes back what an earlier one leaves out."""

    parts: tuple[str, ...]
    again: bool
    folders_only: bool

    def fits(self, path: Sequence[str], is_folder: bool) -> bool:
        """Does it stand for this path, which is relative to the folder of the pattern?"""
        if self.folders_only and not is_folder:
            return False
        if len(self.parts) == 2 and self.parts[0] == _ANY and self.parts[1] != _ANY:
            return _part(self.parts[1]).match(path[-1]) is not None
        return _fit(self.parts, path)


def pattern(line: str) -> Pattern | None:
    """None for a line that says nothing: an empty one, a comment."""
    line = line.rstrip("\r\n")
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    if not line or line.startswith("#"):
        return None
    again = line.startswith("!")
    body = line[1:] if again else line
    folders_only = body.endswith("/")
    body = body.rstrip("/")
    if not body:
        return None
    anchored = "/" in body
    parts = [part for part in body.split("/") if part]
    if not anchored:
        parts = [_ANY, *parts]
    # several in a row say what one says
    kept = [part for n, part in enumerate(parts) if not (part == _ANY and n and parts[n - 1] == _ANY)]
    return Pattern(tuple(kept), again, folders_only)


def patterns(lines: Iterable[str]) -> tuple[Pattern, ...]:
    return tuple(found for line in lines if (found := pattern(line)) is not None)


def excluded(rules: Sequence[Pattern], path: Sequence[str], is_folder: bool) -> bool | None:
    """What the last pattern that fits says, None where none does."""
    return next((not rule.again for rule in reversed(rules) if rule.fits(path, is_folder)), None)


def read_ignore_file(folder: Path) -> tuple[Pattern, ...]:
    """The patterns of a folder's own file, none where it has none. Raises OSError, ValueError for one that is too long
    or is not in UTF-8."""
    path = folder / IGNORE_FILE
    if path.is_symlink() or not path.is_file():
        return ()
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    lines = content.decode("utf-8-sig").splitlines()
    if len(content) > MOST_BYTES or len(lines) > MOST_PATTERNS:
        raise ValueError("too long")
    return patterns(lines)


@lru_cache(maxsize=MOST_PATTERNS)
def _part(glob: str) -> re.Pattern[str]:
    """One part of a path. `fnmatch` knows no backslashes, which take the meaning of the letter after them."""
    plain = re.sub(r"\\(.)", lambda found: f"[{found[1]}]" if found[1] in "*?[" else found[1], glob)
    return re.compile(fnmatch.translate(plain.replace("[^", "[!")))


def _fit(parts: Sequence[str], path: Sequence[str]) -> bool:
    """As one matches a name with stars: only the last `**` is ever returned to. One at the end stands for something."""
    part = here = 0
    after, held = -1, 0
    while here < len(path):
        if part < len(parts) and parts[part] == _ANY:
            if part + 1 == len(parts):
                return True
            after, held = part, here
            part += 1
        elif part < len(parts) and _part(parts[part]).match(path[here]):
            part, here = part + 1, here + 1
        elif after >= 0:
            held += 1
            part, here = after + 1, held
        else:
            return False
    return part == len(parts)
