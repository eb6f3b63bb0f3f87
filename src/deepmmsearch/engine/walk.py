"""What a folder holds: every file and folder of it, told once, with the reason where it is not read."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from deepmmsearch.engine.exclusions import IGNORE_FILE, Pattern, excluded, patterns, read_ignore_file
from deepmmsearch.errors import UserError
from deepmmsearch.files import lies_in
from deepmmsearch.reading.file_kinds import TEXT_NAME

# the patterns that hold in a folder, each with the depth of the folder that they are relative to; the last count most
_Rules = tuple[tuple[int, tuple[Pattern, ...]], ...]
_BITS = (1 << 64) - 1
# what programs write down for themselves, in forms that are read
_LOCK_FILES = frozenset(("package-lock.json", "npm-shrinkwrap.json", "packages.lock.json", "project.assets.json"))


class Found(NamedTuple):
    """A file or a folder. `file`: its id in the index; `stamp`: changes when it changes, 0 where that cannot be known;
    `reason`: why it is not read, "" where it is to be."""

    file: str
    path: str
    stamp: int
    reason: str = ""


@dataclass(frozen=True)
class Selection:
    """Which files of a folder belong to its index; kept with the index. `exclude`: patterns like those of .gitignore,
    relative to the indexed folder, that count before those of the folder's own files. `hidden`: those whose names begin
    with a dot belong to it as well."""

    exclude: tuple[str, ...] = ()
    hidden: bool = False

    @classmethod
    def read(cls, value: Any) -> Selection:
        """UserError for what `to_json` did not write."""
        if value is None:
            return cls()
        exclude, hidden = (value.get("exclude"), value.get("hidden")) if isinstance(value, Mapping) else (None, None)
        listed = isinstance(exclude, list) and all(isinstance(line, str) for line in exclude)
        if exclude is None or not listed or not isinstance(hidden, bool):
            raise UserError(f"The index setting selection is {value!r}. Build the index again.")
        return cls(tuple(exclude), hidden)

    def to_json(self) -> dict[str, Any]:
        return {"exclude": list(self.exclude), "hidden": self.hidden}


def file_stamp(size: int, modified: int) -> int:
    """64 bits of a file's size in bytes and its time in nanoseconds; never 0."""
    return (modified * 0x9E3779B97F4A7C15 + size) & _BITS or 1


def reason_stamp(reason: str) -> int:
    return int.from_bytes(blake2b(reason.encode(), digest_size=8).digest(), "little")


def as_text(name: str) -> str:
    """A file's name with each byte that is not UTF-8 written out: `caf\\xe9.md`."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def extension(name: str, known: Collection[str]) -> str:
    """By which the kind of a file is told, in small letters: the longest known one (`.warc.gz`), "" for none.
    `README` and its like count as `.txt`."""
    lowered = name.lower()
    start = lowered.find(".", 1)
    while start > 0:
        if lowered[start:] in known:
            return lowered[start:]
        start = lowered.find(".", start + 1)
    return ".txt" if ".txt" in known and TEXT_NAME.fullmatch(name) else ""


def refused(file: str, path: str, reason: str) -> Found:
    return Found(file, path, reason_stamp(reason), reason)


@dataclass(frozen=True)
class Walk:
    """The way through a folder. `base`: the id of the folder, "" for the one that ids are relative to; `suffixes`: the
    kinds that are read; `index`: the index's own folder, which is no part of what it holds."""

    folder: Path
    base: str
    suffixes: Collection[str]
    selection: Selection = Selection()
    index: Path | None = None

    def __iter__(self) -> Iterator[Found]:
        """A folder that is left out is told as one, without what is in it. UserError when the folder itself cannot be
        read: it is not empty, and nothing of it is gone."""
        root = self.folder.resolve()
        start = tuple(self.base.split("/")) if self.base and not self.base.startswith("/") else ()
        seen: set[tuple[int, int]] = set()
        waiting: list[tuple[str, tuple[str, ...], _Rules]]
        waiting = [(str(self.folder), start, ((0, patterns(self.selection.exclude)),))]
        while waiting:
            here, parts, rules = waiting.pop()
            try:
                status = Path(here).stat()
                if (status.st_dev, status.st_ino) in seen:
                    yield refused(self._id(parts), here, "a folder that is met twice")
                    continue
                seen.add((status.st_dev, status.st_ino))
                entries = sorted(os.scandir(here), key=lambda entry: entry.name)
            except OSError as error:
                said = (error.strerror or "cannot be read").lower()
                if parts == start:
                    raise UserError(f"The folder {here} cannot be read: {said}.") from None
                yield refused(self._id(parts), here, f"a folder: {said}")
                continue
            names = {entry.name for entry in entries}
            if IGNORE_FILE in names:
                try:
                    rules = (*rules[:-1], (len(parts), read_ignore_file(Path(here))), rules[-1])
                except (OSError, ValueError):
                    ignore_file = self._id((*parts, IGNORE_FILE))
                    yield refused(ignore_file, f"{here}/{IGNORE_FILE}", "patterns that cannot be read")
            folders = []
            for entry in entries:
                inner = (*parts, as_text(entry.name))
                if inner[-1] != entry.name and inner[-1] in names:
                    inner = (*parts, entry.name.encode("utf-8", "backslashreplace").decode())
                    yield refused(self._id(inner), entry.path, "named like another file")
                elif (answer := self._one(entry, inner, rules, root)) is None:
                    folders.append((entry.path, inner, rules))
                elif answer.file:
                    yield answer
            waiting += reversed(folders)

    def _id(self, parts: tuple[str, ...]) -> str:
        return "/".join((self.base, *parts) if self.base.startswith("/") else parts)

    def _one(self, entry: os.DirEntry[str], parts: tuple[str, ...], rules: _Rules, root: Path) -> Found | None:
        """None for a folder that is to be entered; no file for what needs no word."""
        file, path, name = self._id(parts), entry.path, entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if name == IGNORE_FILE or (is_folder and self.index is not None and Path(path) == self.index):
            return Found("", path, 0)
        if name.startswith(".") and not self.selection.hidden:
            return refused(file, path, "hidden")
        if _left_out(rules, parts, is_folder):
            return refused(file, path, "excluded")
        if is_folder:
            return None
        if entry.is_symlink() and (why := _refused_link(Path(path), root)):
            return refused(file, path, why)
        if not extension(name, self.suffixes):
            return refused(file, path, "of a kind that is not indexed")
        if name.lower() in _LOCK_FILES:
            return refused(file, path, "a lock file, which programs write for programs")
        return _stamped(file, entry)


def _left_out(rules: _Rules, parts: tuple[str, ...], is_folder: bool) -> bool:
    for depth, of_folder in reversed(rules):
        if of_folder and (verdict := excluded(of_folder, parts[depth:], is_folder)) is not None:
            return verdict
    return False


def named(path: Path, file: str) -> Found:
    """A file that the user names, wherever it lies."""
    return _stamped(file, path)


def _stamped(file: str, entry: os.DirEntry[str] | Path) -> Found:
    path = os.fspath(entry)
    try:
        status = entry.stat()
    except FileNotFoundError:  # gone since the folder was listed
        return Found("", path, 0)
    except OSError as error:
        return refused(file, path, (error.strerror or "cannot be read").lower())
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        return refused(file, path, "not an ordinary file")
    return Found(file, path, file_stamp(status.st_size, status.st_mtime_ns))


def _exists(link: Path) -> bool:
    try:
        return link.exists()
    except OSError:  # a link to itself
        return False


def _refused_link(link: Path, root: Path) -> str | None:
    """Why a link is not followed. What a folder's maker links to is on the disk of whoever indexes it."""
    if not _exists(link):
        return "a link to nothing"
    if not lies_in(link, root):
        return "a link out of the folder"
    return "a link to a folder" if link.is_dir() else None


def file_url(file: str) -> str:
    """A file's own address: relative to the indexed folder, or a file URL for one outside of it."""
    return Path(file).as_uri() if PurePosixPath(file).is_absolute() else quote(file)


def url_file(url: str) -> str:
    """The inverse of `file_url`."""
    return unquote(url.removeprefix("file://"))
