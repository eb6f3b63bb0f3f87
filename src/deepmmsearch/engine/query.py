"""What is searched for: the terms of a query, each with its weight, in all languages of the index."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise

from deepmmsearch.engine.backend import BackendSnapshot
from deepmmsearch.engine.corrections import corrected
from deepmmsearch.engine.page_tags import LANGUAGE
from deepmmsearch.engine.query_language import ParsedQuery, parsed
from deepmmsearch.engine.storage import Conditions, rareness
from deepmmsearch.language import word_parts
from deepmmsearch.language.function_words import function_words
from deepmmsearch.language.segmentation import Word, is_run, words
from deepmmsearch.language.stems import ENGLISH, Terms, spelling, terms

MOST_TERMS = 64
FEW = 4
"""Words of a query so short that its function words may be meant."""
SMALL = 0.3
"""Their weight then."""
PARTS = 0.5
"""The weight of parts of words beside the words."""
MOST_PARTS = 256
"""A query of more has words enough to be found by those alone."""


@dataclass(frozen=True)
class Query:
    """What is said without operators; its terms with weights, those of function words apart, in `small`, and `parts`
    of its words where the index has them. `phrases` are looked for in the text of what is found; `replaced` are the
    words that no page has, each with the one that is searched for instead; `akin` are those by which a
    passage without any term may be found."""

    words: str
    terms: Mapping[str, float]
    small: Mapping[str, float]
    conditions: Conditions | None = None
    phrases: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    replaced: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)
    akin: tuple[word_parts.Kinship, ...] = ()


def understood(snapshot: BackendSnapshot, text: str) -> Query:
    """Any text is a query. Terms count as often as they are said; of more than 64, those that say most are kept."""
    asked = parsed(text)
    found = list(words(asked.words))
    said = [word.text for word in found]
    spoken = _languages(snapshot)
    # told by the query itself where the index has several
    own = max(spoken, key=lambda language: sum(token.lower() in function_words(language) for token in said))
    importance = _importance(asked.words, found, function_words(own), 0.0 if snapshot.store.titles_apart else SMALL)

    def frequency(word: str) -> int:
        return max(map(snapshot.frequency, _forms(snapshot, word, spoken)), default=0)

    # a word that no page has may be one of a compound, in whichever language
    in_parts = snapshot.store.in_parts and word_parts.in_parts(own)
    unknown_in_parts = snapshot.store.in_parts and any(map(word_parts.in_parts, spoken))
    akin = list[word_parts.Kinship]()
    weights, small, replaced, parts = Counter[str](), Counter[str](), dict[str, str](), Counter[str]()
    for token, weight in zip(said, importance, strict=True):
        if weight:
            forms = _forms(snapshot, token, spoken)
            function = terms(own, snapshot.store.stemmed).small.get(token)
            unknown = not function and not is_run(token) and not any(map(snapshot.frequency, forms))
            if unknown:
                if token not in replaced and (other := corrected(snapshot, token, frequency)):
                    replaced[token] = other
                forms = _forms(snapshot, replaced[token], spoken) if token in replaced else forms
            for term, share in forms.items():
                weights[term] += weight * share  # type: ignore[assignment]
            if function:
                small[function] += weight  # type: ignore[assignment]
                weights[function] += weight  # type: ignore[assignment]
            elif (in_parts or (unknown_in_parts and unknown and token not in replaced)) and not is_run(token):
                akin.append(word_parts.Kinship(token, next(iter(terms(own, snapshot.store.stemmed).asked(token)), "")))
                for part in word_parts.parts(token):
                    parts[part] += PARTS  # type: ignore[assignment]
    if len(weights) > MOST_TERMS:
        weights = _telling(snapshot, weights)
    if len(parts) > MOST_PARTS:
        parts.clear()
        akin.clear()
    conditions = _conditions(snapshot, asked, spoken) if asked.filters else None
    return Query(asked.words, weights, small, conditions, asked.phrases, asked.without, replaced, parts, tuple(akin))


def _conditions(snapshot: BackendSnapshot, asked: ParsedQuery, spoken: tuple[str, ...]) -> Conditions:
    def parts(phrase: str) -> list[list[str]]:
        """What a text that holds the phrase must have: for each of its words, the word in one of the languages."""
        found: list[list[str]] = []
        for word in words(phrase):
            forms = [_whole(terms(language, snapshot.store.stemmed), word.text) for language in spoken]
            found += [[gram] for gram in forms[0]] if is_run(word.text) else [[form[0] for form in forms if form]]
        return [alike for alike in found if alike]

    # of several words a text without them side by side is kept: that is seen in it
    without = [parts(phrase) for phrase in asked.without if len(list(words(phrase))) == 1]
    phrases = [part for phrase in asked.phrases for part in parts(phrase)]
    return Conditions(asked.tags, asked.without_tags, phrases, without, asked.after, asked.before)


def _whole(analysed: Terms, token: str) -> list[str]:
    """The term of the whole of a word; all of a run's."""
    found = analysed.asked(token)
    return (found if is_run(token) else found[:1]) or analysed.small.get(token, "").split()


def matched(snapshot: BackendSnapshot, query: Query, text: str) -> list[tuple[int, int]]:
    """Where the words of a query stand in a text, in its order: start and end of each; in runs without blanks, of
    what is found in them."""
    spoken, found = _languages(snapshot), list[tuple[int, int]]()
    for word in words(text):
        if is_run(word.text):
            sought = [term for term in query.terms if len(term) > 1 and term in word.text]
            places = ((m.start(), m.end()) for term in sought for m in re.finditer(re.escape(term), word.text))
            found += ((word.start + start, word.start + end) for start, end in places)
            continue
        forms = set(_forms(snapshot, word.text, spoken))
        if not forms.isdisjoint(query.terms):
            found.append((word.start, word.end))
    return _joined(found)


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def holds(title: str, text: str, query: Query) -> bool:
    """Has a passage every phrase of a query, and none of the phrases that it must not have?"""
    said = _said(title), _said(text)

    def has(phrase: str) -> bool:
        return any(_said(phrase) in part for part in said)

    return all(map(has, query.phrases)) and not any(has(p) for p in query.without if len(list(words(p))) > 1)


def is_akin(title: str, text: str, query: Query) -> bool:
    """Has a passage a word that is akin to one of a query?"""
    said = word_parts.spellings(title, text)
    return any(kinship.is_in(said) for kinship in query.akin)


def _said(text: str) -> str:
    """The words of a text one after the other, without capitals and accents: each between blanks, but for runs."""
    said = (spelling(word.text) for word in words(text))
    return "".join(token if is_run(token) else f" {token} " for token in said).replace("  ", " ")


def _importance(text: str, found: list[Word], function: frozenset[str], least: float) -> list[float]:
    """The weight of each word: nothing for function words, unless there are no others, the query is short (they have
    the `least` then), or capitals make a name of one."""
    said = [word.text for word in found]
    small = [token.lower() in function for token in said]
    if all(small):
        return [1.0] * len(said)
    cased = any(token.islower() for token, is_small in zip(said, small, strict=True) if not is_small)
    least = least if len(said) <= FEW else 0.0
    opening = [True, *(_ends(one.text, text[one.end : other.start]) for one, other in pairwise(found))]

    def is_name(token: str, opens: bool) -> bool:
        return cased and token[0].isupper() and (not opens or token.isupper()) and token != "I"

    return [
        least if is_small and not is_name(token, opens) else 1.0
        for token, is_small, opens in zip(said, small, opening, strict=True)
    ]


def _ends(word: str, after: str) -> bool:
    """Does a sentence end with this word? St. and Dr. end none."""
    return not after.isspace() and (("." in after and len(word) > 3) or any(sign in after for sign in "?!:;"))


def _languages(snapshot: BackendSnapshot) -> tuple[str, ...]:
    """Of the pages of the index, the commonest first."""
    if "languages" not in snapshot.derived:
        snapshot.derived["languages"] = tuple(snapshot.tags(LANGUAGE)) or (ENGLISH,)
    spoken: tuple[str, ...] = snapshot.derived["languages"]
    return spoken


def _forms(snapshot: BackendSnapshot, token: str, spoken: tuple[str, ...]) -> dict[str, float]:
    """The terms of a word in each language. Its forms count as one term that is as common as all of them together:
    else the few pages in a language that is rare in the index would come first for every word."""
    stemmed = snapshot.store.stemmed
    if len(spoken) == 1:
        found = terms(spoken[0], stemmed).asked(token)
        # a compound and its parts together count as its parts
        share = 1.0 if len(found) < 3 or is_run(token) else (len(found) - 1) / len(found)
        return dict.fromkeys(found, share)
    forms = [terms(language, stemmed).asked(token) for language in spoken]
    weights: dict[str, float] = {}
    aligned = len({len(form) for form in forms}) == 1
    for alike in map(dict.fromkeys, zip(*forms, strict=True) if aligned else [chain(*forms)]):
        if len(alike) == 1:
            weights.update(dict.fromkeys(alike, 1.0))
            continue
        frequencies = {term: snapshot.frequency(term) for term in alike}
        together = rareness(sum(frequencies.values()), snapshot.documents)
        known = {term: frequency for term, frequency in frequencies.items() if frequency}
        weights |= {term: together / rareness(frequency, snapshot.documents) for term, frequency in known.items()}
    return weights


def _telling(snapshot: BackendSnapshot, weights: Mapping[str, float]) -> Counter[str]:
    def says(term: str) -> float:
        frequency = snapshot.frequency(term)
        return weights[term] * rareness(frequency, snapshot.documents) if frequency else 0.0

    return Counter({term: weights[term] for term in sorted(weights, key=says, reverse=True)[:MOST_TERMS]})
