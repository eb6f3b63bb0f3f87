"""Parts of words, of four letters: by them a word is found in forms that its stemmer does not bring together, and in
compounds."""

from __future__ import annotations

from deepmmsearch.language.function_words import function_words
from deepmmsearch.language.segmentation import TOKEN, chunks, is_run
from deepmmsearch.language.stems import spelling

_SIZE = 4
_EDGE = "_"
_LONGEST = 60
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
    spelled = f"{_EDGE}{spelling(word)}{_EDGE}"
    return [spelled[i : i + _SIZE] for i in range(max(1, len(spelled) - _SIZE + 1))]
