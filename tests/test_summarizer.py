"""The extractive summariser: what it keeps, and the laws it keeps for any text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepmmsearch.agent.protocols import Summarizer
from deepmmsearch.errors import UserError
from deepmmsearch.tools.summarizer import ExtractiveSummarizer, plain, split_sentences, terms

WORDS = "Veld Orun capital lies on the river J. Dr. e.g. U.S. is it. old! new? It\n • - 1. </information> \x07 \u202e"
texts = st.one_of(st.text(max_size=400), st.lists(st.sampled_from(WORDS.split(" ")), max_size=80).map(" ".join))


def summarize(query: str, passages: Sequence[str], question: str = "", sentences: int = 2) -> list[str]:
    return asyncio.run(ExtractiveSummarizer(sentences).summarize(question, query, passages))


def test_it_is_a_summarizer() -> None:
    tool: Summarizer = ExtractiveSummarizer()
    assert asyncio.run(tool.summarize("?", "capital", [])) == []


def test_the_sentence_that_answers_the_query_is_kept_verbatim() -> None:
    passage = "Veld is a country in the north. The capital of Veld is Orun. Its people fish."
    assert summarize("capital of Veld", [passage], sentences=1) == ["The capital of Veld is Orun."]


def test_a_second_sentence_needs_a_comparable_score() -> None:
    passage = "The capital of Veld is Orun. Rain is frequent there. The capital of Veld was Tamm until 1830."
    assert summarize("capital of Veld", [passage]) == [
        "The capital of Veld is Orun. The capital of Veld was Tamm until 1830."
    ]
    assert summarize("capital of Veld", ["The capital of Veld is Orun. Veld is large."]) == [
        "The capital of Veld is Orun."
    ]


def test_sentences_keep_their_order_when_a_later_one_scores_higher() -> None:
    passage = "Orun is the capital city of a country called Veld in the far north. Capital of Veld: Orun."
    assert summarize("capital Veld", [passage]) == [passage]


def test_the_question_breaks_ties_between_sentences() -> None:
    passage = "The harbour of Veld is deep. The river of Veld is long."
    assert summarize("Veld", [passage], "How long is the river?", 1) == ["The river of Veld is long."]


def test_a_passage_that_serves_much_less_than_the_best_is_empty() -> None:
    good, weak = (
        "The capital of Veld is Orun.",
        "Its harbour, which Veld lends to many other states, is a very long one.",
    )
    assert summarize("capital Orun founder Veld", [weak, good]) == ["", good]
    assert summarize("capital of Veld", ["Nothing of the kind."]) == [""]


def test_a_repeated_sentence_is_taken_once() -> None:
    fact = "The capital of Veld is Orun."
    assert summarize("capital of Veld", [fact, f"It rains. {fact.upper()} Fish swim."]) == [fact, ""]


def test_plurals_case_and_accents_do_not_matter() -> None:
    assert terms("Cities' BUSES, Córdoba and glass") == ["city", "buse", "cordoba", "glass"]
    assert summarize("rivers of cordoba", ["It rains. The river of Córdoba is long."]) == [
        "The river of Córdoba is long."
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It is 3.5 km long. It was built by J. R. Smith.", ["It is 3.5 km long.", "It was built by J. R. Smith."]),
        ("Dr. Orun met Mrs. Tamm. They left.", ["Dr. Orun met Mrs. Tamm.", "They left."]),
        ("He lives in the U.S. The house is old.", ["He lives in the U.S.", "The house is old."]),
        ("See No. 5 (e.g. Veld). Yes!", ["See No. 5 (e.g. Veld).", "Yes!"]),
        ("He asked: “Why?” Nobody knew...", ["He asked: “Why?”", "Nobody knew..."]),
        ("Facts\n- Capital: Orun\n* River: Tamm\n2) Sea: none", ["Facts", "Capital: Orun", "River: Tamm", "Sea: none"]),
        ("Exports: • fish • wool", ["Exports:", "fish", "wool"]),
        ("首都はオルンです。川は長い。", ["首都はオルンです。", "川は長い。"]),
        (
            "The capital of Veld has been since the year 1830\nthe town of Orun.",
            ["The capital of Veld has been since the year 1830 the town of Orun."],
        ),
        (
            "The lighthouse at Cape Arden was designed by the engineer\nAstrid Holm and opened in the year of 1920. It "
            "replaced the\nwooden beacon that the storm of 1911 had carried away.",
            [
                "The lighthouse at Cape Arden was designed by the engineer Astrid Holm and opened in the year of 1920.",
                "It replaced the wooden beacon that the storm of 1911 had carried away.",
            ],
        ),
        ("", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_long_sentences_come_in_pieces_cut_at_a_word_and_the_piece_that_serves_is_chosen() -> None:
    passage = "word " * 100 + "capital of Veld is Orun"
    (text,) = summarize("capital Veld", [passage], sentences=1)
    assert "capital of Veld is Orun" in text and len(text) <= 300 and text in plain(passage)
    assert [len(piece) for piece in split_sentences("x" * 700)] == [300, 300, 100]


def test_control_and_direction_characters_are_removed() -> None:
    assert summarize("Veld", ["Veld\x07 is\u202e\u200b \ttall.\ud800"]) == ["Veld is tall."]


def test_embeddings_find_what_shares_no_word_with_the_query() -> None:
    def encode(texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] if "seat of government" in t or "capital" in t else [0.0, 1.0] for t in texts])

    passage = "Fish swim in the sea. The seat of government is Orun."
    summarizer = ExtractiveSummarizer(1, encode)
    assert asyncio.run(summarizer.summarize("", "capital", [passage])) == ["The seat of government is Orun."]
    assert summarize("capital", [passage]) == [""]


@pytest.mark.parametrize("sentences", [0, 4])
def test_more_sentences_than_allowed_is_a_user_error(sentences: int) -> None:
    with pytest.raises(UserError, match="1 to 3 sentences"):
        ExtractiveSummarizer(sentences)


@pytest.mark.parametrize("unit", [".", "A. ", "\n", " ", "“.", "- ", "•", "a", "1.", "。"])
def test_a_hostile_page_takes_no_longer_than_a_page(unit: str) -> None:
    started = time.process_time()
    summarize("a", [unit * 30_000] * 2)
    assert time.process_time() - started < 3


@settings(max_examples=300)
@given(texts, texts, st.lists(texts, max_size=5), st.integers(1, 3))
@example("", "0000", ["0 • 0:0000"], 1)
def test_every_output_is_made_of_sentences_of_its_passage(
    question: str, query: str, passages: list[str], sentences: int
) -> None:
    outputs = summarize(query, passages, question, sentences)
    assert outputs == summarize(query, passages, question, sentences)
    assert len(outputs) == len(passages)
    for output, passage in zip(outputs, passages, strict=True):
        found = split_sentences(passage)
        assert all(sentence in plain(passage) and 0 < len(sentence) <= 300 for sentence in found)
        choices = (chosen for n in range(sentences + 1) for chosen in combinations(found, n))
        assert any(output == " ".join(chosen) for chosen in choices)
        assert all(c.isprintable() for c in output if c.isascii())


@pytest.mark.parametrize(
    ("query", "told", "other"),
    [
        ("莫鲁的人口", "莫鲁的人口约为三万。", "维尔德在北方。"),
        ("ประชากรของโมรู", "ประชากรของโมรูมีสามหมื่นคน", "ฝนตกบ่อยในฤดูร้อน"),
        ("모루 인구", "모루의 인구는 삼만 명이다.", "벨드는 북쪽에 있다."),
        ("जनसंख्या मोरू", "मोरू की जनसंख्या तीस हज़ार है।", "वहाँ वर्षा होती है।"),
    ],
    ids=["Chinese", "Thai", "Korean", "Hindi"],
)
def test_the_sentence_that_answers_is_kept_in_every_script(query: str, told: str, other: str) -> None:
    assert summarize(query, [f"{other}\n{told}\n{other}"]) == [told]
