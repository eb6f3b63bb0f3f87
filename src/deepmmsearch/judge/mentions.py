"""Dates and quantities within what an answer says."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from deepmmsearch.judge.agreement import agree
from deepmmsearch.judge.dates import Date, find_dates
from deepmmsearch.judge.numerals import plain
from deepmmsearch.judge.quantities import Quantity, find_quantities, prepared
from deepmmsearch.judge.spelling import Phrase, read
from deepmmsearch.judge.times import find_times
from deepmmsearch.judge.units import Unit, find_unit
from deepmmsearch.judge.words import FILLERS, HEDGES, TAKES_BACK

_NONE = frozenset({"none", "zero", "nil", "0", "nothing"})
_SEPARATOR = re.compile(r"[,;.:()]\s|\b(?:and|while|when|und|et|y)\b", re.IGNORECASE)
MOST_WORDS = 14
"""That are not the question's; a figure within more of them is one of many things that are said."""
_NAMED = re.compile(r"(?:(?<=\s)|(?<=\w-))([A-Z][a-z]+|[A-Za-z]+-)\s?$")
_LABEL = re.compile(
    r"^(?:game|stage|figure|table|chapter|step|level|act|part|phase|page|volume|episode|season|section|system|type|class|"
    r"route|terminal|gate|flight|test|question|option)\s$",
    re.IGNORECASE,
)
_DENIES = re.compile(r"不是|并非|並非|没有|沒有|未|∞|\b(?:infinit\w*|inf|nan)\b", re.IGNORECASE)
# "the right one" counts nothing
_POINTS = re.compile(r"\b(?:the|this|that|which|each|every|any|a)\s+(?:[a-z]+\s+)?one\b(?!\s+hundred)", re.IGNORECASE)
WEEKDAY = re.compile(r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b", re.IGNORECASE)
_HOURS = frozenset({"morning", "afternoon", "evening", "night"})
_SMALL = FILLERS | frozenset("year years century ad bc ce bce a an the of and between until till".split())


class Asking(Protocol):
    """What a question says about its figures: numbers that it holds itself, the unit it asks for, its words."""

    @property
    def numbers(self) -> tuple[float, ...]: ...
    @property
    def unit(self) -> Unit | None: ...
    @property
    def context(self) -> frozenset[str]: ...


class Located(Protocol):
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


Figure = TypeVar("Figure", bound=Located)


def same_date(asked: Date, written: Phrase, said: str, context: frozenset[str]) -> str:
    """Does the text say the date, which is accepted as `written`, and no other in its place? An hour that nobody asked
    for makes it another answer, and so does another day of the week."""
    tokens = set(read(said).tokens)
    if _DENIES.search(said) or HEDGES & tokens or _HOURS & tokens - context or find_times(plain(said)):
        return ""
    days = [{day.lower() for day in WEEKDAY.findall(text)} for text in (written.text, said)]
    if all(days) and days[0] != days[1]:
        return ""
    ready = prepared(said)
    dates = find_dates(ready)
    if not dates and asked.year is not None and asked.month is None and asked.year > 0:
        # AD 79 is what people write as 79
        years = [q for q in find_quantities(ready) if q.unit is None]
        dates = [Date(int(q.low), start=q.start, end=q.end) for q in years if q.single and q.low.is_integer()]
    return "same date" if _meant(dates, lambda d: d.says(asked), ready, context) else ""


def same_quantity(reference: Quantity, said: str, asked: Asking) -> str:
    """Does the text say the quantity, and no other in its place?"""
    phrase = read(said)
    if _DENIES.search(said) or set(phrase.words) & (HEDGES - {"or", "near", "like", "similar", "no", "than"}):
        return ""
    ready = prepared(said if said.lower() == "the one" else _POINTS.sub(" ", said))
    if reference.low == reference.high == 0 and reference.unit is None and {*phrase.tokens, "."} <= _NONE | {"."}:
        return "none"
    dates = find_dates(ready)
    for date in dates:
        ready = f"{ready[: date.start]}{' ' * (date.end - date.start)}{ready[date.end :]}"
    found = [q for q in find_quantities(ready) if not _is_label(ready, q, asked.context)]
    if dates and reference.year and reference.single:
        years = [Date(int(q.low), start=q.start, end=q.end) for q in found if q.single and q.year]
        every = sorted([*dates, *years], key=lambda date: date.start)
        ready = prepared(said)
        return "same year" if _meant(every, lambda d: d.year == int(reference.low), ready, asked.context) else ""
    if dates and not found:
        return ""
    if (
        any(time.exact for time in find_times(plain(said)))
        or len(set(phrase.words) - FILLERS - asked.context) > MOST_WORDS
    ):
        return ""
    found = _relevant(found, reference, asked)
    unit = asked.unit if reference.unit is None and not reference.year else None
    meant = _meant(found, lambda q: agree(reference, q, unit), ready, asked.context)
    return "same quantity" if meant else ""


def _is_label(text: str, quantity: Quantity, context: frozenset[str]) -> bool:
    """Does the number belong to a name: Game 2, System-1?"""
    if label := _LABEL.match(text[: quantity.start]):
        return label.group().strip().lower() not in context
    before = _NAMED.search(text[: quantity.start])
    return before is not None and before[1].lower() not in _SMALL | context and find_unit(before[1]) is None


def _relevant(found: list[Quantity], reference: Quantity, asked: Asking) -> list[Quantity]:
    """Without those of the question, and, where some measure what is asked for, without those that do not."""
    if len(found) < 2:
        return found
    new = [q for q in found if not (q.single and q.low in asked.numbers)] or found
    unit = reference.unit or asked.unit
    if unit is None:
        # of a year or a count, no length or weight is another one
        return [q for q in new if q.unit is None or q.unit.dimension in ("time", "percent")] or new
    return [q for q in new if q.unit and q.unit.dimension == unit.dimension] or new


def _meant(found: Sequence[Figure], agrees: Callable[[Figure], bool], text: str, context: frozenset[str]) -> bool:
    """Do all of them agree? Others may follow in parts of the sentence that say something else of it: "opened in 1889
    and closed in 1910". Then the one that agrees comes first, or stands by words of the question, as no other does."""
    if not found:
        return False
    right = [agrees(one) for one in found]
    if all(right):
        return True
    if not any(right) or TAKES_BACK & set(read(text).tokens):
        return False
    about = [_about(one, text) for one in found]
    others = [words for words, good in zip(about, right, strict=True) if not good]
    ours = [words for words, good in zip(about, right, strict=True) if good]
    apart = all(words - _SMALL - context for words in others)
    return apart and (
        right[0] or (any(words & context - _SMALL for words in ours) and not any(w & context - _SMALL for w in others))
    )


def _about(one: Located, text: str) -> set[str]:
    """The words between the figure and what separates it from the part before."""
    before = _SEPARATOR.split(text[: one.start])[-1]
    return {w for w in read(before).words if w.isalpha()}
