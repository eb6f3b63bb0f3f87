"""Names and phrases as comparable words, and when two texts name the same thing as far as spelling alone can tell.

Case, accents, punctuation, articles and the order of words do not matter; abbreviations, Roman numerals, plurals and
ways to write letters of other scripts and languages are seen through.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from typing import Any

from deepmmsearch.judge.numerals import ordinal, plain, roman, spelled_out
from deepmmsearch.judge.words import SILENT
from deepmmsearch.normal_forms import normal_form

_LETTERS = str.maketrans({"đ": "d", "ø": "o", "ł": "l", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})
_UNMARKED = str.maketrans(dict(zip("äöüøåÄÖÜØÅ", "ae oe ue oe aa Ae Oe Ue Oe Aa".split(), strict=True)))
_CAPITALS = re.compile(r"\b[A-Z]{2,4}\b")
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|_")
_SAME = {
    "st": "saint", "mt": "mount", "ft": "fort", "nineties": "1990s", "eighties": "1980s", "seventies": "1970s",
    "sixties": "1960s", "fifties": "1950s", "forties": "1940s", "thirties": "1930s", "twenties": "1920s",
    "gray": "grey", "color": "colour", "theater": "theatre", "center": "centre", "harbor": "harbour", "jewelry":
    "jewellery", "aluminum": "aluminium", "airplane": "aeroplane", "mustache": "moustache", "pajamas": "pyjamas",
    "plow": "plough", "tire": "tyre", "ax": "axe", "catalog": "catalogue", "doughnut": "donut", "northern": "north",
    "southern": "south", "eastern": "east", "western": "west",
}  # fmt: skip
_ROMAN_SMALL = frozenset("ii iii iv vi vii viii ix xi xii xiii xiv xv xvi xvii xviii xix xx".split())
_CYRILLIC = dict(
    zip(
        "абвгдеёжзийклмнопрстуфхцчшщъыьэюяіїєґ",
        "a b v g d e e zh z i i k l m n o p r s t u f kh ts ch sh shch - y - e iu ia i i e g".split(),
        strict=True,
    )
) | {"ъ": "", "ь": ""}
# What transliterations of Slavic names write in several ways, in this order.
_HEARD = tuple(
    re.compile(pattern)
    for pattern in (
        "tsch|tch", "sch|sh|sz", "ch|cz|kh|х", "zh|j(?=[aeou]$)", "tz|ts", "ph|ff|[vw]", "[yj]",
        "(?<=[aeou])i(?=[aeou])", r"(.)\1+", "(?<=[CS])ef$",
    )
)  # fmt: skip
_SOUNDS = ("C", "S", "C", "Z", "c", "f", "i", "", r"\1", "of")
_SLAVIC = re.compile(r"(?:sk[iy][iyj]?|off|eff|[oe][vw]|[vw]i(?:ch|tch|tsch)|aya|aja|nin|enko)$|^t?sch|^tch")


@dataclass(frozen=True)
class Phrase:
    """`tokens`: words and punctuation, comparable; `words`: without punctuation and silent words; `capitals`: the words
    that are written with one; `common`: those that are not, whose plural is the same thing; `unmarked`: words with an
    umlaut or the like as they are written without, and the word."""

    text: str
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    capitals: frozenset[str]
    common: frozenset[str]
    unmarked: Mapping[str, str] = field(default_factory=dict, hash=False)


@lru_cache(maxsize=4096)
def read(text: str) -> Phrase:
    raw = _TOKEN.findall(spelled_out(plain(text)))
    tokens: list[str] = []
    common, capitals = set[str](), set[str]()
    unmarked = {}
    for number, token in enumerate(raw):
        if not token[0].isalnum():
            tokens.append(token)
            continue
        after_name = number > 0 and raw[number - 1][:1].isalpha() and raw[number - 1][0].isupper()
        known = token.lower() in _ROMAN_SMALL and number > 0
        numeral = roman(token.upper()) if known or (token.isupper() and after_name) else None
        parts = [str(numeral)] if numeral else _folded(token)
        tokens += parts
        (capitals if token[0].isupper() else common).update(parts)
        if not token.isascii() and (other := _folded(token.translate(_UNMARKED))) != parts:
            unmarked[other[0]] = parts[0]
    words = tuple(t for t in tokens if t[0].isalnum() and t not in SILENT)
    return Phrase(text, tuple(tokens), words, frozenset(capitals), frozenset(common), unmarked)


def _folded(token: str) -> list[str]:
    """In lower case, without accents; a possessive s is a token of its own, because Gaudí's is not Gaudí."""
    low = normal_form("NFKD", token.casefold().translate(_LETTERS))
    low = "".join(c for c in low if not unicodedata.combining(c)).replace("’", "'")
    stem, quote, tail = low.partition("'")
    if quote and tail == "s" and not stem[-1:].isdigit():
        return [stem, "'s"] if stem not in ("it", "that", "what", "he", "she", "who", "there") else [stem, "is"]
    low = low.replace("'", "") or token
    number = ordinal(low)
    return [str(number) if number is not None else _SAME.get(low, low)]


def aligned(given: Phrase, reference: Phrase) -> Phrase:
    """`given` with the words that it writes in another way than `reference` as `reference` writes them."""
    heard = {_heard(w): w for w in reference.words if len(w) > 3}
    foreign = any(map(_is_foreign, (*reference.words, *given.words)))
    same = {}
    for word in given.words:
        if word in reference.words:
            continue
        if word in reference.unmarked:
            same[word] = reference.unmarked[word]
        elif (other := next((u for u, w in given.unmarked.items() if w == word and u in reference.words), None)) or (
            foreign and len(word) > 3 and (other := heard.get(_heard(word)))
        ):
            same[word] = other
        elif run := _initials(word, given, reference):
            return aligned(replace(given, **_swapped(given, {word: run})), reference)
    if not same:
        return given
    return replace(given, **_swapped(given, {word: (other,) for word, other in same.items()}))


def _swapped(given: Phrase, same: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    def row(words: Iterable[str]) -> tuple[str, ...]:
        return tuple(chain.from_iterable(same.get(word, (word,)) for word in words))

    return {
        "tokens": row(given.tokens),
        "words": row(given.words),
        "capitals": frozenset(row(given.capitals)),
        "common": frozenset(row(given.common)),
    }


def _initials(word: str, given: Phrase, reference: Phrase) -> tuple[str, ...]:
    """The words of the reference that capitals stand for: UC in UC Berkeley for University of California."""
    if not 2 <= len(word) <= 4 or not word.isalpha() or word.upper() not in _CAPITALS.findall(given.text):
        return ()
    words = reference.words
    for start in range(len(words) - len(word) + 1):
        run = words[start : start + len(word)]
        if "".join(w[0] for w in run) == word and not set(run) & set(given.words):
            return run
    return ()


def _is_foreign(word: str) -> bool:
    return bool(_SLAVIC.search(word)) or word[0] in _CYRILLIC


@lru_cache(maxsize=4096)
def _heard(word: str) -> str:
    latin = "".join(_CYRILLIC.get(c, c) for c in word)
    for pattern, sound in zip(_HEARD, _SOUNDS, strict=True):
        latin = pattern.sub(sound, latin)
    return latin


def same_name(reference: Phrase, given: Phrase) -> bool:
    """The same words in any order (numbers in theirs), or the same letters, or the one an abbreviation of the other."""
    if not given.words or not reference.words:
        return given.tokens == reference.tokens and bool(given.tokens)
    one, other = singular(reference, reference), singular(given, reference)
    if sorted(one) == sorted(other) and [w for w in one if w.isdigit()] == [w for w in other if w.isdigit()]:
        return True
    # Spider-Man is Spiderman, and St Peters is St. Peter's
    if _letters(one, reference) == _letters(other, given):
        return True
    return _abbreviates(given, reference) or _abbreviates(reference, given)


def _letters(words: list[str], phrase: Phrase) -> str:
    if "'s" not in phrase.tokens:
        return "".join(words)
    return "".join(re.sub(r"\W", "", t) for t in phrase.tokens if t not in SILENT)


def singular(phrase: Phrase, reference: Phrase) -> list[str]:
    """Plurals fall away where the reference writes the word small: a dog is dogs, but Wale is not Wales."""
    small = {stem(w) for w in reference.common}
    return [stem(w) if stem(w) in small else w for w in phrase.words]


def stem(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and re.search(r"(?:s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _abbreviates(short: Phrase, long: Phrase) -> bool:
    """USA for United States of America, W.H.O. for World Health Organization, JFK for John F. Kennedy."""
    letters = re.sub(r"[\s.]", "", plain(short.text).strip().removeprefix("the "))
    if not (
        2 <= len(letters) <= 6 and letters.isalpha() and sum(map(str.isupper, letters)) >= 2 and letters[-1].isupper()
    ):
        return False
    words = [w for w in long.words if w not in ("in", "for", "on")]
    ways = [words] if letters.isupper() else [[t for t in long.tokens if t[0].isalpha()]]
    return len(words) > 1 and any(letters.casefold() == "".join(w[0] for w in way) for way in ways)
