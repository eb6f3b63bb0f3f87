"""The language of a text, by its scripts and its function words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache

from deepmmsearch.language.function_words import function_words, languages
from deepmmsearch.language.scripts import RUNS
from deepmmsearch.language.stems import ENGLISH, script_of, scripts
from deepmmsearch.normal_forms import normal_form

_READ = 3_000
_RUN = re.compile(f"[{RUNS}]+")
_RUN_SHARE = 0.2
_ENOUGH, _SURE, _MUCH_MORE = 1.5, 5.0, 3.0
# letters that one language alone has, or nearly so
_LETTERS = {
    "tr": "ğıİ", "de": "ß", "es": "ñ¿¡", "pt": "ãõ", "pl": "łżźśćń", "cs": "řěů", "hu": "őű", "ro": "țșţ", "vi": "ơưạả",
    "uk": "їєґ", "bg": "ъ", "sr": "ђћџ", "ru": "ыэё", "fa": "پچژگ",
}  # fmt: skip
_LETTER = 0.3
# scripts of one language, looked for in this order: Japanese has Han too
_OF_RUNS = (
    ("ja", re.compile(r"[\u3041-\u30ff\uff66-\uff9f]")),
    ("ko", re.compile(r"[\u1100-\u11ff\uac00-\ud7a3]")),
    ("th", re.compile(r"[\u0e01-\u0e4e]")),
    ("lo", re.compile(r"[\u0e81-\u0ece]")),
    ("my", re.compile(r"[\u1000-\u109d]")),
    ("km", re.compile(r"[\u1780-\u17d3]")),
)


def language_of(text: str, declared: str | None = None, around: Mapping[str, int] | None = None) -> str:
    """An ISO 639-1 code. What the text declares (`en`, `pt-BR`) holds unless its words clearly say another one; a text
    that says nothing is taken for English, or for the first language of its script. `around`: how many texts that it
    stands among have each language; the rarer one is there, the more of a text's words must say it."""
    sample = normal_form("NFKC", text[:_READ])
    tokens = sample.lower().split()
    if not sample.isascii() and len(run := "".join(_RUN.findall(sample))) > _RUN_SHARE * sum(map(len, tokens)):
        return _language_of_runs(run)
    votes = _votes(tokens)
    if not sample.isascii():
        for language, letters in _LETTERS.items():
            votes[language] += _LETTER * sum(map(sample.count, letters))  # type: ignore[assignment]
    named = _known(declared)
    # the order of the languages decides between equals, English first
    best = max(languages(), key=lambda language: votes[language])
    if around and not named:
        usual = max(around, key=lambda language: around[language])
        ahead = votes[best] - votes[usual]
        if ahead < _doublings(around[usual], around.get(best, 0)) / 2 and _is_written(usual, tokens):
            return usual
    if votes[best] < _ENOUGH:
        return named or _of_script(tokens)
    if named and not (votes[best] >= _SURE and votes[best] > _MUCH_MORE * votes[named]):
        return named
    return best


def _votes(tokens: list[str]) -> Counter[str]:
    """One for each function word, divided among the languages that have it."""
    votes: Counter[str] = Counter()
    claims = _claims()
    for token, count in Counter(tokens).items():
        for language in claims.get(token, ()):
            votes[language] += count / len(claims[token])  # type: ignore[assignment]
    return votes


@cache
def _claims() -> dict[str, tuple[str, ...]]:
    """The languages that have each function word."""
    found: dict[str, tuple[str, ...]] = {}
    for language in languages():
        for word in function_words(language):
            found[word] = (*found.get(word, ()), language)
    return found


def _known(declared: str | None) -> str | None:
    code = re.split(r"[-_]", (declared or "").strip().lower())[0]
    code = {"nb": "no", "nn": "no", "iw": "he", "in": "id", "ji": "yi", "hr": "sr", "bs": "sr"}.get(code, code)
    return code if code in languages() else None


def _doublings(more: int, fewer: int) -> float:
    return math.log2((more + 1) / (fewer + 1))


def _is_written(language: str, tokens: list[str]) -> bool:
    """Are most words in a script of this language?"""
    return language in scripts().get(_commonest_script(tokens), ())


def _of_script(tokens: list[str]) -> str:
    return next(iter(scripts().get(_commonest_script(tokens), {ENGLISH: ""})))


def _commonest_script(tokens: list[str]) -> str:
    counted = Counter(script_of(token) for token in tokens)
    return counted.most_common(1)[0][0] if counted else ""


def _language_of_runs(run: str) -> str:
    found = ((language, len(pattern.findall(run))) for language, pattern in _OF_RUNS)
    language, count = max(found, key=lambda pair: pair[1])
    return language if 5 * count > len(run) else "zh"
