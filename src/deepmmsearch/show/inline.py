"""Where in an answer its sources belong: behind the sentence that each of them says.

An answer that stands in a hit word for word has its sources behind it (`citations`). Of a longer one each sentence is
looked for: a hit says it where one or two of its sentences hold every number and name of it, nearly all of its other
words, and no negation that it has not. That is strict: a sentence without a source may be true all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from deepmmsearch.language.segmentation import is_run, plain_words
from deepmmsearch.show.citations import Source, all_hits, find_sources, sentences_of, shortened
from deepmmsearch.types import Hit, Trajectory

SHARE, SHARE_WITHOUT_NAMES = 0.75, 0.9
"""Of the words that are neither names nor numbers, how many must be there; where a script has no capitals, and so tells
no names, of all words, and where it has no blanks, of pairs of characters."""
FEWEST_WORDS = 3
MOST_A_SENTENCE = 3
MOST_SENTENCES = 100
MOST_CHARACTERS = 20_000
"""Of a hit."""
# numbers of the hits as the model read them, which mean nothing to a reader
_OWN_MARKS = re.compile(r"[ \t]?\[\d{1,2}(?:[,;] ?\d{1,2})*\]")
_NEGATIONS = frozenset(
    "not no never none neither nor without cannot isn wasn didn nicht nie niemals ohne kein keine keinen".split()
)
_FILLERS = frozenset(
    "that this with from which were have been also there their what when where into than about would could these "
    "those them they then some such will your eine einer einem einen eines auch sich wurde wird sind oder über nach "
    "dass dieser diese dieses aber noch sein seine ihre the it its a an in on at he she as and but of to is for by if "
    "der die das es er sie ein im am und".split()
)


@dataclass(frozen=True)
class Mark:
    """`[number]` of a source, which belongs at `place` of the text."""

    place: int
    number: int


@dataclass(frozen=True)
class MarkedText:
    """A text without marks, and its marks in order; their numbers count `sources` from 1."""

    text: str
    sources: tuple[Source, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class _Words:
    """Of a sentence: itself in normal form, names and numbers, the others, and whether it denies something."""

    whole: str
    names: frozenset[str]
    others: frozenset[str]
    denies: bool
    share: float

    def then(self, other: _Words) -> _Words:
        """Of both, one after the other."""
        names, others = self.names | other.names, self.others | other.others
        return _Words(
            self.whole + other.whole, names, others, self.denies or other.denies, min(self.share, other.share)
        )

    @property
    def all(self) -> frozenset[str]:
        return self.names | self.others


def mark(trajectory: Trajectory, text: str) -> MarkedText:
    """`text`: the answer of the trajectory, or its beginning. Numbers that the model itself put into it are left out,
    where it was given hits by number."""
    hits = [(turn, rank, hit, read) for turn, rank, hit, read in all_hits(trajectory)]
    text = _OWN_MARKS.sub("", text) if hits else text
    whole = tuple(find_sources(trajectory))
    if whole:
        return MarkedText(text, whole, tuple(Mark(len(text), number) for number in range(1, len(whole) + 1)))
    passages = [
        (Source(turn, rank, h.title, h.url, "", h.matched), tuple(_passages(h, r))) for turn, rank, h, r in hits
    ]
    found: dict[str, Source] = {}
    marks: list[Mark] = []
    for place, wanted in _sentences(text):
        numbers: list[int] = []
        for source, several in passages:
            said = next((passage for passage, words in several if _says(words, wanted)), None)
            if said is None or len(numbers) == MOST_A_SENTENCE:
                continue
            name = source.url or source.title
            found.setdefault(name, Source(**(vars(source) | {"sentence": shortened(said)})))
            number = [*found].index(name) + 1
            if number not in numbers:
                numbers.append(number)
        marks += [Mark(place, number) for number in sorted(numbers)]
    return MarkedText(text, tuple(found.values()), tuple(marks))


def _sentences(text: str) -> Iterator[tuple[int, _Words]]:
    """Where each ends, with its words."""
    place = 0
    for sentence in sentences_of(text)[:MOST_SENTENCES]:
        place = text.index(sentence, place) + len(sentence)
        words = _words(sentence)
        if words.all:
            yield place, words


def _passages(hit: Hit, read: list[str]) -> Iterator[tuple[str, _Words]]:
    """One sentence of it, or two in a row, each with the title."""
    title, told = _words(hit.title), [(s, _words(s)) for s in sentences_of(hit.snippet[:MOST_CHARACTERS])]
    pairs = ((f"{one} {two}", ones.then(twos)) for (one, ones), (two, twos) in pairwise(told))
    for passage, words in (*((s, _words(s)) for s in read), *told, *pairs):
        yield passage, title.then(words)


def _says(there: _Words, wanted: _Words) -> bool:
    if len(wanted.all) < FEWEST_WORDS:
        return wanted.whole in there.whole
    if there.denies != wanted.denies or not wanted.names <= there.all:
        return False
    return len(wanted.others & there.all) >= wanted.share * len(wanted.others)


def _words(text: str) -> _Words:
    names: set[str] = set()
    others: set[str] = set()
    denies, share = False, SHARE
    told = plain_words(text)
    for written in told:
        word = written.casefold()
        denies = denies or word in _NEGATIONS
        if is_run(word):
            others.update(word[at : at + 2] for at in range(max(1, len(word) - 1)))
            share = SHARE_WITHOUT_NAMES
        elif word in _FILLERS or word in _NEGATIONS:
            continue
        elif written.upper() == written.lower() and not any(map(str.isdigit, written)):
            others.add(word)
            share = SHARE_WITHOUT_NAMES
        elif not written.islower():
            names.add(word)
        elif len(word) > 3:
            others.add(word)
    whole = " ".join(" ".join(word) if is_run(word) else word for word in told)
    return _Words(f" {whole} ".casefold(), frozenset(names), frozenset(others), denies, share)
