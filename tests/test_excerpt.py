"""What a hit shows: the part of its text where the words stand that were searched for, and those words apart."""

from __future__ import annotations

import pytest

pytest.importorskip("Stemmer")

from deepmmsearch.show.excerpt import LONGEST, excerpt

LONG = "Of the town of Oru there is much to tell, and little of it is true. " * 12


@pytest.mark.parametrize(
    ("query", "text", "found"),
    [
        ("capital of Veld", "Veld is a country. Its capitals were two.", ["Veld", "capitals"]),
        ("Häuser in Moru", "Das Haus steht in Moru und nicht in Oru.", ["Haus", "Moru"]),
        ("莫鲁人口", "维尔德的首都是莫鲁，人口三万。", ["莫鲁", "人口"]),
        ("กรุงเทพ", "เมืองหลวงคือกรุงเทพมหานคร", ["กรุงเทพ"]),
        ("수도 모루", "벨드의 수도는 모루이다.", ["수도", "모루"]),
        ("столица", "Столицы Вельда две.", ["Столицы"]),
        ("nothing", "Veld is a country.", []),
        ("", "Veld is a country.", []),
        ("what is it", "It is what it is.", []),
    ],
)
def test_words_that_were_searched_for_stand_apart(query: str, text: str, found: list[str]) -> None:
    parts = excerpt(query, text)
    assert parts[1::2] == found and "".join(parts) == text


def test_of_a_long_text_the_part_with_the_words_is_shown() -> None:
    parts = excerpt("harbour", f"{LONG} The harbour is deep. {LONG}")
    assert parts[1::2] == ["harbour"] and parts[0].startswith("…") and parts[-1].endswith("…")
    assert len("".join(parts)) <= LONGEST
    assert excerpt("", LONG) == [LONG[: LONGEST - 1] + "…"]
    assert excerpt("", "a" * LONGEST) == ["a" * LONGEST]
    assert excerpt("", "a" * (LONGEST + 1)) == ["a" * (LONGEST - 1) + "…"]


def test_markup_stays_text_in_one_line() -> None:
    text = "<b>Veld</b>\n<script>alert('Veld')</script>\x1b[31m\u202e"
    parts = excerpt("Veld b script", text)
    assert "".join(parts) == "<b>Veld</b> <script>alert('Veld')</script>[31m" and parts.count("Veld") == 2
