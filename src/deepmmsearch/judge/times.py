"""Times of day, decades and centuries: what is read off a clock, and what has no exact date."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deepmmsearch.judge.numerals import ordinal, roman

HALF_DAY = 720

_NUMBERS = {
    name: number
    for number, name in enumerate("one two three four five six seven eight nine ten eleven twelve".split(), 1)
} | {"twenty": 20, "twenty-five": 25, "twenty five": 25, "fifteen": 15, "thirty": 30, "forty": 40, "forty-five": 45,
     "forty five": 45, "fifty": 50, "quarter": 15, "a quarter": 15, "half": 30}  # fmt: skip
_HOUR = rf"(?P<hour>\d{{1,2}}|{'|'.join(list(_NUMBERS)[:12])})"
_MINUTES = "|".join(sorted(_NUMBERS, key=len, reverse=True))
_HALF = r"(?:\s*(?P<half>[ap])\.?\s?m\b\.?)?"
_TIMES = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"\b(?P<off>\d{{1,2}}|{_MINUTES})\s+(?:minutes?\s+)?(?P<side>past|after|to|before|till)\s+{_HOUR}\b"
        rf"(?:\s+o'clock)?{_HALF}",
        r"\b(?P<hour>\d{1,2})[:.](?P<minute>\d{2})\s*(?P<half>[ap])\.?\s?m\b\.?",
        r"\b(?P<hour>\d{1,2})\s*(?P<half>[ap])\.?\s?m\b\.?",
        r"\b(?P<hour>\d{1,2}):(?P<minute>\d{2})\b(?!:)",
        rf"\b{_HOUR}\s+o'clock{_HALF}",
        r"\b(?P<hour>\d{1,2})\s?[点點时時](?:\s?(?P<minute>\d{1,2})\s?分)?",
        r"\b(?P<noon>noon|midday|midnight)\b",
    )
)
# "six thirty" is a time where it is all that is said
_BARE = re.compile(rf"(?:it\s+is\s+)?{_HOUR}\s+(?P<minute>{_MINUTES}|\d{{2}}){_HALF}", re.IGNORECASE)


@dataclass(frozen=True)
class Clock:
    """`minutes` after midnight; `exact`: it is known which half of the day."""

    minutes: int
    exact: bool = False

    def agrees(self, other: Clock) -> bool:
        if self.exact and other.exact:
            return self.minutes == other.minutes
        return self.minutes % HALF_DAY == other.minutes % HALF_DAY


def find_times(text: str) -> list[Clock]:
    """Times of day in a text with plain characters, in words or digits."""
    if whole := _BARE.fullmatch(text.strip(" .")):
        return [clock] if (clock := _clock(whole.groupdict())) else []
    found: list[tuple[int, int, Clock]] = []
    for form in _TIMES:
        for match in form.finditer(text):
            clock = _clock(match.groupdict())
            if clock and not any(start < match.end() and match.start() < end for start, end, _ in found):
                found.append((match.start(), match.end(), clock))
    return [clock for _, _, clock in sorted(found, key=lambda item: item[0])]


def is_time(text: str) -> bool:
    """Is the whole text a time of day?"""
    stripped = text.strip(" .")
    return any(form.fullmatch(stripped) for form in (_BARE, *_TIMES))


def _clock(parts: dict[str, str | None]) -> Clock | None:
    if noon := parts.get("noon"):
        return Clock(0 if noon.lower() == "midnight" else HALF_DAY, True)
    hour, minute = _number(parts["hour"]), _number(parts.get("minute") or "0")
    if (off := parts.get("off")) and (hour > 12 or _number(off) % 5):
        return None  # 16 to 18 is a range
    if off:
        minute = _number(off) if (parts["side"] or "").lower() in ("past", "after") else -_number(off)
    half = (parts.get("half") or "").lower()
    if not 0 <= hour < 24 or not -60 < minute < 60 or (half and hour > 12):
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return Clock((60 * hour + minute) % (2 * HALF_DAY), bool(half) or hour > 12 or hour == 0)


def _number(text: str | None) -> int:
    word = (text or "0").lower()
    return int(word) if word.isdecimal() else _NUMBERS[word]


_DECADES = "twenties thirties forties fifties sixties seventies eighties nineties".split()
_NUMBERED = r"(?P<century>[a-z]{5,12}|\d{1,2}(?:st|nd|rd|th|e|\.)?|(?-i:[IVX]{1,6})e?)"
_CENTURY = r"(?:century|centuries|cent\.?|c\.?(?![a-z])|jahrhunderts?|jh\.|siècle|世纪|世紀)"
_PERIOD = re.compile(
    rf"(?P<part>early|mid|middle|late)?(?:\s|-)*(?:(?:of\s+)?the\s+)?(?:{_NUMBERED}\s*[- ]?{_CENTURY}"
    r"|siglo\s+(?P<siglo>(?-i:[IVX]{1,6}))"
    rf"|(?P<years>\d{{3,4}})'?s\b|'?(?P<short>\d0)'?s\b|(?:roaring\s+)?(?P<decade>{'|'.join(_DECADES)})\b"
    r"|(?:(?P<han>\d{1,2})世[纪紀])?(?P<tens>\d{1,4})年代|(?P<years_de>\d{3,4})er(?:\s+jahren?)?\b)"
    r"(?P<era>\s*b\.?\s?c\.?(?:\s?e\.?)?)?",
    re.IGNORECASE,
)
_BEFORE_PERIOD = re.compile(r"^(?:it\s+(?:is|was)\s+)?(?:(?:in|during|from|around|about|the|im|au|en|el)\s+)*", re.I)
_PARTS = {"middle": "mid"}


@dataclass(frozen=True)
class Period:
    """`spans`: what it may mean, each a (length in years, number): the 1900s are (100, 20) or (10, 1900)."""

    spans: frozenset[tuple[int, int]]
    part: str = ""

    def says(self, asked: Period) -> bool:
        return bool(self.spans & asked.spans) and asked.part in ("", self.part)


def read_period(text: str) -> Period | None:
    """The decade or century that the whole text names, small words aside."""
    said = re.sub(
        r"^(?:it\s+(?:is|was)\s+)?(?:in|during|from|around|about|the|im|au|en|el|\s)*\s*",
        "",
        text.strip(" ."),
        flags=re.I,
    )
    found = _PERIOD.fullmatch(said)
    spans = _spans(found.groupdict()) if found else None
    if not found or not spans:
        return None
    sign = -1 if found["era"] else 1
    part = (found["part"] or "").lower()
    return Period(frozenset((length, sign * number) for length, number in spans), _PARTS.get(part, part))


def _spans(parts: dict[str, str | None]) -> set[tuple[int, int]]:
    if raw := parts["century"] or parts["siglo"]:
        word = raw.lower().removesuffix(".")
        word = word.removesuffix("e") if word[:-1].isdecimal() else word
        number = ordinal(word) or roman(raw.rstrip("e").upper()) or 0
        return {(100, number)} if 0 < number <= 30 else set()
    if years := parts["years"] or parts["years_de"]:
        first = int(years)
        return {(10, first)} | ({(100, first // 100 + 1)} if first % 100 == 0 else set()) if first % 10 == 0 else set()
    if tens := parts["tens"]:
        first = int(tens) + (100 * (int(parts["han"]) - 1) if parts["han"] else 0)
        return {(10, first if first > 100 else 1900 + first)}
    short = int(parts["short"]) if parts["short"] else 20 + 10 * _DECADES.index((parts["decade"] or "").lower())
    return {(10, 1900 + short)}
