"""Velic, the second language of the invented worlds: English sentences in words of its own, in the Georgian script.

Every word of the atlas has its Velic one, of two open syllables by a rule; names, which are closed syllables, are
transliterated letter by letter. Word order is English's, and there are no capitals. So each sentence of a world has
exactly one Velic form, from which it can be had again: what is measured is the other language and nothing else.
"""

from __future__ import annotations

import hashlib
import re

from deepmmsearch.atlas.world import Tongue

_LATIN, _SCRIPT = "abcdefghijklmnopqrstuvwxyz", "აბცდეფგჰიჯკლმნოპქრსტუვწხყზ"
_TO_SCRIPT, _TO_LATIN = str.maketrans(_LATIN, _SCRIPT), str.maketrans(_SCRIPT, _LATIN)
_WORD = re.compile(r"[A-Za-z]+")
_VELIC = re.compile(f"[{_SCRIPT}]+")
_SENTENCE = re.compile(rf"(?:\A|(?<=\n)|(?<=[.?!:\]] ))([{_SCRIPT}])")

WORDS = """
a alike almanac an anchor and annals answer arch architect are at balloon band bar begin bells belong birthplace black
blue border bottom bridge building built bus canton capital carries castle chatter colour contact count countries
country covers cross crown currency diagonal diamond disc does due economy eight first fish five flag flags foot for
former found founder four gate green hammer harbour has have height here house how i in information invented is key
kite know lack ladder laid landmark language leaf left lighthouse like look looks lost m main many mayor metres middle
moon most mountain museum name no of old on one orange paid patron pay people person portrait purple quarters red
relevant report republic right river ruler saltire say second see seven ship shown shows sign sites small some spouse
star stone stripes sun temple tent terms that the there thing this thread three to top tower town trade tree two
unable under use volume want was wedge what wheel which white who whose with world year yellow
""".split()
"""All words of pages, questions and answers that are no names, in lower case."""


def _word(english: str) -> str:
    """Consonant, vowel, consonant, vowel: no name ends in an open syllable and has four letters."""
    number = int(hashlib.md5(f"velic 23 {english}".encode(), usedforsecurity=False).hexdigest(), 16)
    letters = ""
    for choices in ("bdfgklmnprstvzh", "aeiou", "bdfgklmnprstvzc", "aeiou"):
        number, place = divmod(number, len(choices))
        letters += choices[place]
    return letters.translate(_TO_SCRIPT)


LEXICON = {word: _word(word) for word in WORDS}
_ENGLISH = {velic: word for word, velic in LEXICON.items()}


def write(text: str) -> str:
    """An English text of the atlas in Velic. Words that it does not know are names."""
    return _WORD.sub(lambda m: LEXICON.get(m[0].lower()) or m[0].lower().translate(_TO_SCRIPT), text)


def read(text: str) -> str:
    """The inverse of `write`: what is Velic in a text as English, all else as it is. Names and sentences begin with a
    capital."""
    began = {match.start(1) for match in _SENTENCE.finditer(text)}

    def english(match: re.Match[str]) -> str:
        word = _ENGLISH.get(match[0])
        if word is None:
            return match[0].translate(_TO_LATIN).capitalize()
        return word.capitalize() if match.start() in began or word == "i" else word

    return _VELIC.sub(english, text)


def tongue_of(text: str) -> Tongue:
    """The language in which a text of the atlas is written."""
    return "velic" if _VELIC.search(text) else "english"


def say(tongue: Tongue, text: str) -> str:
    """An English text in that language."""
    return write(text) if tongue == "velic" else text
