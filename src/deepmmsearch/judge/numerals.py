"""Numbers in words, Roman numerals and ordinals, written as digits."""

from __future__ import annotations

import math
import re
import unicodedata
from functools import lru_cache

from deepmmsearch.normal_forms import normal_form

_SMALL = {
    name: value
    for value, name in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
} | {"nil": 0}
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
_ORDINALS |= {
    name: 10 * value
    for value, name in enumerate(
        "thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth hundredth".split(), 3
    )
}
_TENS_AND = re.compile(rf"\b({'|'.join(_TENS)})[ -]({'|'.join(list(_ORDINALS)[:9])})\b(?!\s+of\s+an?\b)", re.IGNORECASE)
# Zero to twelve in other languages, without words that English has, too.
_ABROAD = {
    name: value
    for names in (
        "- eins zwei drei vier fünf sechs sieben acht neun zehn - zwölf",
        "zéro - deux trois quatre cinq - - huit neuf dix onze douze",
        "cero - - - cuatro cinco seis siete ocho nueve diez - doce",
        "zero - dois três quatro - - sete oito nove dez onze doze",
        "zero - - - quattro cinque - - - nove dieci undici dodici",
        "- - twee drie vier vijf zes zeven acht negen tien - twaalf",
        "ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать",
    )
    for value, name in enumerate(names.split())
    if name != "-"
}
_WORD_ABROAD = re.compile(rf"(?<!\w)(?:{'|'.join(_ABROAD)})(?!\w)", re.IGNORECASE)
_HAN = {c: n for n, c in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2, "十": 10, "百": 100, "千": 1000}
_HAN_SCALES = {"万": 10**4, "亿": 10**8}
# Han numerals stand for a number where something is counted behind them, or where they are all there is.
_HAN_NUMBER = re.compile(
    rf"(?:(?<=[^\u4e00-\u9fff\d])|(?<=[有是为約约共了年月])|^)[{''.join(_HAN)}万亿]{{1,9}}"
    r"(?=[个個位名年月日次种岁歲米人座层層只条張张件块元点枚匹羽本]|\W|$)"
)
_ROMAN = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_WORD = re.compile(r"[A-Za-z]+")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−﹣－", "-"))
_VULGAR = re.compile(r"(\d)([¼½¾⅐-⅞])")
_RAISED = re.compile(r"(?<=\d)[⁻⁰¹²³⁴-⁹]+")


@lru_cache(maxsize=2048)
def plain(text: str) -> str:
    """One way to write each character: compatible forms folded, every dash a hyphen, fractions as 1/2, powers with ^,
    digits of other scripts as ours, and none that show nothing."""
    spaced = _RAISED.sub(lambda m: f"^{m.group()}", _VULGAR.sub(r"\1 \2", text).translate(_DASHES))
    # NFKC turns the superscript of km² into km2, which is what the units' table knows too.
    folded = normal_form("NFKC", spaced).replace("\u2044", "/").translate(_DASHES)
    return folded if folded.isascii() else "".join(map(_plain_character, folded))


def _plain_character(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    return "" if unicodedata.category(character) in ("Cf", "Cs") else character


def counted_abroad(text: str) -> str:
    """The text with small numbers of other languages, and Han numerals, as digits."""
    text = _WORD_ABROAD.sub(lambda m: str(_ABROAD[m.group().lower()]), text)
    return _HAN_NUMBER.sub(lambda m: str(_han(m.group())), text)


def _han(text: str) -> int:
    total = current = digit = 0
    for character in text:
        if character in _HAN_SCALES:
            total, current, digit = (total + (current + digit or 1)) * _HAN_SCALES[character], 0, 0
        elif (value := _HAN[character]) >= 10:
            current, digit = current + (digit or 1) * value, 0
        else:
            digit = digit * 10 + value  # 一九六八
    return total + current + digit


def spelled_out(text: str) -> str:
    """The text with every number in words as digits: "twenty-one arches" becomes "21 arches"."""
    text = _TENS_AND.sub(lambda m: f"{_TENS[m[1].lower()] + _ORDINALS[m[2].lower()]}th", text)
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
