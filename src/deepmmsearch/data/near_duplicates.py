"""The same question twice, and questions of the evaluation: found by the picture's perceptual hash and by the words.

Two pictures are the same when their 64-bit hashes (pHash) differ in at most a few bits: scaled, compressed again or
slightly brightened copies do, other pictures hardly ever. Words alone prove little ("What is this building?" stands in
a hundred rows), so questions without the same picture count as the same only when they share an accepted answer too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL.Image import Image

from deepmmsearch.errors import MissingExtra
from deepmmsearch.judge import normalize_answer

_WORD = re.compile(r"\w+")
_CELLS = 2**23  # distances at a time: 64 MB


def picture_hash(image: Image) -> str:
    """The 64-bit perceptual hash of a picture, as 16 hexadecimal digits."""
    try:
        import imagehash
    except ModuleNotFoundError as error:
        raise MissingExtra("Finding near-duplicates", "data") from error
    return str(imagehash.phash(image))


@dataclass(frozen=True)
class Fingerprint:
    """What is compared of a question: its words, its accepted answers (normalised), its picture's hash if any."""

    id: str
    words: frozenset[str]
    answers: frozenset[str]
    image_hash: str | None = None


def fingerprint(id: str, text: str, answers: Iterable[str], image_hash: str | None) -> Fingerprint:
    normal = frozenset(filter(None, map(normalize_answer, answers)))
    return Fingerprint(id, frozenset(_WORD.findall(text.lower())), normal, image_hash)


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard: the share of words in common."""
    return len(one & other) / len(one | other) if one or other else 1.0


@dataclass(frozen=True)
class Duplicate:
    """`id` is removed because of `of`; `kind`: "picture and question", "question and answer", "picture" or
    "too many of one picture"."""

    id: str
    of: str
    kind: str


@dataclass
class FingerprintedPictures:
    """Hashes, and which are near one: a block of them at a time against all."""

    hashes: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def add(self, hexadecimal: str | None, owner: int) -> None:
        if hexadecimal is not None:
            self.hashes.append(int(hexadecimal, 16))
            self.owners.append(owner)

    def near(self, others: FingerprintedPictures, bits: int) -> Iterator[tuple[int, int]]:
        """(own owner, other's owner) of all pairs that differ in at most `bits` bits."""
        if not self.hashes or not others.hashes:
            return
        theirs = np.array(others.hashes, dtype=np.uint64)
        block = max(1, _CELLS // len(theirs))
        for start in range(0, len(self.hashes), block):
            mine = np.array(self.hashes[start : start + block], dtype=np.uint64)
            distance = np.bitwise_count(mine[:, None] ^ theirs[None, :])
            for row, column in zip(*np.nonzero(distance <= bits), strict=True):
                yield self.owners[start + int(row)], others.owners[int(column)]


def within(rows: Sequence[Fingerprint], bits: int, words: float, per_picture: int | None = None) -> list[Duplicate]:
    """Rows that repeat an earlier one: the same picture and question, or the same question and answer where neither
    has a picture or one answers it; of rows with one picture those after the first `per_picture`. The first stays."""
    found: dict[int, Duplicate] = {}
    earlier: dict[int, list[int]] = defaultdict(list)
    for one, other in sorted(_picture_pairs(rows, bits)):
        if other < one:
            earlier[one].append(other)
    for one in range(len(rows)):
        same_picture = [other for other in earlier.get(one, []) if other not in found]
        for other in same_picture:
            if overlap(rows[one].words, rows[other].words) >= words:
                found[one] = Duplicate(rows[one].id, rows[other].id, "picture and question")
                break
        else:
            if per_picture is not None and len(same_picture) >= per_picture:
                found[one] = Duplicate(rows[one].id, rows[same_picture[0]].id, "too many of one picture")
    for one, other in _question_pairs(rows, rows, words):
        bare = rows[one].image_hash is None and rows[other].image_hash is None
        if bare and other < one and one not in found and other not in found:
            found[one] = Duplicate(rows[one].id, rows[other].id, "question and answer")
    return [found[number] for number in sorted(found)]


def against(rows: Sequence[Fingerprint], evaluation: Sequence[Fingerprint], bits: int, words: float) -> list[Duplicate]:
    """Rows that an evaluation would recognise: one of its pictures, or one of its questions with an accepted answer."""
    found: dict[int, Duplicate] = {}
    theirs = FingerprintedPictures()
    for number, row in enumerate(evaluation):
        theirs.add(row.image_hash, number)
    mine = FingerprintedPictures()
    for number, row in enumerate(rows):
        mine.add(row.image_hash, number)
    for one, other in mine.near(theirs, bits):
        found.setdefault(one, Duplicate(rows[one].id, evaluation[other].id, "picture"))
    for one, other in _question_pairs(rows, evaluation, words):
        found.setdefault(one, Duplicate(rows[one].id, evaluation[other].id, "question and answer"))
    return [found[number] for number in sorted(found)]


def groups(rows: Sequence[Fingerprint], bits: int) -> list[int]:
    """A number for each row; rows with the same picture, directly or through others, have the same one."""
    parent = list(range(len(rows)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for one, other in _picture_pairs(rows, bits):
        a, b = root(one), root(other)
        parent[max(a, b)] = min(a, b)
    return [root(number) for number in range(len(rows))]


def _picture_pairs(rows: Sequence[Fingerprint], bits: int) -> Iterator[tuple[int, int]]:
    pictures = FingerprintedPictures()
    for number, row in enumerate(rows):
        pictures.add(row.image_hash, number)
    return pictures.near(pictures, bits)


def _question_pairs(
    rows: Sequence[Fingerprint], others: Sequence[Fingerprint], words: float
) -> Iterator[tuple[int, int]]:
    """Pairs that share an accepted answer and the words; only questions with a common answer are compared."""
    by_answer: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(others):
        for answer in row.answers:
            by_answer[answer].append(number)
    for one, row in enumerate(rows):
        candidates = {other for answer in row.answers for other in by_answer.get(answer, [])}
        for other in sorted(candidates):
            if overlap(row.words, others[other].words) >= words:
                yield one, other
