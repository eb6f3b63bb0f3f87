"""Dates in a text, and when one says what another asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = """
jan january januar janvier enero gennaio janeiro januari января
feb february februar février fevrier febrero febbraio fevereiro februari февраля
mar march märz maerz mars marzo março maart марта
apr april avril abril aprile апреля
may mai mayo maggio maio mei мая
jun june juni juin junio giugno junho июня
jul july juli juillet julio luglio julho июля
aug august août aout agosto augustus августа
sep sept september septembre septiembre settembre setembro сентября
oct october oktober octobre octubre ottobre outubro октября
nov november novembre noviembre novembro ноября
dec december dezember décembre decembre diciembre dicembre dezembro декабря
"""
_MONTHS = {name: number for number, line in enumerate(_NAMES.strip().splitlines(), 1) for name in line.split()}
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\b\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th|er|º|\.)?"
_YEAR = r"(?P<year>\d{1,4})"
_OF = r"(?:\s+(?:of|de|del))?"
_ERA = (
    r"(?:\s*(?P<era>b\.?\s?c\.?(?:\s?e\.?)?|a\.?\s?d\.?|c\.?\s?e\.?|v\.?\s?chr\.?|n\.?\s?chr\.?|av\.?\s?j\.?-?c\.?|a\.?\s?c\.?)"
    r"(?![a-z]))"
)
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"\b(?:the\s+)?{_DAY}{_OF}\s+{_MONTH}(?:,?{_OF}\s+(?P<year>\d{{3,4}})\b{_ERA}?)?",
        rf"\b{_MONTH}\s+(?:the\s+)?{_DAY}\b(?:,?\s+(?P<year>\d{{3,4}})\b{_ERA}?)?",
        rf"\b{_MONTH},?{_OF}\s+(?P<year>\d{{3,4}})\b{_ERA}?",
        r"(?<!\d)(?P<year>\d{3,4})\s?年(?:\s?(?P<number>\d{1,2})\s?月(?:\s?(?P<day>\d{1,2})\s?[日号])?)?",
        r"\b(?P<year>\d{4})[-/.](?P<number>\d{1,2})[-/.](?P<day>\d{1,2})\b",
        r"\b(?P<first>\d{1,2})(?P<mark>[./-])(?P<second>\d{1,2})(?P=mark)(?P<year>\d{4})\b",
        r"(?<![\d/])(?P<number>\d{1,2})/(?P<year>1\d{3}|20\d{2})\b(?!/)",
        r"(?<!\d)(?P<number>\d{1,2})\s?月\s?(?P<day>\d{1,2})\s?[日号]",
        r"(?<![\d-])(?P<number>0\d)-(?P<day>\d{2})(?![\d-])",
        rf"\b{_YEAR}{_ERA}",
        rf"\b(?P<era>a\.?d\.?|b\.?c\.?)\s*{_YEAR}\b",
    )
)
_BEFORE = re.compile(r"b|v|av|a\.?\s?c", re.IGNORECASE)


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


def month_of(text: str) -> int | None:
    """The number of the month that the whole text names."""
    return _MONTHS.get(text.strip(" .").lower())


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
    if (
        year is not None
        and parts.get("era")
        and _BEFORE.match(parts["era"])
        and not parts["era"].lower().startswith("ad")
    ):
        year = -year
    if parts.get("first"):
        day, month = int(parts["first"]), int(parts["second"])
        swapped = (day, month) if day <= 12 else None
        if month > 12:  # 12/31/1999
            day, month, swapped = month, day, None
        ends = match.start(), match.end()
        return Date(year, month, day, swapped, *ends) if 1 <= month <= 12 and 1 <= day <= 31 else None
    named, number = parts.get("month"), parts.get("number")
    month_of = _MONTHS[named.lower()] if named else int(number) if number else None
    day_of = int(parts["day"]) if parts.get("day") else None
    if not 1 <= (1 if month_of is None else month_of) <= 12 or not 1 <= (1 if day_of is None else day_of) <= 31:
        return None
    return Date(year, month_of, day_of, None, match.start(), match.end())
