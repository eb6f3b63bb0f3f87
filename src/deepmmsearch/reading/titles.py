"""What a file or page without a title is called: the words of its name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from deepmmsearch.reading.document import clean


def readable_name(path: str) -> str:
    """`paris_eiffel-tower_01.jpg` -> `paris eiffel tower 01`"""
    return clean(re.sub(r"[_\-+.]+", " ", PurePosixPath(path).stem)) or PurePosixPath(path).name


def page_name(url: str) -> str:
    """The last part of the path, or else the host."""
    parts = urlsplit(url)
    return clean(re.sub(r"[_\-+]+", " ", unquote(parts.path).rstrip("/").rpartition("/")[2])) or parts.netloc
