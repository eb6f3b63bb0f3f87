"""Quantities in a text: numbers and ranges with their units, and when one of them says the same as another."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from deepmmsearch.judge.numerals import counted_abroad, plain, spelled_out
from deepmmsearch.judge.units import CURRENCIES, Unit, find_unit, unit_pattern

LARGEST, SMALLEST = 1e30, 1e-30
"""What is beyond counts as no number: nothing that is asked for is so large."""
_SCALES = {
    **dict.fromkeys(("hundred", "hundreds"), 1e2),
    **dict.fromkeys(("thousand", "thousands", "tausend", "千"), 1e3),
    **dict.fromkeys(("万", "萬"), 1e4),
    **dict.fromkeys(("million", "millions", "mio", "mln", "millionen", "millones", "milhões", "milioni"), 1e6),
    **dict.fromkeys(("亿", "億"), 1e8),
    **dict.fromkeys(("billion", "billions", "bn", "mrd", "milliarde", "milliarden", "milliard", "milliards"), 1e9),
    **dict.fromkeys(("trillion", "trillions"), 1e12),
    **dict.fromkeys(("dozen", "dozens"), 12.0),
}
_LETTERS = {"k": 1e3, "M": 1e6}
_NUMBER = (
    r"\d+(?:\.\d+)?(?:e[-+]?\d{1,3}|\s?[x×*·]\s?10\^?[-+]?\d{1,2})(?!\d)"  # 2.5e6
    r"|\d{1,3}(?:[, \u00a0']\d{3})+(?:\.\d+)?(?!\d)"  # 1,000.5 and 1 000
    r"|\d+\s+\d+/\d+|\d+/\d+"  # 5 1/2
    r"|(?<!\d,)\d+,\d{1,2}(?![\d,])"  # a decimal comma
    r"|\d+(?:\.\d+)?|\.\d+"
)
# "330 steps" counts steps; after these words nothing is counted.
_NOT_COUNTED = frozenset(
    "tall high long wide deep old big large heavy thick and or in at on of to from is was are were it which that with "
    "by for as the a an than but about degrees above below per each total bc bce ad ce".split()
)
_PARTS = {"half": 2, "halves": 2, "third": 3, "quarter": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_PARTS |= {f"{name}s": value for name, value in _PARTS.items()}
_FRACTION = re.compile(rf"\b(\d{{1,2}})[ -]({'|'.join(_PARTS)})\b(?! (?:past|to|after))", re.IGNORECASE)
_ONE_AND = re.compile(
    r"\b(?P<whole>an?|\d{1,6})\s+(?:(?P<unit>[a-z]{3,12})\s+)?and\s+(?:an?\s+)?(?P<part>0\.5|[1-3]/[2-9]|quarter)(?![\w/])",
    re.IGNORECASE,
)
_PART_OF = re.compile(r"(\b(?:0\.5|[1-9]/[2-9]))\s+(?:of\s+)?an?\s+(?=[a-z])", re.IGNORECASE)
_IDIOMS = (
    (re.compile(r"\b(?:an?\s+)?quarter\s+of\b", re.IGNORECASE), "1/4 of"),
    (re.compile(r"\b(?:eine\s+)?dreiviertelstunde\b", re.IGNORECASE), "3/4 hour"),
    (re.compile(r"\b(?:eine\s+)?viertelstunde\b", re.IGNORECASE), "1/4 hour"),
    (
        re.compile(r"\b(?:eine?\s+halbe\s+stunde|(?:une\s+)?demi-heure|media\s+hora)\b|半小时", re.IGNORECASE),
        "0.5 hour",
    ),
    (re.compile(r"\b(\d{1,3})\s?h\s?(\d{2})\b(?!\s?m)", re.IGNORECASE), r"\1 h \2 min"),
    (
        re.compile(
            r"(?<!miles\s)(?<!metres\s)(?<!meters\s)(?<!feet\s)(?<!times\s)(?<!half\s)(?<!of\s)\ban?\s(?=(?:hour|minute|second|day|week|month|"
            r"year|decade|century|millennium|mile|foot|inch|pound|kilo|kilogram|ton|tonne|litre|liter)\b(?! and a))",
            re.IGNORECASE,
        ),
        "1 ",
    ),
    (re.compile(r"\b(?:anderthalb|eineinhalb)\b", re.IGNORECASE), "1.5"),
)
_COINS = re.compile(r"\ban?\s+(dollar|euro|pound)\s+(\d{2})\b", re.IGNORECASE)
_HAN_BORDER = re.compile(
    r"(?<=\d)(?=[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af])|(?<=[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af])(?=\d)"
)
_FEET = re.compile(
    r"(?<!\d)(\d+)\s*(?:['′’]\s*(\d{1,2})\s*(?:[\"″”]|''|inches\b)?|(?:ft\.?|feet|foot)\s*(?:and\s+)?(\d{1,2})\s*(?:in\b\.?|\"|″))",
    re.IGNORECASE,
)
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


@lru_cache(maxsize=2048)
def prepared(text: str) -> str:
    """The text in which quantities are looked for: plain characters, numbers in words as digits."""
    ready = plain(text)
    for idiom, figure in _IDIOMS:
        ready = idiom.sub(figure, ready)
    ready = spelled_out(counted_abroad(ready))
    ready = _FRACTION.sub(
        lambda m: f"{m[1]}/{_PARTS[m[2].lower()]}", _FEET.sub(lambda m: f"{m[1]} feet {m[2] or m[3]} inches", ready)
    )
    ready = _PART_OF.sub(r"\1 ", _ONE_AND.sub(_with_part, ready))
    ready = _COINS.sub(r"1.\2 \1", ready)
    return _HAN_BORDER.sub(" ", ready)


def _with_part(found: re.Match[str]) -> str:
    """An hour and a half: 1.5 hours."""
    whole = 1 if found["whole"].lower() in ("a", "an") else int(found["whole"])
    top, _, bottom = found["part"].replace("quarter", "1/4").partition("/")
    return f"{whole + float(top) / float(bottom or 1):g} {found['unit'] or ''}"


def _compiled() -> re.Pattern[str]:
    units, scales = unit_pattern(), "|".join(sorted(_SCALES, key=len, reverse=True))
    return re.compile(
        rf"(?<![\w./^])(?P<sign>[-+]|minus\s+)?\s?(?P<currency>US\$|[$€£¥₹])?\s?(?P<number>{_NUMBER})(?![\w/]*\d)"
        rf"(?:\s*(?P<scale>{scales})(?![a-z])|(?P<letter>[kM])(?![A-Za-z0-9]))?"
        rf"(?:[\s-]?\s*(?P<unit>{units})(?![A-Za-z0-9²³^/]))?",
        re.IGNORECASE,
    )


_PATTERN = _compiled()


def find_quantities(text: str) -> list[Quantity]:
    """Every quantity of a `prepared` text, compound ones (5 ft 11 in) and ranges as one."""
    singles = [q for found in _PATTERN.finditer(text) if (q := _single(text, found)) is not None]
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
    value = (_value(raw) or 0.0) * scale
    if _value(raw) is None or not (value == 0 or SMALLEST < abs(value) < LARGEST):
        return None
    sign = (found["sign"] or "").strip()
    if sign in ("-", "minus") and not _is_dash(text, found.start()):
        value = -value
    unit = find_unit(found["unit"]) if found["unit"] else None
    end = found.end() if unit or not found["unit"] else found.start("unit")
    # 19th and 747B are names, and the 1990s are no time of 1990 seconds
    following = text[end : end + 1]
    before = text[: found.start("number")].rstrip()[-2:]
    if re.match(r"\s?[√π^]|:\d", text[end:]) or before.endswith("√") or re.fullmatch(r"\d:", before):
        return None
    if (not scaled and following.isalpha() and following.isascii()) or re.match(
        r"\d{3}0'?s\b", text[found.start("number") :]
    ):
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


def _value(raw: str) -> float | None:
    """None for what is no number: 1/0, or one that a float cannot hold."""
    if "/" in raw:
        *whole, fraction = raw.split()
        top, bottom = map(int, fraction.split("/"))
        return sum(map(int, whole)) + top / bottom if bottom and top < LARGEST and bottom < LARGEST else None
    if power := re.fullmatch(r"(.+?)(?:e|\s?[x×*·]\s?10\^?)([-+]?\d+)", raw, re.IGNORECASE):
        exponent = int(power[2])
        return float(power[1]) * 10.0**exponent if abs(exponent) <= 30 else None
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
