"""Accepted answers as data sets write them: nested, repeated, numbers, lists in a string, other scripts."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
# how an answer stands within an object
_ANSWER = ("answer", "text", "value", "raw_answer", "wikidata")
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_TIME = re.compile(
    r"[-+]?\d{3,4}(?:[-/.]\d{1,2}){0,2}"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}"
    r"|(?:\d{1,2}\s+)?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+(?:\d{1,2},?\s+)?\d{3,4}"
    r"|\d{3,4}s|\d{1,2}(?:st|nd|rd|th) century(?: bce?| ce)?",
    re.IGNORECASE,
)


def flatten(found: Any) -> list[str]:
    """All texts in a value: nested lists opened, numbers written without a needless ".0", nothing left out but None,
    NaN and empty texts. A text that is a list of texts in JSON or Python's notation is opened too; one of numbers is
    an answer ("[2014, 2016]" is a span of years)."""
    if found is None or (isinstance(found, float) and math.isnan(found)):
        return []
    if isinstance(found, bool):
        return ["yes" if found else "no"]
    if isinstance(found, int | float):
        return [str(int(found)) if float(found).is_integer() else str(found)]
    if isinstance(found, str):
        opened = parse_list(found)
        if opened is not None and not any(isinstance(part, int | float) for part in opened):
            return flatten(opened)
        return [text] if (text := found.strip()) else []
    if isinstance(found, Mapping):
        return flatten(next((found[part] for part in _ANSWER if part in found), None))
    if isinstance(found, Iterable):
        return [text for part in found for text in flatten(part)]
    return [str(found)]


def parse_list(text: str) -> list[Any] | None:
    """The list that a text holds (`["a", "b"]`, `['a', 'b']`), None where it is no list."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, list) else None


def is_chinese(text: str) -> bool:
    return HAN.search(text) is not None


def is_time(text: str) -> bool:
    """A year, a date, a decade or a century."""
    return _TIME.fullmatch(text.strip()) is not None


def without_serials(answers: Sequence[str]) -> list[str]:
    """The answers without numbers that are one of their dates as a spreadsheet counts it (28353 for 1977-08-16)."""
    days = set()
    for answer in answers:
        for year, month, day in _DATE.findall(answer):
            try:
                days.add(str((date(int(year), int(month), int(day)) - date(1899, 12, 30)) // timedelta(days=1)))
            except ValueError:
                continue
    return [answer for answer in answers if answer not in days]


def number_range(found: Any) -> tuple[float, float] | None:
    """The range of InfoSeek's numerical answers: `{"wikidata": 1.0, "range": [0.9, 1.1]}`, or a list that holds one."""
    if isinstance(found, Sequence) and not isinstance(found, str) and found:
        found = found[0]
    if not isinstance(found, Mapping) or "range" not in found:
        return None
    ends = found["range"]
    if isinstance(ends, str) or len(ends) < 2 or ends[0] is None or ends[1] is None:
        return None
    low, high = float(ends[0]), float(ends[1])
    return min(low, high), max(low, high)


def options_text(options: Sequence[str]) -> str:
    """Choices as lines `A. ...`, as multiple-choice questions are put to models."""
    return "\n".join(f"{chr(ord('A') + number)}. {option}" for number, option in enumerate(options))
