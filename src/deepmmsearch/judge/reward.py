"""The rules of DeepMMSearch-R1's reward judge, without a model: what counts as the same answer (facts: synonyms among
the accepted answers, ranges that contain the number, reasonable rounding, units, dates; 5.2 is not 52)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from deepmmsearch.judge import spelling
from deepmmsearch.judge.dates import Date, find_dates, find_times
from deepmmsearch.judge.normalisation import gave_up
from deepmmsearch.judge.numerals import plain
from deepmmsearch.judge.quantities import Quantity, agree, find_quantities, prepared
from deepmmsearch.judge.spelling import Phrase
from deepmmsearch.judge.units import Unit, find_unit, unit_pattern
from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

LONGEST = 600
"""Characters; what is longer is no answer in a few words, and would take long to read."""
LONGEST_QUESTION = 5_000
"""Characters in which numbers are looked for."""

_WRAPPED = re.compile(r"\\boxed\s*\{([^{}]*)\}|\\text\s*\{([^{}]*)\}|\$([^$]+)\$|[*`_]{1,3}(?=\S)|(?<=\S)[*`_]{1,3}")
_NOT_THE_OTHER = re.compile(
    r",?\s+(?:and\s+)?not\s+(?!only\b).*$|,?\s+(?:rather than|instead of|as opposed to)\s.*$", re.I
)
_LEAD = re.compile(r"^\s*(?:the\s+)?(?:final\s+)?answer\s*(?:is|:)\s*:?\s*", re.IGNORECASE)
_ASKED_UNIT = re.compile(rf"\b(?:in|how many|how much)\s+({unit_pattern()})(?![A-Za-z0-9])", re.IGNORECASE)
_SMALL = re.compile(r"\b(?:about|around|approximately|circa|in|on|the|year|of|between|from|a|an|old)\b|\W")
_NONE = frozenset({"none", "zero", "nil", "no"})
_WHERE = re.compile(
    r"\b(?:where|city|town|place|country|capital|located|mountain|island|state|region)\b", re.IGNORECASE
)
_WHO = re.compile(
    r"\b(?:who|whom|whose|president|person|artist|architect|author|painter|designed|discovered)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Accepted:
    """One accepted answer, read once. At most one of `date`, `time` and `quantity` is what it is."""

    phrase: Phrase
    date: Date | None = None
    time: int | None = None
    quantity: Quantity | None = None


@dataclass(frozen=True)
class _Asked:
    """What the question and all accepted answers say about each of them."""

    context: frozenset[str]
    numbers: tuple[float, ...]
    unit: Unit | None
    place: bool
    who: bool


def judge_reward(question: Question, answer: str) -> Verdict:
    """Right when the answer says the same as any accepted answer."""
    if len(answer) > LONGEST:
        return Verdict(0.0, "too long for an answer")
    said = _said(answer)
    if gave_up(said):
        return Verdict(0.0, "gave up")
    accepted = [_accepted(text) for text in question.answers if text.strip()]
    asked = _asked(question.text, tuple(question.answers))
    for one in accepted:
        if reason := _matches(one, said, asked):
            return Verdict(1.0, f"{reason}: {one.phrase.text}")
    return Verdict(0.0, "does not match any accepted answer")


def _said(answer: str) -> str:
    """The answer without typesetting, without "the answer is", and without what it says it is not."""
    text = _WRAPPED.sub(lambda m: m[1] or m[2] or m[3] or "", plain(answer)).strip().strip("\"'“”.!?, ")
    return _NOT_THE_OTHER.sub("", _LEAD.sub("", text)) or text


@lru_cache(maxsize=16384)
def _accepted(text: str) -> Accepted:
    phrase = spelling.read(text)
    if len(text) > LONGEST:
        return Accepted(phrase)
    ready = prepared(text)
    dates = find_dates(ready)
    if len(dates) == 1 and not _rest(ready, dates[0].start, dates[0].end):
        return Accepted(phrase, date=dates[0])
    times = find_times(ready)
    if len(times) == 1 and re.fullmatch(r"[\d:.\s]*(?:[ap]\.?\s?m\.?)?", ready.strip(), re.IGNORECASE):
        return Accepted(phrase, time=times[0])
    quantities = find_quantities(ready)
    if len(quantities) == 1 and not quantities[0].open and not _rest(ready, quantities[0].start, quantities[0].end):
        return Accepted(phrase, quantity=quantities[0])
    return Accepted(phrase)


def _rest(text: str, start: int, end: int) -> str:
    """What stands around a date or a quantity, small words aside."""
    around = f"{text[:start]} {text[end:]}"
    return re.sub(
        r"\b(?:about|around|approximately|circa|in|on|the|year|of|between|from|a|an|old)\b|\W", "", around.lower()
    )


@lru_cache(maxsize=16384)
def _asked(question: str, answers: tuple[str, ...]) -> _Asked:
    words = {w for w in spelling.read(question).words if w not in spelling.HEDGES}
    others = {w for text in answers for w in spelling.read(text).words if w.isalpha()} if len(answers) > 1 else set()
    named = _ASKED_UNIT.search(question)
    units = {q.unit for text in answers if (q := _accepted(text).quantity) and q.unit}
    unit = find_unit(named[1]) if named else next(iter(units)) if len(units) == 1 else None
    numbers = tuple(q.low for q in find_quantities(prepared(question[:LONGEST_QUESTION])) if q.single)
    # Words of other accepted answers are known to be right, so they may stand beside the one that matches.
    context = frozenset(words) | frozenset(others)
    return _Asked(context, numbers, unit, bool(_WHERE.search(question)), bool(_WHO.search(question)))


def _matches(one: Accepted, said: str, asked: _Asked) -> str:
    """How the answer matches the accepted one; "" when it does not."""
    given = spelling.read(said)
    if one.date is not None:
        return _date(one.date, said, given)
    if one.time is not None:
        return "same time" if set(find_times(prepared(said))) == {one.time} else ""
    if one.quantity is not None:
        return _quantity(one.quantity, said, given, asked)
    return _name(one.phrase, given, asked)


def _date(asked: Date, said: str, given: Phrase) -> str:
    ready = prepared(said)
    dates = find_dates(ready)
    if not dates and asked.year is not None and asked.month is None and asked.year > 0:
        # AD 79 is what people write as 79
        years = [q for q in find_quantities(ready) if q.unit is None]
        dates = [Date(int(q.low)) for q in years if q.single and q.low == int(q.low)]
    if not dates or spelling.HEDGES & set(given.tokens):
        return ""
    return "same date" if all(d.says(asked) for d in dates) else ""


def _quantity(reference: Quantity, said: str, given: Phrase, asked: _Asked) -> str:
    if set(given.words) & (spelling.HEDGES - {"or", "near", "like", "similar", "no"}):
        return ""
    ready = prepared(said)
    if reference.low == reference.high == 0 and set(given.words) <= _NONE and given.words:
        return "none"
    dates = find_dates(ready)
    for date in dates:
        ready = f"{ready[: date.start]}{' ' * (date.end - date.start)}{ready[date.end :]}"
    found = find_quantities(ready)
    if dates:
        years = {d.year for d in dates}
        return (
            "same year" if reference.year and reference.single and years == {int(reference.low)} and not found else ""
        )
    found = _relevant(found, reference, asked)
    unit = asked.unit if reference.unit is None and not reference.year else None
    return "same quantity" if found and all(agree(reference, q, unit) for q in found) else ""


def _relevant(found: list[Quantity], reference: Quantity, asked: _Asked) -> list[Quantity]:
    """Without those of the question, and, where some measure what is asked for, without those that do not."""
    if len(found) < 2:
        return found
    new = [q for q in found if not (q.single and q.low in asked.numbers)] or found
    unit = reference.unit or asked.unit
    fitting = [q for q in new if unit and q.unit and q.unit.dimension == unit.dimension]
    return fitting or new


def _name(reference: Phrase, given: Phrase, asked: _Asked) -> str:
    if reference.words in (("yes",), ("no",)):
        first, *after = given.tokens or ("",)
        alone = not after or (after[0] in ",.;!" and first == reference.words[0])
        return "same" if first == reference.words[0] and alone else ""
    if spelling.same_name(reference, given):
        return "same name"
    if spelling.covers(reference, given, asked.context):
        return "same name in other words"
    if asked.who and spelling.surname(reference, given):
        return "surname"
    head, comma, _ = reference.text.partition(",")
    if comma and asked.place and spelling.same_name(spelling.read(head), given):
        return "same place"
    return "said in a sentence" if spelling.said_in(reference, given, asked.context, asked.place) else ""
