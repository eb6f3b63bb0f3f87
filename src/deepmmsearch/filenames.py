"""Names that others choose and that become files and folders: what is one on every system, and leads nowhere else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from deepmmsearch.normal_forms import normal_form

_SEPARATING = r'/\:*?"<>|'
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# what Persian and emoji are written with
_JOINING = "\u200c\u200d"
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])( *\..*)?", re.IGNORECASE)
# a file that is being written has a longer name
_LONGEST_NAME = 200


def unfit_name(name: str) -> str | None:
    """Why it cannot be a file or folder of that name, and nowhere else, on every system; None where it can."""
    if not name.strip(" ."):
        return "is no name"
    if any(character in _SEPARATING for character in name):
        return f"has one of {_SEPARATING} in it"
    if any(unicodedata.category(character) in _UNSEEN and character not in _JOINING for character in name):
        return "holds characters that cannot be seen"
    if name[0] in ". " or name[-1] in ". ":
        return "begins or ends with a dot or a space"
    if _DEVICE.fullmatch(name):
        return "is a device on Windows"
    if len(name.encode()) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} bytes"
    return None


def unfit_names(noun: str, names: Iterable[str], taken: Iterable[str] = ()) -> str | None:
    """A sentence about the first that is unfit, or is another one, or one that is `taken`, where a disk takes small
    letters for capital ones; None where all can be folders beside each other."""
    seen = {_folded(name): name for name in taken}
    for name in names:
        if why := unfit_name(name):
            return f"{noun} {name[:80]!r} {why}, so there can be no folder of that name"
        if (folded := _folded(name)) in seen:
            return f"{noun} {name!r} would share its folder with {seen[folded]!r}"
        seen[folded] = name
    return None


def _folded(name: str) -> str:
    return normal_form("NFKC", normal_form("NFKC", name).casefold())
