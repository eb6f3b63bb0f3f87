"""The rules of DeepMMSearch-R1's reward judge, without a model: what counts as the same answer (facts: synonyms among
the accepted answers, ranges that contain the number, reasonable rounding, units, dates; 5.2 is not 52)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from deepmmsearch.judge import formulas, naming, options, yesno
from deepmmsearch.judge.dates import Date, find_dates
from deepmmsearch.judge.giving_up import gave_up
from deepmmsearch.judge.mentions import WEEKDAY, same_date, same_quantity
from deepmmsearch.judge.numerals import plain
from deepmmsearch.judge.quantities import Quantity, find_quantities, prepared
from deepmmsearch.judge.sentences import said_in
from deepmmsearch.judge.spelling import Phrase, aligned, read
from deepmmsearch.judge.statement import LONGEST, answered, leads_to, readings, typeset, undenied
from deepmmsearch.judge.times import Clock, Period, find_times, is_time, read_period
from deepmmsearch.judge.units import Unit, find_unit, unit_pattern
from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.judge.words import HEDGES, PREPOSITIONS
from deepmmsearch.thoughts import without_thoughts
from deepmmsearch.types import Question

_ASKED_UNIT = re.compile(rf"\b(?:in|how many|how much)\s+({unit_pattern()})(?![A-Za-z0-9])", re.IGNORECASE)
_SMALL = re.compile(
    r"\b(?:about|around|approximately|circa|in|on|am|im|le|el|the|year|of|between|from|a|an|old|x|y|z)\b|\W"
)
_WHERE = re.compile(
    r"\b(?:where|city|town|place|country|capital|located|mountain|island|state|region|wo|stadt|où|ville|dónde|ciudad)\b|"
    r"哪里|哪座|城市|どこ",
    re.IGNORECASE,
)
_WHERE_IS = re.compile(r"\b(?:where|wo|où|dónde|onde|dove|где)\b|哪里|どこ", re.IGNORECASE)
_WHO = re.compile(
    r"\b(?:who|whom|whose|president|person|artist|architect|author|painter|designed|discovered|singer|actor|actress|"
    r"philosopher|poet|politician|athlete|footballer|astronaut|goalkeeper|explorer|inventor|leader|emperor|pope|"
    r"mathematician|physicist|chemist|musician|pianist|conductor|photographer|sculptor|designer|founder|founded|ceo|chef|"
    r"comedian|dancer|rapper|wrestler|boxer|racer|coach|novelist|playwright|economist|activist|minister|senator|mayor|"
    r"monarch|dictator|general|celebrity|invented|directed|wrote|composed|"
    r"player|composer|king|queen|director|writer|scientist|wer|wen|wem|qui|quién|chi|quem|кто)\b|谁|誰|누구",
    re.IGNORECASE,
)
# Who owns, makes or pays for a thing is as often a company.
_WHO_OR_WHAT = re.compile(
    r"\b(?:own(?:s|er|ed)?|operat\w+|manufactur\w+|mak(?:es|er|e)|made|produc(?:es|er|ed)|develop\w*|publish\w*|"
    r"sponsor\w*|commission\w*|company|team|club|band|country|won|wins|winner|what is the person|what is the man)\b",
    re.IGNORECASE,
)
_TITLE = re.compile(
    r"\b(?:title|film|movie|book|novel|game|series|show|album|song|play|called|named|name)\b", re.IGNORECASE
)
_TEAM = re.compile(r"\b(?:team|club|franchise|squad|side|won|playing|plays?)\b", re.IGNORECASE)
_ASKING = frozenset(
    "what which who whom whose when where why how is are was were do does did it this that many".split()
)
_PERSON_TYPES = frozenset({"person", "human", "people", "who", "per"})


@dataclass(frozen=True)
class Accepted:
    """One accepted answer, read once. At most one of `date`, `period`, `time`, `quantity` and `yes` is what it is."""

    phrase: Phrase
    date: Date | None = None
    period: Period | None = None
    time: Clock | None = None
    quantity: Quantity | None = None
    yes: bool | None = None


@dataclass(frozen=True)
class AskedFor:
    """What the question and all accepted answers say about each of them."""

    text: str
    words: frozenset[str]
    context: frozenset[str]
    head: str
    numbers: tuple[float, ...]
    unit: Unit | None
    place: bool
    who: bool
    title: bool
    team: bool


def judge_reward(question: Question, answer: str) -> Verdict:
    """Right when the answer says the same as any accepted answer; what is given word for word always is."""
    accepted = [text for text in question.answers if text.strip()]
    answer = without_thoughts(answer) or answer
    bare = _bare(answer)
    for text in accepted:
        own = _bare(text)
        if own and bare.endswith(own) and (len(bare) == len(own) or leads_to(bare[: -len(own)])):
            return Verdict(1.0, f"word for word: {text[:LONGEST]}")
    accepted = [text for text in accepted if len(text) <= LONGEST]
    whole = answered(answer)
    said = undenied(whole)
    if not said:
        return Verdict(0.0, "too long for an answer" if len(answer) > LONGEST else "says nothing")
    if gave_up(said, accepted):
        return Verdict(0.0, "gave up")
    asked = _asked(question.text[: 4 * LONGEST], tuple(accepted))
    person = str(question.metadata.get("answer_type", "")).lower() in _PERSON_TYPES
    if any(one.date for one in map(_accepted, accepted)) and find_dates(prepared(said)):
        accepted = [text for text in accepted if _accepted(text).date]
    for text in accepted:
        if reason := _matches(_accepted(text), whole, said, asked, person):
            return Verdict(1.0, f"{reason}: {text}")
    return Verdict(0.0, "does not match any accepted answer")


def _bare(text: str) -> str:
    """Letters, figures and signs of a text, however it is set and spaced; of a very long one as it is."""
    set_plainly = typeset(text) if len(text) <= 6 * LONGEST else text
    return " ".join(set_plainly.casefold().split()).rstrip(" .。") or text.strip()


@lru_cache(maxsize=2048)
def _accepted(text: str) -> Accepted:
    set_plainly = typeset(text) or text
    phrase = read(set_plainly)
    ready = prepared(set_plainly)
    if (yes := yesno.polarity(set_plainly)) is not None and len(phrase.tokens) == 1:
        return Accepted(phrase, yes=yes)
    if period := read_period(plain(set_plainly)):
        return Accepted(phrase, period=period)
    dates = find_dates(ready)
    if len(dates) == 1 and dates[0].day:
        ready = WEEKDAY.sub(lambda m: " " * len(m.group()), ready)
    if len(dates) == 1 and not _rest(ready, dates[0].start, dates[0].end):
        return Accepted(phrase, date=dates[0])
    if is_time(plain(set_plainly)) and len(times := find_times(plain(set_plainly))) == 1:
        return Accepted(phrase, time=times[0])
    quantities = find_quantities(ready)
    if (
        len(quantities) == 1
        and not dates
        and not quantities[0].open
        and not _rest(ready, quantities[0].start, quantities[0].end)
    ):
        return Accepted(phrase, quantity=quantities[0])
    return Accepted(phrase)


def _rest(text: str, start: int, end: int) -> str:
    """What stands around a date or a quantity, small words aside."""
    return _SMALL.sub("", f"{text[:start]} {text[end:]}".lower())


@lru_cache(maxsize=2048)
def _asked(question: str, answers: tuple[str, ...]) -> AskedFor:
    words = {w for w in read(question).words if w not in HEDGES}
    others = {w for text in answers for w in read(text).words if w.isalpha()} if len(answers) > 1 else set()
    named = _ASKED_UNIT.search(question)
    units = {q.unit for text in answers if (q := _accepted(text).quantity) and q.unit}
    unit = find_unit(named[1]) if named else next(iter(units)) if len(units) == 1 else None
    return AskedFor(
        question,
        frozenset(words),
        # Words of other accepted answers are known to be right, so they may stand beside the one that matches.
        frozenset(words) | frozenset(others),
        next((w for w in read(question).words if w not in _ASKING), ""),
        tuple(q.low for q in find_quantities(prepared(question)) if q.single),
        unit,
        bool(_WHERE.search(question)),
        bool(_WHO.search(question)) and not _WHO_OR_WHAT.search(question),
        bool(_TITLE.search(question)),
        bool(_TEAM.search(question)),
    )


def _matches(one: Accepted, whole: str, said: str, asked: AskedFor, person: bool) -> str:
    """How the answer matches the accepted one; "" when it does not. `whole`: with what it denies."""
    if options.is_letter(one.phrase.text) and (letter := options.chosen(said, asked.text)):
        return "same option" if letter == one.phrase.text.strip("(). ").upper() else ""
    if one.yes is not None:
        return "same" if yesno.polarity(whole, asked.context) is one.yes else ""
    ways = readings(said, asked.context, asked.head)
    if one.period is not None:
        spoken = [period for way in ways if (period := read_period(plain(way)))]
        return "same period" if spoken and spoken[0].says(one.period) else ""
    if one.date is not None:
        return same_date(one.date, one.phrase, said, asked.context)
    if one.time is not None:
        times = find_times(plain(said))
        return "same time" if times and all(time.agrees(one.time) for time in times) else ""
    if one.quantity is not None:
        return same_quantity(one.quantity, said, asked)
    return next((reason for way in ways if (reason := _name(one.phrase, way, asked, person, way is ways[0]))), "")


def _name(reference: Phrase, way: str, asked: AskedFor, person: bool, whole: bool) -> str:
    """`whole`: the way is the whole statement, not a name cut out of it."""
    if formulas.is_formula(reference.text):
        return "same formula" if formulas.bare(reference.text) == formulas.bare(way) else ""
    given = aligned(read(way), reference)
    if given.words and given.words[-1] in PREPOSITIONS and given.words[-1:] != reference.words[-1:]:
        return ""  # "quarter to" is not quarter
    if reason := naming.same_thing(reference, given):
        return reason
    if set(reference.words) <= asked.words and len(set(given.words) & asked.words) > len(set(reference.words)) + 3:
        return ""  # the question, or all that it offers, is no choice
    if naming.covers(reference, given, asked.words, asked.context):
        return "same name in other words"
    if (person or asked.who) and (reason := naming.personal(reference, given)):
        return reason
    if asked.title and naming.subtitle(reference, given):
        return "title without its series"
    if (asked.team and naming.team(reference, given)) or naming.without_kind(reference, given):
        return "short name"
    head, comma, _ = reference.text.partition(",")
    if comma and asked.place and whole and naming.same_thing(read(head), given):
        return "same place"
    if asked.place and whole and naming.within(reference.text, way, bool(_WHERE_IS.search(asked.text))):
        return "same place, said more closely"
    return "said in a sentence" if said_in(reference, given, asked.context, asked.head, asked.place) else ""
