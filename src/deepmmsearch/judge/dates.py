"""Dates and times of day in a text, and when one says what another asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{1,4})"
_ERA = r"(?:\s*(?P<era>b\.?\s?c\.?(?:\s?e\.?)?|a\.?\s?d\.?|c\.?\s?e\.?)(?![a-z]))"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"\b(?:the\s+)?{_DAY}(?:\s+of)?\s+{_MONTH}(?:,?\s+(?P<year>\d{{3,4}})\b{_ERA}?)?",
        rf"\b{_MONTH}\s+(?:the\s+)?{_DAY}\b(?:,?\s+(?P<year>\d{{3,4}})\b{_ERA}?)?",
        rf"\b{_MONTH},?\s+(?P<year>\d{{3,4}})\b{_ERA}?",
        r"\b(?P<year>\d{4})-(?P<number>\d{1,2})-(?P<day>\d{1,2})\b",
        r"\b(?P<first>\d{1,2})(?P<mark>[./])(?P<second>\d{1,2})(?P=mark)(?P<year>\d{4})\b",
        rf"\b{_YEAR}{_ERA}",
        rf"\b(?P<era>a\.?d\.?)\s*{_YEAR}\b",
    )
)
_TIME = re.compile(
    r"\b(?P<hour>\d{1,2})(?:(?P<mark>[:.])(?P<minute>\d{2}))?\s*(?P<half>[ap])\.?\s?m\b\.?"
    r"|\b(?P<hour24>\d{1,2}):(?P<minute24>\d{2})\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Date:
    """`year` is negative before Christ. A part that is not given is None. `start`, `end`: where it stands."""

    year: int | None
    month: int | None = None
    day: int | None = None
    other_way: tuple[int, int] | None = None
    start: int = 0
    end: int = 0

    def says(self, asked: Date) -> bool:
        """Every part that is asked for is given, and the same."""
        if asked.year is not None and self.year != asked.year:
            return False
        ways = [(self.month, self.day), *([self.other_way] if self.other_way else [])]
        return any(asked.month in (None, month) and asked.day in (None, day) for month, day in ways)


def find_dates(text: str) -> list[Date]:
    """Dates with a month or an era; a bare year is a number like others. `text` as `quantities.prepared` gives it."""
    found: list[Date] = []
    for form in _FORMS:
        for match in form.finditer(text):
            date = _date(match)
            if date and not any(d.start < match.end() and match.start() < d.end for d in found):
                found.append(date)
    return sorted(found, key=lambda d: d.start)


def _date(match: re.Match[str]) -> Date | None:
    parts = match.groupdict()
    year = int(parts["year"]) if parts.get("year") else None
    if year is not None and re.match(r"b", parts.get("era") or "", re.IGNORECASE):
        year = -year
    if parts.get("first"):
        day, month = int(parts["first"]), int(parts["second"])
        swapped = (day, month) if day <= 12 else None
        if month > 12:  # 12/31/1999
            day, month, swapped = month, day, None
        return Date(year, month, day, swapped, match.start(), match.end()) if month <= 12 and day <= 31 else None
    named, number = parts.get("month"), parts.get("number")
    month_of = _MONTHS.index(named[:3].lower()) + 1 if named else int(number) if number else None
    day_of = int(parts["day"]) if parts.get("day") else None
    if (month_of or 1) > 12 or (day_of or 1) > 31:
        return None
    return Date(year, month_of, day_of, None, match.start(), match.end())


def find_times(text: str) -> list[int]:
    """Times of day in minutes after midnight."""
    found = []
    for match in _TIME.finditer(text):
        if match["half"]:
            hour, minute = int(match["hour"]), int(match["minute"] or 0)
            hour = hour % 12 + (12 if match["half"].lower() == "p" else 0)
        else:
            hour, minute = int(match["hour24"]), int(match["minute24"])
        if hour < 24 and minute < 60:
            found.append(60 * hour + minute)
    return found
