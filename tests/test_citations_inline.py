"""Sources within a longer answer: each behind the sentence that it says, and behind no other."""

from __future__ import annotations

import pytest

from deepmmsearch.prompts import load_prompt
from deepmmsearch.serve.steps import cited
from deepmmsearch.types import Answer, Cited, Completion, Hit, Observation, Question, TextSearch, Trajectory, Turn

VELD = Hit(
    "Veld", "https://a/veld", "Veld lies in the north. Its capital, Moru, is an old port. It was founded in 1830."
)
ORUN = Hit("Orun (river)", "https://a/orun", "The Orun rises in the Tamm mountains and reaches the sea at Moru.")
MORU = Hit("莫鲁", "https://a/zh", "莫鲁是维尔德的首都。它建于1830年，是一座古老的港口。")


def trajectory(answer: str, *hits: Hit) -> Trajectory:
    found = Turn(Completion(""), TextSearch("q"), Observation("[1] ...", hits=hits))
    said = Turn(Completion(""), Answer(answer))
    return Trajectory(Question("q", "Which?"), load_prompt("deepmmsearch-r1"), (), (found, said), "answer")


def text(answer: str, *hits: Hit) -> str:
    return cited(trajectory(answer, *hits)).text


def test_each_sentence_has_the_sources_that_say_it() -> None:
    answer = cited(
        trajectory(
            "Moru. The capital of Veld is Moru, an old port. It was founded in 1830.\n\n"
            "The river Orun reaches the sea at Moru. I like it very much.",
            ORUN,
            VELD,
        )
    )
    assert answer.text == (
        "Moru. [1] [2] The capital of Veld is Moru, an old port. [2] It was founded in 1830. [2]\n\n"
        "The river Orun reaches the sea at Moru. [1] I like it very much."
    )
    assert [s.title for s in answer.sources] == ["Orun (river)", "Veld"] and answer.read == ()
    assert answer.sources[0].sentence == ORUN.snippet
    for number, start, end in answer.spans:
        assert answer.text[start:end] == f"[{number}]"


def test_an_answer_that_stands_in_a_hit_has_its_sources_behind_it() -> None:
    assert text("Moru", ORUN, VELD) == "Moru [1] [2]"


@pytest.mark.parametrize(
    "answer",
    [
        "The capital of Veld is Tamm, an old port.",
        "Tamm is the capital of Veld.",
        "The capital of Veld, Moru, was founded in 1831.",
        "The capital of Veld is not Moru, an old port.",
        "Moru is a modern city with many theatres and a university.",
        "Yes. It is so.",
        "...",
        "莫鲁是奥伦的首都，建于1930年。",
    ],
)
def test_what_no_hit_says_has_no_source(answer: str) -> None:
    assert text(answer, ORUN, VELD, MORU) == answer


def test_languages_without_spaces() -> None:
    assert text("莫鲁是维尔德的首都。它建于1830年，是一座古老的港口。那里常下雨。", MORU) == (
        "莫鲁是维尔德的首都。 [1]它建于1830年，是一座古老的港口。 [1]那里常下雨。"
    )


@pytest.mark.parametrize(
    ("told", "other"),
    [
        ("เมืองหลวงของเวลด์คือเมืองโมรู", "ที่นี่ฝนตกเกือบทุกวันตลอดปี"),
        ("벨드의 수도는 모루이며 1830년에 세워졌다.", "그곳에는 자주 비가 내린다."),
        ("عاصمة فيلد هي مدينة مورو القديمة.", "يهطل المطر هناك كثيرا في الشتاء."),
        ("वेल्ड की राजधानी मोरू एक पुराना बंदरगाह है।", "वहाँ अक्सर तेज़ वर्षा होती है।"),
    ],
    ids=["Thai", "Korean", "Arabic", "Hindi"],
)
def test_sentences_of_scripts_without_capitals_have_their_sources(told: str, other: str) -> None:
    hit = Hit("1", "https://a/1", f"{told}\n...")
    assert text(f"{told}\n{other}", hit) == f"{told} [1]\n{other}"


def test_initials_end_no_sentence() -> None:
    hit = Hit("t", "u", "The bridge over the Orun was built by J. R. Moru in 1830.")
    assert text("Built by J. R. Moru in 1830, the bridge is old. It stands.", hit) == (
        "Built by J. R. Moru in 1830, the bridge is old. [1] It stands."
    )


def test_numbers_of_hits_that_the_model_wrote_itself_are_left_out() -> None:
    answer = "The capital of Veld is Moru [7], an old port [1, 2]."
    assert text(answer, VELD) == "The capital of Veld is Moru, an old port. [1]"
    # without hits they are its own words
    assert text("Look at figure [3].") == "Look at figure [3]."


def test_what_the_policy_read_of_a_hit_counts() -> None:
    sentences = (Cited("The old lighthouse of Moru was built by Ilna in 1907.", (1,)),)
    found = Turn(Completion(""), TextSearch("q"), Observation("", hits=(Hit("Moru", "u"),), sentences=sentences))
    said = Turn(Completion(""), Answer("The lighthouse was built by Ilna in 1907. It is white."))
    played = Trajectory(Question("q", "?"), load_prompt("deepmmsearch-r1"), (), (found, said), "answer")
    assert cited(played).text == "The lighthouse was built by Ilna in 1907. [1] It is white."


def test_an_endless_answer_and_endless_hits_take_no_time() -> None:
    hits = [Hit(f"t{n}", f"u{n}", "Veld lies in the north of Tamm. " * 2000) for n in range(20)]
    assert len(cited(trajectory("The capital of Veld is Moru. " * 500 + "a" * 50_000, *hits)).sources) == 0
    assert text("[" * 20_000 + "." * 20_000 + " A", VELD)
