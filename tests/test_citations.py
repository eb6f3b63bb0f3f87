"""Every source of an answer can be traced: turn, hit, sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deepmmsearch.prompts import load_prompt
from deepmmsearch.show.citations import find_sources, read_sources
from deepmmsearch.types import Answer, Cited, Completion, Hit, Observation, Question, TextSearch, Trajectory, Turn

VELD = Hit("Veld", "https://a/veld", "Veld lies in the north. Its capital, Moru, is old. It rains.")
ORUN = Hit("Orun", "https://a/orun", "A river.")
TAMM = Hit("Tamm", "https://a/tamm", "Nothing of use.", matched=False)


def trajectory(*seen: Observation, answer: str = "Moru") -> Trajectory:
    turns = tuple(Turn(Completion(""), TextSearch("q"), o) for o in seen)
    said = Turn(Completion(""), Answer(answer))
    return Trajectory(Question("q", "Which?"), load_prompt("deepmmsearch-r1"), (), (*turns, said), "answer")


def test_a_source_is_a_hit_that_says_the_answer_and_the_sentence_that_does() -> None:
    played = trajectory(Observation("Nothing found."), Observation("", hits=(ORUN, VELD, TAMM)))
    (source,) = find_sources(played)
    assert (source.turn, source.rank, source.title, source.url) == (2, 2, "Veld", "https://a/veld")
    assert source.sentence == "Its capital, Moru, is old."


def test_a_sentence_of_a_summary_is_traced_to_each_hit_it_cites() -> None:
    sentences = (Cited("It is a port.", (1,)), Cited("MORU is the capital.", (1, 3)), Cited("Moru is large.", ()))
    played = trajectory(Observation("...", hits=(ORUN, replace(VELD, snippet=""), TAMM), sentences=sentences))
    found = find_sources(played)
    assert [(s.rank, s.sentence, s.matched) for s in found] == [
        (1, "MORU is the capital.", None),
        (3, "MORU is the capital.", False),
    ]
    assert [(s.rank, s.sentence) for s in read_sources(played)] == [(1, "It is a port."), (3, "MORU is the capital.")]


def test_each_address_once_in_the_order_in_which_it_was_found() -> None:
    played = trajectory(Observation("", hits=(VELD,)), Observation("", hits=(replace(VELD, title="x"),)))
    assert [(s.turn, s.title) for s in find_sources(played)] == [(1, "Veld")]


def test_an_answer_across_two_sentences_is_still_found() -> None:
    hit = Hit("t", "u", "It was built by J. R. Moru in 1830.")
    assert len(find_sources(trajectory(Observation("", hits=(hit,)), answer="J. R. Moru"))) == 1


@pytest.mark.parametrize("answer", ["", "...", "Mor", "Moru capital"])
def test_no_source_is_invented(answer: str) -> None:
    assert find_sources(trajectory(Observation("", hits=(VELD,)), answer=answer)) == []


def test_trajectories_from_before_sentences_were_kept() -> None:
    old = trajectory(Observation("[1] A river.\n[2] The capital is Moru.", hits=(ORUN, replace(VELD, snippet=""))))
    assert [(s.rank, s.sentence) for s in find_sources(old)] == [(2, "The capital is Moru.")]
    assert [s.rank for s in read_sources(old)] == [1, 2]


def test_long_sentences_are_cut() -> None:
    hit = Hit("t", "u", "word " * 100 + "Moru")
    assert len(find_sources(trajectory(Observation("", hits=(hit,))))[0].sentence) <= 200


SCRIPTS = [
    ("莫鲁", "维尔德在北方。首都是莫鲁，建于1830年。那里常下雨。", "首都是莫鲁，建于1830年。"),
    ("モール市", "ヴェルドは北にある。首都はモール市です。雨が多い。", "首都はモール市です。"),
    ("모루", "벨드는 북쪽에 있다. 수도는 모루이다. 비가 온다.", "수도는 모루이다."),
    ("กรุงเทพ", "ประเทศไทยอยู่ในเอเชีย\nเมืองหลวงคือกรุงเทพมหานคร\nฝนตก", "เมืองหลวงคือกรุงเทพมหานคร"),
    ("ភ្នំពេញ", "កម្ពុជានៅអាស៊ី។ រាជធានីគឺភ្នំពេញ។ មានភ្លៀង។", "រាជធានីគឺភ្នំពេញ។"),
    ("दिल्ली", "भारत एशिया में है। राजधानी दिल्ली है। वर्षा होती है।", "राजधानी दिल्ली है।"),
    ("القاهرة", "مصر في أفريقيا. عاصمتها القاهرة. المطر قليل.", "عاصمتها القاهرة."),
    ("Москва", "Россия велика. Столица — Москва. Идёт снег.", "Столица — Москва."),
]


@pytest.mark.parametrize(("answer", "text", "sentence"), SCRIPTS, ids=[answer for answer, *_ in SCRIPTS])
def test_an_answer_has_its_source_and_sentence_in_every_script(answer: str, text: str, sentence: str) -> None:
    hit = Hit("1", "https://a/1", text)
    (source,) = find_sources(trajectory(Observation("", hits=(ORUN, hit)), answer=answer))
    assert (source.rank, source.sentence) == (2, sentence)


@pytest.mark.parametrize("answer", ["首", "是", "莫鲁都", "दिल", "القاهر", "Москв"])
def test_parts_of_words_are_no_source_in_any_script(answer: str) -> None:
    hits = tuple(Hit(str(n), f"https://a/{n}", text) for n, (_, text, _) in enumerate(SCRIPTS))
    assert find_sources(trajectory(Observation("", hits=hits), answer=answer)) == []
