"""Letters of choices: when the accepted answer is one, and what stands for it in the question."""

from __future__ import annotations

import re

LETTERS = "ABCDEFGHIJ"
_OPTION = re.compile(r"(?<![^\s(])\(?([A-J])[.):]\)?\s")
_LETTER = re.compile(
    r"(?:(?:option|choice|answer|letter|the letter is|auswahl|选项|選項)\s?:?\s?)?"
    r"\(?([A-J])\)?(?:[.:)]\s?(.*)|\s(.+)|)",
    re.IGNORECASE | re.DOTALL,
)


def is_letter(answer: str) -> bool:
    return answer.strip("(). ").upper() in set(LETTERS)


def options(question: str) -> dict[str, str]:
    """The options that a question spells out, by letter; empty where there are fewer than two."""
    marks = list(_OPTION.finditer(question))
    ends = [*(mark.start() for mark in marks[1:]), len(question)]
    found = {mark[1]: question[mark.end() : end].strip(" \n,;") for mark, end in zip(marks, ends, strict=False)}
    return found if len(found) > 1 and "A" in found else {}


def chosen(said: str, question: str) -> str | None:
    """The letter that is said, alone or with its option, or by the option's text; None where there is none."""
    offered = {letter: _plain(text) for letter, text in options(question).items()}
    found = _LETTER.fullmatch(said.strip())
    if found:
        letter, text = found[1].upper(), _plain(found[2] or found[3] or "")
        known = offered.get(letter)
        if not text or text == known or (known is None and found[2]):
            return letter
    by_text = [letter for letter, text in offered.items() if text == _plain(said)]
    return by_text[0] if len(by_text) == 1 else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
