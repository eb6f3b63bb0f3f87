"""A page as text search sees it: the terms of each passage and of the whole, by the language of its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from deepmmsearch.engine.page_tags import page_tags
from deepmmsearch.language.detection import language_of
from deepmmsearch.language.function_words import function_words
from deepmmsearch.language.segmentation import is_run, words
from deepmmsearch.language.stems import Terms
from deepmmsearch.notation import without_halves

# how often a title counts before the text: a name, and one of more words than NAME
SHORT_TITLE, LONG_TITLE, NAME = 8, 2, 4


class NewPassage(NamedTuple):
    """A passage to be added: the row of its vectors where it has some, and its place in a file that has pages."""

    text: str
    row: int | None = None
    place: str = ""


class AnalysedPassage(NamedTuple):
    """`words` and `small` (function words) are terms parted by blanks. With the first passage of a page: `whole`, the
    terms of all of it, and `spelled`, how words are written that no earlier page had. `date`: YYYYMMDD, 0 for none."""

    passage: NewPassage
    title: str
    text: str
    words: str
    small: str
    tags: Sequence[str]
    date: int
    whole: str = ""
    spelled: str = ""


class PageAnalysis:
    """Of the pages of one writer: keeps the terms of the words that it has met."""

    def __init__(self, stemmed: bool) -> None:
        self._stemmed = stemmed
        self._analysed: dict[str, Terms] = {}

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
        spoken = language_of("\n".join(texts), language)
        analysed = self._analysed.get(spoken)
        if analysed is None:
            # of its own: what is new to this writer is what its pages tell of how words are written
            analysed = self._analysed[spoken] = Terms(spoken, self._stemmed, collecting=True)
        heading, small = analysed.line(title)
        short = _length(title, spoken) <= NAME
        # a function word is as good as any in a name
        heading = " ".join([f"{heading} {small}"] * SHORT_TITLE if short else [heading] * LONG_TITLE)
        if not texts:
            return
        lines = [analysed.line(text) for text in texts]
        day, tags = _day(date), page_tags(file, url, spoken)
        said = {term for line, _ in lines for term in line.split()} | set(heading.split())
        beside = "".join(f" {term}" for term in dict.fromkeys(analysed.line(names)[0].split()) if term not in said)
        whole = " ".join([heading, *(line for line, _ in lines)]) + beside
        spelled = " ".join(set(analysed.fresh))
        analysed.fresh.clear()
        for passage, text, (line, small) in zip(passages, texts, lines, strict=True):
            yield AnalysedPassage(passage, title, text, f"{heading} {line}{beside}", small, tags, day, whole, spelled)
            beside = whole = spelled = ""


def _length(title: str, language: str) -> float:
    """In words that say something; two characters are about one where blanks do not tell."""
    small = function_words(language)
    said = [word.text for word in words(title) if word.text.lower() not in small]
    return sum(len(token) / 2 if is_run(token) else 1 for token in said)


def _day(date: str | None) -> int:
    """2024-05-17 as 20240517, and 0 for what is no date."""
    found = re.match(r"(\d{4})-(\d\d)-(\d\d)", date or "")
    return int("".join(found.groups())) if found else 0
