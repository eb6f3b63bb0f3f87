"""The terms by which a word is found: its stem in the language of its text, its parts, and the whole of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

from deepmmsearch.errors import MissingExtra
from deepmmsearch.language.function_words import function_words
from deepmmsearch.language.segmentation import TOKEN, chunks, composed, grams, is_run
from deepmmsearch.normal_forms import normal_form

ENGLISH = "en"
_LONGEST = 60
_MOST_KNOWN = 200_000

# Snowball's names of the languages written in a script; the first one is what its words are taken for in other texts
_SCRIPTS: dict[str, dict[str, str]] = {
    "LATIN": {
        ENGLISH: "english", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "es": "spanish",
        "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hu": "hungarian",
        "id": "indonesian", "it": "italian", "lt": "lithuanian", "nl": "dutch", "no": "norwegian", "pl": "polish",
        "pt": "portuguese", "ro": "romanian", "sv": "swedish", "tr": "turkish", "vi": "",
    },
    "CYRILLIC": {"ru": "russian", "uk": "", "bg": "", "sr": "serbian"},
    "GREEK": {"el": "greek"},
    "ARABIC": {"ar": "arabic", "fa": "persian"},
    "DEVANAGARI": {"hi": "hindi", "ne": "nepali"},
    "ARMENIAN": {"hy": "armenian"},
    "TAMIL": {"ta": "tamil"},
    "HEBREW": {"he": "", "yi": "yiddish"},
}  # fmt: skip

_JOINTS = re.compile(r"[^\w\u0300-\u1cff]+|_")
_EDGES = "'\"()[]{}.,;:!?%$€£*=<>"
_NUMBER = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})*(?:\.[0-9]+)?")
_THOUSANDS = re.compile(r"\d{1,3}(?:[,'’]\d{3})+(?:\.\d+)?")
_VERSION = re.compile(r"[vV]?(\d+(?:\.\d+)+)")
_ENGLISH_ENDING = re.compile(r"(?:['’ʼ]s|(?<=s)['’ʼ])$", re.I)
_ELISION = re.compile(r"^(?:[cdjlmnst]|qu|jusqu|lorsqu|puisqu|quoiqu|[dns]ell|dall|sull|all|un)['’ʼ](?=\w)", re.I)
_ELIDING = frozenset(("fr", "it", "ca"))
_MARKED = re.compile(r"[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u0640]")
# letters that have no marks to be taken off
_PLAIN = str.maketrans({"ß": "ss", "ı": "i", "ø": "o", "đ": "d", "ł": "l", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})


class Terms(dict[str, str]):
    """The terms of each word of one language, parted by blanks; kept as they are met, for words repeat. Those of
    function words stand apart, in `small`; with `collecting`, `fresh` is how the words are written that were new."""

    def __init__(self, language: str, stemmed: bool, collecting: bool = False) -> None:
        super().__init__()
        self.language, self._stemmed, self._collecting = language, stemmed, collecting
        self.small: dict[str, str] = {}
        self.fresh: list[str] = []
        self._function_words = function_words(language)
        self._tones = language == "vi"
        self._latin = _stemmer("LATIN", language)

    def line(self, text: str) -> tuple[str, str]:
        """The terms of a text in its order, parted by blanks; and those of its function words, each once."""
        parts = chunks(text)
        return " ".join([self[part] for part in parts]), " ".join({self.small[p] for p in parts if p in self.small})

    def asked(self, word: str) -> list[str]:
        """The terms that a query for the word looks for; where tones tell words apart, a word that has them is one."""
        found = self[word].split()
        toned = {unmarked(term) for term in found if unmarked(term) != term} if self._tones else ()
        return [term for term in found if term not in toned]

    def __missing__(self, chunk: str) -> str:
        if len(self) >= _MOST_KNOWN:
            self.clear()
            self.small.clear()
        core = chunk.strip(_EDGES)
        if core.isascii() and (core.isdigit() or (core.isalpha() and core[1:].islower())) and len(core) <= _LONGEST:
            return self._plain(chunk, core)
        if _NUMBER.fullmatch(core):
            line = self[chunk] = core.replace(",", "")
            return line
        found, small = list[str](), list[str]()
        tokens = TOKEN.findall(chunk)
        for token in tokens:
            terms = grams(token) if is_run(token) else self._terms(composed(token))
            if token.lower() in self._function_words and len(chunk) <= _LONGEST:
                small.append(terms[0])
                terms = terms[1:]  # a name in capitals
            found += dict.fromkeys(terms)
        line = " ".join(found)
        if len(chunk) <= _LONGEST:  # the longer ones are not met again
            self[chunk] = line
            if self._collecting and len(tokens) == 1 and spelling(tokens[0]).isalpha() and not is_run(tokens[0]):
                self.fresh.append(spelling(tokens[0]))
        if small:
            self.small[chunk] = " ".join(small)
        return line

    def _plain(self, chunk: str, core: str) -> str:
        """What nearly all words are: of small letters, or a number."""
        word = core.lower()
        if self._collecting and not word.isdigit():
            self.fresh.append(word)
        line = self._forms(core)[0]
        if word in self._function_words:
            self.small[chunk], line = line, ""
        self[chunk] = line
        return line

    def _terms(self, word: str) -> list[str]:
        if len(word) > _LONGEST and len(set(word)) < 3:
            return []
        if word.isalpha() and (word.islower() or word[1:].islower()):
            return self._forms(word)
        if not TOKEN.fullmatch(word):  # what NFKC takes apart
            return [term for part in TOKEN.findall(word) for term in self._terms(part)]
        if word[-1] in "+#":
            return [word.lower()] if len(word) <= 4 else self._terms(word.rstrip("+#"))
        if _THOUSANDS.fullmatch(word):
            return [re.sub(r"[,'’]", "", word)]
        word = _ENGLISH_ENDING.sub("", word)
        if self.language in _ELIDING:
            word = _ELISION.sub("", word)
        return self._compound(word)

    def _compound(self, word: str) -> list[str]:
        joints = [part for part in _JOINTS.split(word) if part]
        if len(joints) > 1 and all(len(part) == 1 and part.isalpha() for part in joints):  # U.S.
            return self._acronym("".join(joints))
        if version := _VERSION.fullmatch(word):  # its dots kept, or 1.12 and 11.2 were one
            numbers = version[1].split(".")
            return [version[1], *numbers] if len(numbers) > 2 else [version[1]]
        parts = [piece for part in joints for piece in _pieces(part)]
        if len(parts) <= 1:
            return self._acronym(parts[0]) if parts else []
        whole = "".join(joints)
        found = self._forms(whole) if len(whole) <= _LONGEST else []
        return found + [term for part in parts for term in self._acronym(part)]

    def _acronym(self, word: str) -> list[str]:
        """A function word in capitals is a name (US, IT, WHO), and found as one too."""
        lower = word.lower()
        if len(word) > 1 and word.isupper() and lower in function_words(ENGLISH) | self._function_words:
            return [*self._forms(lower), word]
        return self._forms(word)

    def _forms(self, word: str) -> list[str]:
        if self.language == "tr":
            word = word.replace("I", "ı").replace("İ", "i")
        lower = word.lower()
        if not self._stemmed:
            stem = lower[:_LONGEST]
        elif lower.isascii():
            stem = self._latin(lower)[:_LONGEST]
        else:
            stem = _stemmer(script_of(lower), self.language)(lower)[:_LONGEST]
        folded = unmarked(stem)
        return [stem, folded] if self._tones and folded != stem else [folded]


@cache
def terms(language: str, stemmed: bool = True) -> Terms:
    """Of all texts in one language; UserError (MissingExtra) without the package that stems."""
    return Terms(language, stemmed)


def spelling(token: str) -> str:
    """How a word is written but for capitals and accents."""
    return unmarked(composed(token).lower())


def unmarked(word: str) -> str:
    """Without accents, vowel points, and the letters' own forms of them."""
    if word.isascii():
        return word
    taken_apart = normal_form("NFKD", word.translate(_PLAIN))
    return normal_form("NFC", _MARKED.sub("", taken_apart))


def scripts() -> dict[str, dict[str, str]]:
    """Scripts by the names that Unicode gives their letters, and the languages that are written in them."""
    return _SCRIPTS


def _pieces(part: str) -> list[str]:
    """Letters apart from digits, and at the capitals within a word; iPhone is one word."""
    cuts = [0, *(i for i in range(1, len(part)) if _is_seam(part, i)), len(part)]
    found = [part[start:end] for start, end in pairwise(cuts)]
    return [part] if len(found) == 2 and len(found[0]) == 1 and part.isalpha() else found


def _is_seam(part: str, at: int) -> bool:
    before, after = part[at - 1], part[at]
    if before.isdecimal() != after.isdecimal():
        return after.isalnum()
    if before.islower() and after.isupper():
        return True
    return before.isupper() and after.isupper() and part[at + 1 : at + 2].islower()


def script_of(word: str) -> str:
    if word.isascii():
        return "LATIN"
    first = next((letter for letter in word if letter.isalpha()), "")
    return unicodedata.name(first, "").split(" ", 1)[0] if first else ""


@cache
def _stemmer(script: str, language: str) -> Callable[[str], str]:
    languages = _SCRIPTS.get(script, {})
    name = languages.get(language, next(iter(languages.values()), ""))
    if not name:
        return str
    try:
        import Stemmer
    except ImportError:
        raise MissingExtra("The local search engine", "engine") from None
    stemmer: Any = Stemmer.Stemmer(name)
    stem: Callable[[str], str] = stemmer.stemWord
    return stem
