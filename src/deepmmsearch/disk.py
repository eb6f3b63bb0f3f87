"""What a disk refuses, in one sentence: no room, no permission, read-only, a quota, names that are too long."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

_ROOM = "Make room, or choose another place, and run it again."
_PLACE = "Choose another place."
_SENTENCES = {
    errno.ENOSPC: f"There is no room left on the disk for {{place}}. {_ROOM}",
    errno.EDQUOT: f"The quota of the disk is used up, so there is no room for {{place}}. {_ROOM}",
    errno.EFBIG: f"{{place}} would be larger than a file may be here. {_ROOM}",
    errno.EROFS: f"{{place}} cannot be written, because it lies on a read-only file system. {_PLACE}",
    errno.EACCES: f"{{place}} may not be used here: no permission. Change its permissions. {_PLACE}",
    errno.EPERM: f"{{place}} may not be used here: no permission. Change its permissions. {_PLACE}",
    errno.ENAMETOOLONG: "The name {place} is too long for this disk. Choose a shorter one.",
    errno.ENOTDIR: f"{{place}} cannot be made, because a part of it is a file. {_PLACE}",
    errno.EISDIR: f"{{place}} is a folder, where a file is expected. {_PLACE}",
    errno.EEXIST: f"{{place}} is a file, where a folder is expected. {_PLACE}",
    errno.ELOOP: f"{{place}} is a link that leads to itself, or is not followed here. {_PLACE}",
    errno.EIO: "The disk failed with {place}, or is full. Check it.",
    errno.EMFILE: "Too many files are open, the last of them {place}. Raise the limit (ulimit -n).",
    errno.ENFILE: "Too many files are open on this machine, the last of them {place}.",
}
# of libraries in which the number is lost: Rust's own words, Python's and Arrow's, the system's
_IN_A_TEXT = {
    code: re.compile(rf"\(os error {code}\)|code: {code}\b|\[?[Ee]rrno {code}\b|{re.escape(os.strerror(code))}")
    for code in _SENTENCES
}
# what torch says of any of them when it writes weights
_IN_A_TEXT[errno.EIO] = re.compile(rf"{_IN_A_TEXT[errno.EIO].pattern}|inline_container\.cc|PytorchStreamWriter failed")
_DRAFT = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part(-former)?")
_LONGEST = 120


def refusal(error: BaseException) -> str | None:
    """What to tell the user, or None where the error is of another kind. It may stand behind the one that is raised, or
    in the words of a library."""
    for each in _chain(error):
        code = each.errno if isinstance(each, OSError) else None
        if code in _SENTENCES:
            name = each.filename2 or each.filename if isinstance(each, OSError) else None
            return _SENTENCES[code].format(place=_place(name))
    for each in _chain(error):
        for code, words in _IN_A_TEXT.items():
            if words.search(str(each)[:2000]):
                return _SENTENCES[code].format(place=_place(None))
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised for, the nearest first."""
    seen: list[BaseException] = []
    left: BaseException | None = error
    while left is not None and left not in seen:
        seen.append(left)
        yield left
        left = left.__cause__ or left.__context__


def _place(name: object) -> str:
    """As the user knows it: what is not finished yet lies beside its place, under a name of its own."""
    if not isinstance(name, str | bytes | os.PathLike) or not os.fsdecode(name):
        return "what was to be written"
    parts = Path(os.fsdecode(name)).parts
    shown = str(Path(*(found[1] if (found := _DRAFT.fullmatch(part)) else part for part in parts)))
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
