"""Recipes whose inputs lie in object storage, with copies on this machine's disk in their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from deepmmsearch.errors import UserError
from deepmmsearch.object_storage.filesystems import VARIABLES, address_of
from deepmmsearch.object_storage.local_copies import local_copy
from deepmmsearch.settings import Settings, replaced, sections

S = TypeVar("S")
# what is written, or searched, where it lies
_ON_A_DISK = {
    "cassette": "A cassette is a file of SQLite, which needs a disk. Give each machine one of its own, and put them "
    "together with: deepmmsearch cache merge ALL PARTS",
    "index": "An index is searched where it lies, which needs a disk. Copy it to this machine.",
    "output": "A run is written on a disk of this machine. Set output=runs/mine, and where it can be given add --out "
    "ADDRESS, which puts it up there too.",
    "worlds": "Worlds are made on a disk of this machine. Set a folder.",
    "folder": "Worlds are made on a disk of this machine. Set a folder.",
}


def with_local_inputs(recipe: S) -> S:
    """The recipe itself where nothing in it lies in object storage. Raises UserError for what cannot lie there, and
    where there is nothing, MissingExtra, Failed where nothing answers."""
    for section in sections(recipe):
        for name, why in _ON_A_DISK.items():
            if (given := getattr(section, name, None)) and _is_address(given):
                raise UserError(f"{name}={address_of(given)}: {why}")

    def here(value: Any) -> Any:
        if not _is_address(value):
            return value
        copy = local_copy(value)
        return copy if isinstance(value, Path) else str(copy)

    mine: S = replaced(recipe, here)
    return mine


def storage_keys(recipe: Settings) -> tuple[str, ...]:
    """The environment variables with which another machine reaches what the recipe reads."""
    found = False

    def look(value: Any) -> Any:
        nonlocal found
        found = found or _is_address(value)
        return value

    replaced(recipe, look)
    return VARIABLES if found else ()


def _is_address(value: Any) -> bool:
    return isinstance(value, str | Path) and address_of(value) is not None
