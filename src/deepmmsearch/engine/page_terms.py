"""A page as text search sees it: the terms of each passage and of the whole, by the language of its text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from deepmmsearch.engine.page_tags import page_tags
from deepmmsearch.language.detection import language_of
from deepmmsearch.language.function_words import function_words
from deepmmsearch.language.segmentation import is_run, words
from deepmmsearch.language.stems import Terms
from deepmmsearch.language.word_parts import WordParts, in_parts
from deepmmsearch.notation import without_halves

REPEATED, APART = "repeated", "apart"
"""Where the words of titles stand: before the text, or in a field of their own."""
AUTO, OFF = "auto", "off"
"""Whether words are found by their parts as well: by the language of their page, or never."""
# how often a title counts before the text: a name, and one of more words than NAME
SHORT_TITLE, LONG_TITLE, NAME = 8, 2, 4
SHOWN_BELOW = " > "
"""Between a page's title and the headings below it."""
LONGEST_HEADING = 120


class NewPassage(NamedTuple):
    """A passage to be added: the row of its vectors where it has some, its place in a file that has pages, and the
    headings that it stands below, the highest first."""

    text: str
    row: int | None = None
    place: str = ""
    path: Sequence[str] = ()


class AnalysedPassage(NamedTuple):
    """`words` and `small` (function words) are terms parted by blanks. `title`: of the page, with
    the headings above the passage. With the first passage of a page: `whole`, the terms of all of it, and `spelled`,
    how words are written that no earlier page had. `date`: YYYYMMDD, 0 for none. `name`: the terms of the title where
    titles are apart; `parts`: those of words, where they are found by them."""

    passage: NewPassage
    title: str
    text: str
    words: str
    small: str
    tags: Sequence[str]
    date: int
    whole: str = ""
    spelled: str = ""
    name: str = ""
    parts: str = ""


class PageAnalysis:
    """Of the pages of one writer: keeps the terms of the words that it has met. `languages`: how many passages in each
    the index has before; `in_parts`: words are found by their parts as well."""

    def __init__(
        self, stemmed: bool, languages: Mapping[str, int], titles_apart: bool = False, in_parts: bool = False
    ) -> None:
        self._stemmed, self._titles_apart, self._in_parts = stemmed, titles_apart, in_parts
        self._languages = Counter(languages)
        self._analysed: dict[str, Terms] = {}
        self._parts: dict[str, WordParts] = {}

    def passages(
        self,
        file: str,
        url: str,
        title: str,
        passages: Sequence[NewPassage],
        language: str | None = None,
        date: str | None = None,
        names: str = "",
    ) -> Iterator[AnalysedPassage]:
        """In order; `file`: the one on the disk, `language` and `date` as the page names them. `names`: words by which
        it is found as well, once, where it does not say them itself."""
        title, texts = without_halves(title), [without_halves(passage.text) for passage in passages]
        # titles apart, pages are read as they were before there were others to tell by
        spoken = language_of("\n".join(texts), language, None if self._titles_apart else self._languages)
        self._languages[spoken] += len(texts)
        analysed = self._analysed.get(spoken)
        if analysed is None:
            # of its own: what is new to this writer is what its pages tell of how words are written
            analysed = self._analysed[spoken] = Terms(spoken, self._stemmed, collecting=True)
        heading, small = analysed.line(title)
        name = ""
        if self._titles_apart:
            name, heading, names = heading, "", ""
        elif _length(title, spoken) <= NAME:
            # a function word is as good as any in a name
            heading = " ".join([f"{heading} {small}"] * SHORT_TITLE)
        else:
            heading = " ".join([heading] * LONG_TITLE)
        if not texts:
            return
        lines = [analysed.line(text) for text in texts]
        day, tags = _day(date), page_tags(file, url, spoken)
        said = {term for line, _ in lines for term in line.split()} | set(heading.split())
        beside = "".join(f" {term}" for term in dict.fromkeys(analysed.line(names)[0].split()) if term not in said)
        # titles apart, passages are ranked by what they say alone
        whole = "" if self._titles_apart else " ".join([heading, *(line for line, _ in lines)]) + beside
        spelled = " ".join(set(analysed.fresh))
        analysed.fresh.clear()
        cut = self._cut(spoken)
        for passage, text, (line, small) in zip(passages, texts, lines, strict=True):
            path = [] if self._titles_apart else _below(title, map(without_halves, passage.path))
            held = set(line.split())
            above = (term for term in analysed.line(" ".join(path))[0].split() if term not in held)
            said_here = " ".join(filter(None, [f"{heading} {line}", *dict.fromkeys(above)])) + beside
            shown = SHOWN_BELOW.join([title, *path])
            parts = cut.line(f"{shown} {text}") if cut is not None else ""
            yield AnalysedPassage(passage, shown, text, said_here, small, tags, day, whole, spelled, name, parts)
            beside = whole = spelled = ""

    def _cut(self, language: str) -> WordParts | None:
        if not (self._in_parts and in_parts(language)):
            return None
        if language not in self._parts:
            self._parts[language] = WordParts(language)
        return self._parts[language]


def _below(title: str, path: Iterable[str]) -> list[str]:
    """A path without what the title says already, and without what is too long to be read in one."""
    known = f" {title.casefold()} "
    return [heading for heading in path if len(heading) <= LONGEST_HEADING and f" {heading.casefold()} " not in known]


def _length(title: str, language: str) -> float:
    """In words that say something; two characters are about one where blanks do not tell."""
    small = function_words(language)
    said = [word.text for word in words(title) if word.text.lower() not in small]
    return sum(len(token) / 2 if is_run(token) else 1 for token in said)


def _day(date: str | None) -> int:
    """2024-05-17 as 20240517, and 0 for what is no date."""
    found = re.match(r"(\d{4})-(\d\d)-(\d\d)", date or "")
    return int("".join(found.groups())) if found else 0
