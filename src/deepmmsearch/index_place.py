"""Where an index lies: in a folder, or at the address of an engine, such as lancedb://FOLDER."""

from __future__ import annotations

import re
from pathlib import Path

from deepmmsearch.errors import UserError
from deepmmsearch.redaction import public_address

Place = Path | str
"""A folder as a path, an address as a string: as a path it would lose one of its slashes."""

OBJECT_STORAGE = ("s3", "gs", "az")
ENGINES = ("lancedb", *OBJECT_STORAGE, "milvus")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)
_KNOWN = re.compile(rf"(?:{'|'.join(ENGINES)})://")
# of two letters at least: C:/ is a disk
_MEANT = re.compile(rf"[a-z][a-z0-9+.-]+:/|(?:{'|'.join(ENGINES)}):", re.I)


def is_address(value: object) -> bool:
    return isinstance(value, str) and _ADDRESS.match(value) is not None


def place(value: Place) -> Place:
    """What a user wrote as a Place. UserError for what looks like an address and is none of an engine."""
    text = str(value)
    if isinstance(value, str) and _KNOWN.match(text):
        return value
    if _MEANT.match(text):
        raise UserError(
            f"{public_address(text)} is not the address of an index. Those begin with "
            f"{', '.join(f'{engine}://' for engine in ENGINES)}; a folder of that name is given by its whole path."
        )
    return Path(value)
