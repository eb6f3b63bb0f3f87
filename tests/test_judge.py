"""Exact match after SQuAD-style normalisation: golden cases, and the rule's own laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmmsearch.judge import is_correct, normalize_answer


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Eiffel Tower", "eiffel tower"),
        ("an   apple,  a day!", "apple day"),
        ("U.S.A.", "usa"),
        # Punctuation goes before articles do: what it held together becomes one word, as in the SQuAD script.
        ("a-b", "ab"),
        ("the", ""),
        ("Theatre", "theatre"),
        ("  \n\t ", ""),
        ("São Tomé", "são tomé"),
        ("100 metres.", "100 metres"),
    ],
)
def test_golden_cases(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("the Republic of Balor", ["Balor", "Republic of Balor"], True),
        ("balor.", ["Balor"], True),
        ("Balor City", ["Balor"], False),
        ("140 m", ["140 metres", "140 m", "140"], True),
        ("", ["Balor"], False),
        (None, ["Balor"], False),
        ("Balor", [], False),
        # An answer of articles alone equals an accepted one of articles alone, but says nothing.
        ("the", ["a"], False),
    ],
)
def test_any_accepted_answer_counts(answer: str | None, accepted: list[str], right: bool) -> None:
    assert is_correct(answer, accepted) is right


@given(st.text())
def test_case_punctuation_and_spaces_do_not_matter(text: str) -> None:
    once = normalize_answer(text)
    assert "  " not in once and once == once.strip()
    assert normalize_answer(f" {text} !") == once
