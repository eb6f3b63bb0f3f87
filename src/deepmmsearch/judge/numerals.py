"""Numbers in words, Roman numerals and ordinals, written as digits."""

from __future__ import annotations

import math
import re

from deepmmsearch.normal_forms import normal_form

_SMALL = {
    name: value
    for value, name in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS = {
    name: 10 * value
    for value, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_ORDINALS = {
    name: value
    for value, name in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        start=1,
    )
}
_ROMAN = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_WORD = re.compile(r"[A-Za-z]+")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−﹣－", "-"))
_VULGAR = re.compile(r"(\d)([¼½¾⅐-⅞])")


def plain(text: str) -> str:
    """One way to write each character: compatible forms folded, every dash a hyphen, fractions as 1/2."""
    spaced = _VULGAR.sub(r"\1 \2", text).translate(_DASHES)
    # NFKC turns the superscript of km² into km2, which is what the units' table knows too.
    return normal_form("NFKC", spaced).replace("\u2044", "/").translate(_DASHES)


def spelled_out(text: str) -> str:
    """The text with every number in words as digits: "twenty-one arches" becomes "21 arches"."""
    words = list(_WORD.finditer(text))
    pieces, at, index = [], 0, 0
    while index < len(words):
        value, used = _read(text, words, index)
        if used:
            pieces += [text[at : words[index].start()], _written(value)]
            at = words[index + used - 1].end()
        index += used or 1
    return "".join((*pieces, text[at:]))


def _written(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)


def _read(text: str, words: list[re.Match[str]], start: int) -> tuple[float, int]:
    """The number that begins at word `start`, and of how many words it is made (0: there is none)."""
    total = current = 0.0
    used, last = 0, 0.0
    for index in range(start, len(words)):
        word = words[index].group().lower()
        if index > start and not _joined(text, words[index - 1], words[index]):
            break
        following = words[index + 1].group().lower() if index + 1 < len(words) else ""
        if word in _SMALL or word in _TENS:
            value = _SMALL[word] if word in _SMALL else _TENS[word]
            # "one two" is two numbers, "twenty one" and "hundred one" are one.
            if used and not (last >= 100 or (20 <= last < 100 and 0 < value < 10)):
                break
            current, last, used = current + value, value, index - start + 1
        elif word in _SCALES and used:
            if not current:  # "a thousand million"
                current, total = total, 0.0
            current *= _SCALES[word]
            if _SCALES[word] >= 1000:
                total, current = total + current, 0.0
            last, used = _SCALES[word], index - start + 1
        elif word == "a" and not used and following in _SCALES:
            current, last, used = 1.0, 1.0, 1
        elif word == "half" and (index == start or (words[index - 1].group().lower() == "a" and used)):
            current, used = current + 0.5, index - start + 1
        elif word == "half" and used and current == 1:
            current, used = 0.5, index - start + 1
        elif not (used and (word == "and" or (word == "a" and (following == "half" or current == 0.5)))):
            break
    return total + current, used


def _joined(text: str, left: re.Match[str], right: re.Match[str]) -> bool:
    return text[left.end() : right.start()].strip(" ") in ("", "-")


def ordinal(word: str) -> int | None:
    """The number of "fourteenth", "14th" or "14"; None for another word. `word` in lower case."""
    if word in _ORDINALS:
        return _ORDINALS[word]
    found = re.fullmatch(r"(\d{1,4})(?:st|nd|rd|th)?", word)
    return int(found[1]) if found else None


def roman(word: str) -> int | None:
    """The value of a Roman numeral in capitals."""
    if not word or not _ROMAN.fullmatch(word):
        return None
    values = [_ROMAN_VALUES[letter] for letter in word]
    return sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0], strict=True))
