"""Multiple choice: which option an answer names, by its letter, by its text or by both.

Like the authors of MMBench we take a letter that stands alone near the end, then an option whose text stands in the
answer. Unlike them we read what "the answer is" says first, take "A" before a word for an article, and call a letter
with another option's text wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from deepmmsearch.judge.normalisation import is_correct, normalize_answer
from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

_TYPESET = re.compile(r"\\(?:boxed|text|textbf|mathrm)\s*\{([^{}]*)\}|\$([^$\s]+)\$|[*`_]+|\\[()\[\]]")
_LEAD = re.compile(
    r"\b(?:answer|option|choice)\b"
    r"(?:\s+(?:is|would\s+be|should\s+be)\b(?:\s+(?:option|choice)\b)?\s*:?|\s*:|(?=\W{1,3}[A-Z]\b(?!')))\s*",
    re.IGNORECASE,
)
_ALONE = re.compile(r"[\s\"'“”‘’(\[]*([A-Za-z])[\s\"'“”‘’)\].,:;!]*")
_WITH_TEXT = re.compile(r"[\s\"'“”‘’]*(?:\(([A-Za-z])\)|([A-Za-z])\s*[.:)\]])\s*(.+)", re.DOTALL)
_SPACED = re.compile(r"\s*([A-Z])\s+(.+)", re.DOTALL)
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_ARTICLE = re.compile(
    r"(?:^|(?<=\s))A(?=\s+(?!(?:is|was|are|or|and|nor|but|as|because|since|seems|looks|would)\b)[a-z])"
)
_FIRST = re.compile(r"\W*([A-Z])\b(?!['’])(?!\W+(?:or|and)\W+[A-Z]\b)")
_DENIED = re.compile(r"\bnot\s+(?:option\s+|choice\s+)?\(?[A-Z]\b\)?", re.IGNORECASE)
_OPENING = re.compile(r"\W*[A-Z]\s*[.,:;)\]]")
_LAST_WORDS = 5
_CONTRARY = -1
"""A letter with the text of another option."""


def judge_choice(question: Question, answer: str) -> Verdict:
    """`question.metadata`: `choices`, and `correct_choice` where the accepted answers do not tell it."""
    choices = options_of(question)
    found = read_choice(answer, choices)
    if found is None:
        return Verdict(0.0, "names no option")
    same = found == right_choice(question, choices)
    return Verdict(1.0, "the right option") if same else Verdict(0.0, "another option")


def judge_given_choice(question: Question, answer: str) -> Verdict:
    """A-OKVQA, multiple choice: one of the options as it is written, before anything else is read."""
    choices = options_of(question)
    if answer in choices:
        same = choices.index(answer) == right_choice(question, choices)
        return Verdict(1.0, "the right option") if same else Verdict(0.0, "another option")
    return judge_choice(question, answer)


def options_of(question: Question) -> list[str]:
    """What can be chosen; without `choices` what is accepted."""
    return [str(choice) for choice in question.metadata.get("choices") or question.answers]


def right_choice(question: Question, choices: Sequence[str]) -> int | None:
    """The number of the option that `correct_choice` names, else of the one whose letter and text are accepted, whose
    text is, or whose letter is."""
    named = question.metadata.get("correct_choice")
    said = [number for number, choice in enumerate(choices) if named is not None and choice == str(named)]
    texts = [number for number, choice in enumerate(choices) if choice in question.answers]
    letters = [number for number in range(len(choices)) if ascii_uppercase[number : number + 1] in question.answers]
    right = said or [number for number in letters if number in texts] or texts or letters
    return right[0] if right else None


def read_choice(answer: str, choices: Sequence[str]) -> int | None:
    """The number of the option that the answer names; None where it names none, several, or a letter with the text of
    another option."""
    found = _read_choice(answer, choices)
    return None if found == _CONTRARY else found


def stated(answer: str) -> str:
    """What stands behind "the answer is", without typesetting; all of it where that is not said."""
    text = _TYPESET.sub(lambda m: m[1] or m[2] or "", answer).strip()
    leads = [lead for lead in _LEAD.finditer(text) if text[lead.end() :].strip(" .")]
    last = [lead for lead in leads if lead[0].lower().startswith("answer")][-1:]
    # one option alone is named, not weighed against others or denied
    if not last and len(leads) == 1 and not text[: leads[0].start()].lower().rstrip().endswith("not"):
        last = leads
    return text[last[0].end() :].strip() if last else text


def _read_choice(answer: str, choices: Sequence[str]) -> int | None:
    said = stated(answer)
    first = re.split(r"(?<=[.!])\s|\n", said, maxsplit=1)[0]
    for text in dict.fromkeys((said, first, answer.strip())):
        if (found := _whole(text, choices)) is not None:
            return found
    plain = _TYPESET.sub(lambda m: m[1] or m[2] or "", answer)
    if said != plain.strip() and (told := _FIRST.match(_ARTICLE.sub("a", said))):
        return _number(told[1], choices)
    inside = _contained(plain, choices)
    letter = _single_letter(plain, len(choices))
    if letter is None:
        return inside
    # the C of "vitamin C" is no letter of an option
    part = inside is not None and len(choices[inside]) > 1 and ascii_uppercase[letter] in _words(choices[inside])
    return inside if part else letter


def _whole(text: str, choices: Sequence[str]) -> int | None:
    """Nothing but a letter, an option's text, or a letter with it."""
    if found := _ALONE.fullmatch(text):
        if found[1] in choices and not found[1].isupper():
            return list(choices).index(found[1])
        return _number(found[1], choices)
    if found := _WITH_TEXT.fullmatch(text):
        number, beside = _number(found[1] or found[2], choices), _named(found[3], choices)
        if number is not None and beside is not None:
            return number if number == beside else _CONTRARY
    elif found := _SPACED.fullmatch(text):
        number, beside = _number(found[1], choices), _named(found[2], choices)
        if number is not None and number == beside:
            return number
        if number and beside is not None and _named(text, choices) is None:
            return _CONTRARY
    return _named(text, choices)


def _number(letter: str, choices: Sequence[str]) -> int | None:
    number = ascii_uppercase.find(letter.upper())
    return number if 0 <= number < len(choices) else None


def _named(text: str, choices: Sequence[str]) -> int | None:
    same = [number for number, choice in enumerate(choices) if len(choice) > 1 and is_correct(text, [choice])]
    same = [n for n, choice in enumerate(choices) if text.lower() == choice.lower() != text[:1].lower()] or same
    same = [n for n, choice in enumerate(choices) if text == choice] or same
    return same[0] if len(same) == 1 else None


def _words(text: str) -> list[str]:
    return text.translate(_MARKS).split()


def _single_letter(text: str, count: int) -> int | None:
    """The one letter of an option that stands alone, among the last words or set off at the beginning."""
    text = _DENIED.sub("", _ARTICLE.sub("a", text))
    words = _words(text)
    letters = [letter for letter in ascii_uppercase[:count] if letter in words]
    if len(letters) != 1:
        return None
    place = words.index(letters[0])
    near = place > len(words) - _LAST_WORDS or (place == 0 and _OPENING.match(text))
    return ascii_uppercase.index(letters[0]) if near else None


def _contained(text: str, choices: Sequence[str]) -> int | None:
    """The one option whose text stands in the answer, which is not much longer than all options are."""
    if len(text) > 2 * sum(map(len, choices)):
        return None
    low = [choice.lower() for choice in choices]
    inside = [n for n, choice in enumerate(low) if re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text.lower())]
    whole = [n for n in inside if not any(low[n] in low[other] for other in inside if other != n)]
    return whole[0] if len(whole) == 1 and normalize_answer(low[whole[0]]) else None
