"""Quantities in a text: numbers and ranges with their units, and when one of them says the same as another."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cache

from deepmmsearch.judge.numerals import plain, spelled_out
from deepmmsearch.judge.units import CURRENCIES, Unit, find_unit, unit_pattern

# Rounded figures agree up to this relative difference, converted ones up to the second.
ROUNDING, CONVERSION = 0.01, 0.005
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "bn": 1e9, "trillion": 1e12, "dozen": 12.0}
_LETTERS = {"k": 1e3, "M": 1e6}
_NUMBER = (
    r"\d{1,3}(?:[, \u00a0']\d{3})+(?:\.\d+)?(?!\d)"  # 1,000.5 and 1 000
    r"|\d+\s+\d+/\d+|\d+/\d+"  # 5 1/2
    r"|(?<!\d,)\d+,\d{1,2}(?![\d,])"  # a decimal comma
    r"|\d+(?:\.\d+)?|\.\d+"
)
# "330 steps" counts steps; after these words nothing is counted.
_NOT_COUNTED = frozenset(
    "tall high long wide deep old big large heavy thick and or in at on of to from is was are were it which that with "
    "by for as the a an than but about degrees above below per each total bc bce ad ce".split()
)
_FEET = re.compile(r"(?<!\d)(\d+)\s*['′’]\s*(\d{1,2})\s*(?:[\"″”]|''|inches\b)?")
_OPEN = re.compile(
    r"(?:at least|at most|more than|less than|fewer than|over|under|up to|above|below|no more than|>|<|≥|≤)\s*$", re.I
)


@dataclass(frozen=True)
class Quantity:
    """From `low` to `high` (equal for a single number) in `unit`.

    `digits`: significant ones as written. `open`: only one end is given ("at least 20"). `noun`: what is counted, where
    a word follows instead of a unit. `year`: it may be one, so it is never rounded. `scale`: of the word after the
    number (million). `start`, `end`: where it stands in the text as `prepared` gives it.
    """

    low: float
    high: float
    unit: Unit | None = None
    digits: int = 0
    open: bool = False
    noun: str = ""
    year: bool = False
    scale: float = 1.0
    start: int = 0
    end: int = 0

    @property
    def single(self) -> bool:
        return self.low == self.high


def prepared(text: str) -> str:
    """The text in which quantities are looked for: plain characters, numbers in words as digits."""
    return _FEET.sub(r"\1 feet \2 inches", spelled_out(plain(text)))


@cache
def _pattern() -> re.Pattern[str]:
    units = unit_pattern()
    return re.compile(
        rf"(?<![\w./])(?P<sign>[-+]|minus\s+)?\s?(?P<currency>US\$|[$€£¥₹])?\s?(?P<number>{_NUMBER})(?![\w/]*\d)"
        rf"(?:\s*(?P<scale>{'|'.join(_SCALES)})\b|(?P<letter>[kM])(?![A-Za-z0-9]))?"
        rf"(?:[\s-]?\s*(?P<unit>{units})(?![A-Za-z0-9²³^/]))?",
        re.IGNORECASE,
    )


def find_quantities(text: str) -> list[Quantity]:
    """Every quantity of a `prepared` text, compound ones (5 ft 11 in) and ranges as one."""
    singles = [q for found in _pattern().finditer(text) if (q := _single(text, found)) is not None]
    joined: list[Quantity] = []
    for quantity in singles:
        last = joined[-1] if joined else None
        merged = last and (_compound(text, last, quantity) or _range(text, last, quantity))
        if merged:
            joined[-1] = merged
        else:
            joined.append(quantity)
    return joined


def _single(text: str, found: re.Match[str]) -> Quantity | None:
    raw, scaled = found["number"], found["scale"] or found["letter"]
    if found["letter"] and found["letter"] not in _LETTERS:
        return None
    scale = _SCALES.get((found["scale"] or "").lower(), 1.0) * _LETTERS.get(found["letter"] or "", 1.0)
    value = _value(raw) * scale
    sign = (found["sign"] or "").strip()
    if sign in ("-", "minus") and not _is_dash(text, found.start()):
        value = -value
    unit = find_unit(found["unit"]) if found["unit"] else None
    end = found.end() if unit or not found["unit"] else found.start("unit")
    # 19th and 747B are names, and the 1990s are no time of 1990 seconds
    if (not scaled and text[end : end + 1].isalpha()) or re.match(r"\d{3}0'?s\b", text[found.start("number") :]):
        return None
    if unit is None and found["currency"]:
        unit = find_unit(found["currency"])
    noun = ""
    if unit is None and (word := re.match(r"\s+([A-Za-z]{3,})", text[end:])):
        noun = "" if word[1].lower() in _NOT_COUNTED else word[1].lower()
    digits = len(re.sub(r"^0+|\D", "", raw.replace(".", "")).rstrip("0" if "." not in raw else "") or "0")
    year = not scaled and unit is None and bool(re.fullmatch(r"1\d{3}|20\d{2}|2100", raw))
    opened = bool(_OPEN.search(text[: found.start()].rstrip()[-20:]))
    return Quantity(value, value, unit, digits, opened, noun, year, scale, found.start(), end)


def _value(raw: str) -> float:
    if "/" in raw:
        *whole, fraction = raw.split()
        top, bottom = map(int, fraction.split("/"))
        return sum(map(int, whole)) + (top / bottom if bottom else math.inf)
    if re.fullmatch(r"\d+,\d{1,2}", raw):  # a decimal comma: thousands come in threes
        return float(raw.replace(",", "."))
    return float(re.sub(r"[, \u00a0']", "", raw))


def _is_dash(text: str, at: int) -> bool:
    """Does the hyphen at `at` stand between two things, so that it is no sign?"""
    before = text[:at]
    if before[-1:].isspace() and before.rstrip()[-1:].isdecimal() and text[at + 1 : at + 2].isspace():
        return True
    return bool(before) and (before[-1].isalnum() or before[-1] in "%°\"'")


def _compound(text: str, left: Quantity, right: Quantity) -> Quantity | None:
    """5 ft 11 in, 2 hours and 15 minutes: the same dimension, ever smaller units."""
    if not (left.unit and left.single and right.single):
        return None
    unit = right.unit
    between = text[left.end : right.start].strip().lower()
    if between not in ("", ",", "and") or unit is None or unit.dimension != left.unit.dimension:
        return None
    if unit.factor >= left.unit.factor or unit.offset or unit.dimension in CURRENCIES:
        return None
    value = left.low + right.low * unit.factor / left.unit.factor
    return replace(left, low=value, high=value, digits=left.digits + 2, end=right.end)


def _range(text: str, left: Quantity, right: Quantity) -> Quantity | None:
    between = text[left.end : right.start].strip().lower()
    if right.low >= 0 and re.match(r"[-+]", text[right.start : right.start + 1]):
        between = f"{between}-"
    if not (left.single and right.single):
        return None
    if between in ("±", "+/-", "plus or minus"):
        unit = right.unit or left.unit
        return replace(left, low=left.low - right.low, high=left.low + right.low, unit=unit, end=right.end)
    opened = text[: left.start].rstrip().lower()
    if not (between in ("-", "to", "through", "till", "until") or (between == "and" and opened.endswith("between"))):
        return None
    low, unit = left.low, right.unit or left.unit
    if left.unit and right.unit and left.unit != right.unit:
        if left.unit.dimension != right.unit.dimension or left.unit.offset or right.unit.offset:
            return None
        low = left.low * left.unit.factor / right.unit.factor
    elif left.scale == 1 < right.scale and low * right.scale <= right.high:  # 2 to 3 million
        low *= right.scale
    if low > right.high:
        return None
    years = left.year and right.year
    return replace(right, low=low, unit=unit, digits=min(left.digits, right.digits), year=years, start=left.start)


def agree(reference: Quantity, given: Quantity, assumed: Unit | None = None) -> bool:
    """Does `given` say what `reference` says? `assumed` is the unit of a reference that names none.

    A range that contains the number agrees, unless it is so wide that it says nothing; a rounded figure agrees, a year
    is never rounded; a number without a unit is taken in the unit of the other (facts: reward judge).
    """
    if given.open or reference.open:
        return False
    unit = reference.unit or assumed
    if given.noun and unit and unit.dimension != "percent":
        return False
    if given.unit and unit and given.unit.dimension != unit.dimension:
        return False
    if _percent(reference) != _percent(given):
        plain_one, percent = (given, reference) if _percent(reference) else (reference, given)
        if _same(_scaled(percent, 0.01), plain_one, converted=False):
            return True
    converted = bool(given.unit and unit and given.unit != unit)
    if converted:
        assert unit and given.unit
        reference, given = _based(reference, unit), _based(given, given.unit)
    return _same(reference, given, converted)


def _percent(quantity: Quantity) -> bool:
    return quantity.unit is not None and quantity.unit.dimension == "percent"


def _scaled(quantity: Quantity, factor: float) -> Quantity:
    return replace(quantity, low=quantity.low * factor, high=quantity.high * factor, year=False)


def _based(quantity: Quantity, unit: Unit) -> Quantity:
    return replace(quantity, low=unit.base(quantity.low), high=unit.base(quantity.high), year=False)


def _same(reference: Quantity, given: Quantity, converted: bool) -> bool:
    if reference.single and given.single:
        return _close(reference, given, converted)
    if reference.single:
        return given.low <= reference.low <= given.high and not _says_nothing(given)
    if given.single:
        return not reference.year and reference.low <= given.low <= reference.high
    overlap = min(reference.high, given.high) - max(reference.low, given.low)
    union = max(reference.high, given.high) - min(reference.low, given.low)
    # InfoSeek's rule for two ranges: inside, or half of both together shared; years must be the same ones.
    if reference.year:
        return (reference.low, reference.high) == (given.low, given.high)
    return overlap > 0 and (overlap >= given.high - given.low or overlap / union >= 0.5)


def _says_nothing(given: Quantity) -> bool:
    width, middle = given.high - given.low, abs(given.low + given.high) / 2
    return width > 10 if given.year else width > max(2 * middle / 3, 2)


def _close(reference: Quantity, given: Quantity, converted: bool) -> bool:
    one, other = reference.low, given.low
    largest = max(abs(one), abs(other))
    difference = abs(one - other)
    if difference <= 1e-9 * max(largest, 1e-9):
        return True
    rounded = _rounds(one, other, given.digits) or _rounds(other, one, reference.digits)
    if converted:
        return rounded or difference <= CONVERSION * largest
    if reference.year or (given.year and float(one).is_integer()):
        return False
    counts = reference.unit is None and given.unit is None and largest < 1000
    if counts and float(one).is_integer() and float(other).is_integer():
        return False
    return rounded


def _rounds(fine: float, coarse: float, digits: int) -> bool:
    """Is `coarse` what `fine` becomes with that many significant digits, without losing more than ROUNDING?"""
    if not fine or not coarse or not math.isfinite(fine) or digits < 1 or abs(fine - coarse) > ROUNDING * abs(fine):
        return False
    places = digits - 1 - math.floor(math.log10(abs(fine)))
    return math.isclose(round(fine, places), coarse, rel_tol=1e-6)
