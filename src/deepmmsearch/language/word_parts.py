"""Parts of words, of four letters: by them a word is found in forms that its stemmer does not bring together, and in
compounds."""

from __future__ import annotations

import math

from deepmmsearch.language.function_words import function_words
from deepmmsearch.language.segmentation import TOKEN, chunks, is_run
from deepmmsearch.language.stems import spelling

_SIZE = 4
_EDGE = "_"
_LONGEST = 60
_SHORT = 4
_MANY, _MOST = 8, 0.8
_MOST_KNOWN = 200_000
_WITHOUT = frozenset(("en", "vi"))
"""Words of these hardly change their form: parts find less there than they cost."""


def in_parts(language: str) -> bool:
    """Are the words of a language worth finding by their parts?"""
    return language not in _WITHOUT


class WordParts(dict[str, str]):
    """The parts of what stands between blanks, parted by blanks; kept as they are met. Function words have none, and
    runs without word ends are found by pairs of characters already."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self._function_words = function_words(language)

    def line(self, text: str) -> str:
        """The parts of a text in its order, parted by blanks."""
        return " ".join(filter(None, [self[chunk] for chunk in chunks(text)]))

    def __missing__(self, chunk: str) -> str:
        tokens = [t for t in TOKEN.findall(chunk) if not is_run(t) and t.lower() not in self._function_words]
        line = " ".join(part for token in tokens for part in parts(token))
        if len(chunk) <= _LONGEST:
            if len(self) >= _MOST_KNOWN:
                self.clear()
            self[chunk] = line
        return line


def parts(word: str) -> list[str]:
    """`_hau haus aus_` of "Haus": a part at the beginning or end of a word is another one than within."""
    return _cut(f"{_EDGE}{spelling(word)}{_EDGE}")


def _cut(spelled: str) -> list[str]:
    return [spelled[i : i + _SIZE] for i in range(max(1, len(spelled) - _SIZE + 1))]


class Kinship:
    """Which other words a word is found in by parts alone: endings that many words share (Zeitung, Leitung) are not
    enough. `stem`: of the word.

    Those that hold it, or its stem; a word of four letters must stand at their beginning. And those that begin alike
    and have nearly all parts of a long one (Bundesgericht, Bundesverfassungsgericht)."""

    def __init__(self, word: str, stem: str) -> None:
        spelled = spelling(word)
        longer = len(stem) > _SHORT and spelled.startswith(stem)
        self._core = stem if longer else f"{_EDGE}{spelled}" if len(spelled) == _SHORT else spelled
        self._short = len(spelled) < _SHORT or not spelled.isalpha()
        self._parts = parts(word)
        self._least = math.ceil(_MOST * len(self._parts))

    @property
    def groups(self) -> list[tuple[list[str], int]]:
        """Groups of parts, and how many of each a text with such a word has at least."""
        groups = [] if self._short else [(_cut(self._core), len(set(_cut(self._core))))]
        return groups + ([(self._parts, self._least)] if len(self._parts) >= _MANY else [])

    def is_in(self, spelled: str) -> bool:
        """Is it in one of the words that `spellings` gives?"""
        if not self._short and self._core in spelled:
            return True
        if len(self._parts) < _MANY or self._parts[0] not in spelled:
            return False
        words = (f"{_EDGE}{word}{_EDGE}" for word in spelled.split(_EDGE))
        alike = (word for word in words if word.startswith(self._parts[0]))
        return any(sum(part in word for part in self._parts) >= self._least for word in alike)


def spellings(*texts: str) -> str:
    """The words of texts as they are spelled, with edges."""
    said = (token for text in texts for token in TOKEN.findall(spelling(text)))
    return f"{_EDGE}{_EDGE.join(said)}{_EDGE}"
