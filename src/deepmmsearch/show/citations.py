"""What an answer rests on: the hits that say it, with the sentence that does.

Kept apart from how they are shown, because every surface shows them. Nothing is inferred: a source is a hit in which
the answer stands word for word, or, where there is none, a hit that the policy read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from deepmmsearch.language.segmentation import is_run, plain_words
from deepmmsearch.language.sentence_ends import split_paragraph
from deepmmsearch.types import Hit, Observation, Trajectory

_NUMBERED = re.compile(r"^\[(\d{1,6})\] (.*)$", re.MULTILINE)
EXCERPT = 200


@dataclass(frozen=True)
class Source:
    """A hit; `turn` is where it was found, both counted from 1. `sentence`: what it says, as the policy read it or from
    the hit's own text. `matched` as in `Hit`: of an image search, does it show what was searched for."""

    turn: int
    rank: int
    title: str
    url: str
    sentence: str = ""
    matched: bool | None = None


def find_sources(trajectory: Trajectory) -> list[Source]:
    """The hits whose title, text or summary contains the answer (as whole words, without case and punctuation), in the
    order in which they were found, each address once."""
    answer = _words(trajectory.answer or "")
    if not answer.strip():
        return []
    found: dict[str, Source] = {}
    for turn, rank, hit, read in all_hits(trajectory):
        said = next((s for s in (*read, hit.title, *_around(hit.snippet, answer)) if _holds(s, answer)), None)
        if said is not None:
            found.setdefault(hit.url or hit.title, Source(turn, rank, hit.title, hit.url, shortened(said), hit.matched))
    return list(found.values())


def read_sources(trajectory: Trajectory) -> list[Source]:
    """The hits that the policy read something of, each address once."""
    found: dict[str, Source] = {}
    for turn, rank, hit, read in all_hits(trajectory):
        if read:
            source = Source(turn, rank, hit.title, hit.url, shortened(read[0]), hit.matched)
            found.setdefault(hit.url or hit.title, source)
    return list(found.values())


def all_hits(trajectory: Trajectory) -> Iterator[tuple[int, int, Hit, list[str]]]:
    """Turn, rank, hit, and what the policy read of it."""
    for number, turn in enumerate(trajectory.turns, 1):
        if turn.observation is not None:
            read = _read(turn.observation)
            for rank, hit in enumerate(turn.observation.hits, 1):
                yield number, rank, hit, read.get(rank, [])


def _read(seen: Observation) -> dict[int, list[str]]:
    read: dict[int, list[str]] = {}
    for sentence in seen.sentences:
        for rank in sentence.hits:
            read.setdefault(rank, []).append(sentence.text)
    # trajectories stored before sentences were kept with their hits
    if not seen.sentences:
        for rank, line in _NUMBERED.findall(seen.text):
            read.setdefault(int(rank), []).append(line)
    return read


def _around(text: str, answer: str) -> list[str]:
    """The first sentence of a hit's text that holds the answer, else the whole text, which may hold it across two."""
    return [next((s for s in sentences_of(text) if _holds(s, answer)), text)]


def sentences_of(text: str) -> list[str]:
    """Cut at the ends of sentences and lines."""
    return [sentence for line in text.split("\n") for sentence in split_paragraph(line)]


def shortened(text: str) -> str:
    """One line of at most EXCERPT characters."""
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1].rsplit(" ", 1)[0] + "…"


def _holds(text: str, answer: str) -> bool:
    """A single character is seldom a word where no blanks tell: it must stand alone."""
    alone = len(answer) == 3 and is_run(answer[1])
    return answer in (f" {' '.join(plain_words(text))} " if alone else _words(text))


def _words(text: str) -> str:
    """Between blanks; of a run without word ends each character."""
    words = (" ".join(word) if is_run(word) else word.casefold() for word in plain_words(text))
    return f" {' '.join(words)} "
