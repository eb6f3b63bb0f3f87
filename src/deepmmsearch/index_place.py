"""Where an index lies: in a folder, or at the address of an engine, such as lancedb://FOLDER."""

from __future__ import annotations

import re
from pathlib import Path

Place = Path | str
"""A folder as a path, an address as a string: as a path it would lose one of its slashes."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)


def is_address(value: object) -> bool:
    return isinstance(value, str) and _ADDRESS.match(value) is not None


def place(value: Place) -> Place:
    """What a user wrote as a Place."""
    return Path(value) if isinstance(value, str) and not is_address(value) else value
