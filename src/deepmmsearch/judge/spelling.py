"""Names and phrases: when two texts name the same thing, as far as spelling alone can tell.

Case, accents, punctuation, articles and the order of words do not matter; abbreviations, titles, Roman numerals and
plurals are seen through. What is meant but not written (a car is an automobile) is for the accepted answers, or for a
language model.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from deepmmsearch.judge.numerals import ordinal, plain, roman, spelled_out
from deepmmsearch.normal_forms import normal_form

_LETTERS = str.maketrans({"đ": "d", "ø": "o", "ł": "l", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|_")
_SAME = {
    "st": "saint", "mt": "mount", "ft": "fort", "nineties": "1990s", "eighties": "1980s", "seventies": "1970s",
    "sixties": "1960s", "fifties": "1950s", "forties": "1940s", "thirties": "1930s", "twenties": "1920s",
    "gray": "grey", "color": "colour", "theater": "theatre", "center": "centre", "harbor": "harbour", "jewelry":
    "jewellery", "aluminum": "aluminium", "airplane": "aeroplane", "mustache": "moustache", "pajamas": "pyjamas",
    "plow": "plough", "tire": "tyre", "ax": "axe", "catalog": "catalogue", "doughnut": "donut",
}  # fmt: skip
SILENT = frozenset({"a", "an", "the", "of", "and"})
TITLES = frozenset(
    "dr mr mrs ms miss sir dame lord lady prof professor president king queen emperor empress prince princess pope "
    "general captain mount saint".split()
)
SUFFIXES = frozenset("jr sr phd inc ltd co corp corporation company gmbh plc llc".split())
_ROMAN_SMALL = frozenset("ii iii iv vi vii viii ix xi xii xiii xiv xv xvi xvii xviii xix xx".split())
FILLERS = frozenset(
    "is are was were be been it its this that these those in on at to by from with as for into answer final i think "
    "believe guess probably likely maybe perhaps possibly about around approximately called named known name shown "
    "seen pictured depicted located found situated stands standing stood lies picture image photo photograph scene "
    "here there he she they has have had which who whose what where when city town country place thing one so "
    "therefore appears seems must should would hence thus my your s year designed built painted made written created "
    "architect artist born opened".split()
)
HEDGES = frozenset(
    "not no never nor or either neither but unlike rather instead except without isn't isnt wasn't wasnt aren't arent "
    "don't dont doesn't can't cannot far near nearby outside like similar unknown unclear versus vs any".split()
)
_PLACES = frozenset(
    "city town village country state island kingdom republic capital river lake mount flag name".split()
)
_BREAK = frozenset('.,;:!?()[]{}"“”«»/|-*\n')


@dataclass(frozen=True)
class Phrase:
    """`tokens`: words and punctuation, comparable; `words`: without punctuation and silent words; `initials`: of the
    words with a capital; `common`: words not written with a capital, whose plural is the same thing."""

    text: str
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    initials: str
    common: frozenset[str]


@lru_cache(maxsize=65536)
def read(text: str) -> Phrase:
    raw = _TOKEN.findall(spelled_out(plain(text)))
    tokens: list[str] = []
    common = set()
    initials = ""
    for number, token in enumerate(raw):
        if not token[0].isalnum():
            tokens.append(token)
            continue
        capital = token[0].isupper()
        after_name = number > 0 and raw[number - 1][:1].isalpha() and raw[number - 1][0].isupper()
        known = token.lower() in _ROMAN_SMALL and number > 0
        numeral = roman(token.upper()) if known or (token.isupper() and after_name) else None
        parts = [str(numeral)] if numeral else _folded(token)
        tokens += parts
        if capital:
            initials += parts[0][0]
        else:
            common |= set(parts)
    words = tuple(t for t in tokens if t[0].isalnum() and t not in SILENT)
    return Phrase(text, tuple(tokens), words, initials, frozenset(common))


def _folded(token: str) -> list[str]:
    """In lower case, without accents; a possessive s is a token of its own, because Gaudí's is not Gaudí."""
    low = normal_form("NFKD", token.casefold().translate(_LETTERS))
    low = "".join(c for c in low if not unicodedata.combining(c)).replace("’", "'")
    stem, quote, tail = low.partition("'")
    if quote and tail == "s" and not stem[-1:].isdigit():
        return [stem, "'s"] if stem not in ("it", "that", "what", "he", "she", "who", "there") else [stem, "is"]
    low = low.replace("'", "")
    number = ordinal(low)
    return [str(number) if number is not None else _SAME.get(low, low)]


def same_name(reference: Phrase, given: Phrase) -> bool:
    """The same words in any order (numbers in theirs), or the same letters, or the one an abbreviation of the other."""
    if not given.words or not reference.words:
        return False
    one, other = _singular(reference, reference), _singular(given, reference)
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


def _singular(phrase: Phrase, reference: Phrase) -> list[str]:
    """Plurals fall away where the reference writes the word small: a dog is dogs, but Wale is not Wales."""
    small = {_stem(w) for w in reference.common}
    return [_stem(w) if _stem(w) in small else w for w in phrase.words]


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and re.search(r"(?:s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _abbreviates(short: Phrase, long: Phrase) -> bool:
    """USA for United States of America, W.H.O. for World Health Organization, JFK for John F. Kennedy."""
    letters = re.sub(r"[\s.]", "", plain(short.text).strip().removeprefix("the "))
    if not (2 <= len(letters) <= 6 and letters.isalpha() and letters.isupper()):
        return False
    words = [w for w in long.words if w not in ("in", "for", "on")]
    return len(words) > 1 and letters.casefold() == "".join(w[0] for w in words)


def covers(reference: Phrase, given: Phrase, context: frozenset[str]) -> bool:
    """Does `given` hold every word of the reference that distinguishes, and nothing but words that say nothing more?

    `context`: words of the question and of the other accepted answers. A word of the question may be missing (Fuji for
    Mount Fuji), and so may titles, and middle initials, all or none.
    """
    wanted, found = _singular(reference, reference), _singular(given, reference)
    context = context | {_stem(w) for w in context}
    if HEDGES & set(found) or "'s" in given.tokens or _numbers(wanted) != [n for n in _numbers(found) if n in wanted]:
        return False
    missing = [w for w in wanted if w not in found]
    extra = [w for w in found if w not in wanted]
    for initial in [w for w in extra if len(w) == 1]:
        whole = next((w for w in missing if w.startswith(initial)), None)
        if whole is not None and whole != wanted[-1]:
            missing.remove(whole)
            extra.remove(initial)
    letters = [w for w in wanted if len(w) == 1 and w.isalpha()]
    if letters and all(w in missing for w in letters):
        missing = [w for w in missing if w not in letters]
    # King is a title before a name, a name behind one
    titles = {w for w in wanted[:1] if w in TITLES} | {w for w in wanted[-1:] if w in SUFFIXES}
    if any(w not in context | titles for w in missing) or not any(w in found and w not in context for w in wanted):
        return False
    return all(w in FILLERS | context | TITLES | SUFFIXES | SILENT for w in extra)


def _numbers(words: list[str]) -> list[str]:
    return [w for w in words if w[0].isdigit()]


def surname(reference: Phrase, given: Phrase) -> bool:
    """The last word of a name of two to four, titles aside: Einstein for Albert Einstein."""
    full = [w for w in reference.words if w not in SUFFIXES]
    own = [w for w in given.words if w not in TITLES | SUFFIXES]
    if not 2 <= len(full) <= 4 or full[-1].isdigit():
        return False
    particles = {"van", "von", "de", "der", "da", "di", "del", "la", "le", "bin", "al"}
    return own == full[-1:] or (len(own) > 1 and own == full[-len(own) :] and all(w in particles for w in own[:-1]))


def said_in(reference: Phrase, given: Phrase, context: frozenset[str], place: bool) -> bool:
    """Is the reference named within a sentence, as what the sentence says, and as the only thing it says?"""
    if HEDGES & set(given.tokens) or len(given.tokens) > 80:
        return False
    wanted = tuple(t for t in reference.tokens if t[0].isalnum() and t not in ("a", "an", "the"))
    tokens = [t for t in given.tokens if t not in ("a", "an", "the")]
    size = len(wanted)
    for at in range(len(tokens) - size + 1 if size else 0):
        if tuple(tokens[at : at + size]) != wanted:
            continue
        before, after = tokens[:at], tokens[at + size :]
        if _opens(before, context) and _closes(after, context) and not _listed(tokens, set(wanted), context, place):
            return True
    return False


def _opens(before: list[str], context: frozenset[str]) -> bool:
    if not before or before[-1] in _BREAK or before[-1] in FILLERS or before[-1] in TITLES:
        return True
    if before[-1] == "of":
        return len(before) > 1 and before[-2] in _PLACES
    return before[-1] in context


def _closes(after: list[str], context: frozenset[str]) -> bool:
    return not after or after[0] in _BREAK or after[0] in FILLERS or after[0] in context


def _listed(tokens: list[str], wanted: set[str], context: frozenset[str], place: bool) -> bool:
    """Is it one of several things put side by side? "Paris, France" is not, nor "Ardea alba (great egret)"; "red, blue
    and green" is."""
    parts: list[list[str]] = [[]]
    bracket = False
    for token in tokens:
        if token in ("(", ")"):
            bracket = token == "("
        if token in _BREAK or token == "and":
            parts.append([])
        elif not bracket:
            parts[-1].append(token)
    bare = [p for p in parts if p and not set(p) & (wanted | FILLERS | context) and len(p) <= 3]
    return len(bare) > (1 if place or "(" in tokens else 0)
