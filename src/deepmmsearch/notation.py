"""JSON that others wrote: what would take hours or all memory to read, or could not be written again, is refused."""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST_JSON, LONGEST_NUMBER = 100, 300
"""Levels within each other, and digits of a whole number: no longer one is a float."""
_WHOLES = frozenset((dict, list))
# of so many digits in a row, at least so many are among every twentieth character
_MAYBE_LONG = re.compile(rf"\d{{{LONGEST_NUMBER // 20}}}")
_LONG_NUMBER = re.compile(rf"(?<!\d)\d{{{LONGEST_NUMBER + 1}}}")


def parse_json(text: str) -> Any:
    """Raises ValueError with what is wrong."""
    try:
        long = _MAYBE_LONG.search(text[::20]) and _LONG_NUMBER.search(text)
        value = json.loads(text, parse_int=_whole_number if long else None)
    except RecursionError:
        raise ValueError(f"it nests more than {DEEPEST_JSON} deep") from None
    level = [value]
    for _ in range(DEEPEST_JSON):
        level = [part for whole in level for part in _wholes(whole)]
        if not level:
            return value
    raise ValueError(f"it nests more than {DEEPEST_JSON} deep")


def without_halves(text: str) -> str:
    """The text with ? for each half of a surrogate pair, which JSON can write and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def json_text(value: Any) -> str:
    """As JSON that UTF-8 can hold: halves of surrogate pairs stay as JSON writes them."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text == without_halves(text) else json.dumps(value)


def _wholes(value: Any) -> list[Any]:
    """The lists and objects right within it."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if _WHOLES.isdisjoint(map(type, parts)):
        return []
    return [part for part in parts if type(part) in _WHOLES]


def _whole_number(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of it has {len(digits):,} digits, at most {LONGEST_NUMBER} are read")
    return int(digits)
