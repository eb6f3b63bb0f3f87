"""Words of all scripts: where they begin, in what language they are, by what terms they are found."""

from __future__ import annotations

import unicodedata

import pytest

from deepmmsearch.language.detection import language_of
from deepmmsearch.language.segmentation import words
from deepmmsearch.language.stems import terms
from deepmmsearch.language.word_parts import WordParts, in_parts, parts


def _terms(text: str, language: str = "en") -> set[str]:
    return set(terms(language).line(text)[0].split())


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("the U.S. census", "US"),
        ("prices from 1,200", "1200"),
        ("1'200 francs", "1,200"),
        ("an RTX4090 card", "RTX 4090"),
        ("an RTX 4090 card", "RTX4090"),
        ("call parseHttpHeader()", "parse http header"),
        ("call parse_http_header", "parseHttpHeader"),
        ("XMLReader", "xml reader"),
        ("a wi-fi network", "wifi"),
        ("a wifi network", "WiFi"),
        ("AT&T", "at&t"),
        ("Node.js", "nodejs"),
        ("release v2.11.3", "2.11.3"),
        ("COVID-19", "covid19"),
        ("O'Neill's boats", "ONeill"),
        ("iPad", "ipad"),
        ("/etc/nginx_site/main.conf", "nginx"),
        ("Zoë Núñez", "zoe nunez"),
        ("Zoe Nunez", "Zoë Núñez"),
        (unicodedata.normalize("NFD", "Škvorecký"), "Škvorecký"),
        ("ﬁsh ＡＢＣ", "fish abc"),
        ("an inter-\nnational treaty", "international"),
        ("a co\u00adoperative", "cooperative"),
        ("the lighthouses", "lighthouse"),
    ],
)
def test_spellings_of_one_thing_meet(written: str, asked: str) -> None:
    assert _terms(written) & _terms(asked)


@pytest.mark.parametrize(("one", "other"), [("C++", "C#"), ("C++", "C"), ("F#", "F"), ("1.12", "11.2"), ("IT", "it")])
def test_names_that_differ_by_a_sign_or_a_capital_do_not_meet(one: str, other: str) -> None:
    assert not _terms(one) & _terms(other)


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("黒崎灯台は岬の北に立つ。", "灯台"),
        ("山麓图书馆由陈立新设计", "陈立新"),
        ("หอสมุดริมแม่น้ำสร้างโดยสมชาย", "สมชาย"),
        ("바닷가도서관은 박서연이 세웠다", "도서관"),
        ("ＮＨＫの放送", "NHK"),
        ("ｶﾀｶﾅ", "カタカナ"),
        ("ຫໍສະໝຸດແຫ່ງຊາດ", "ສະໝຸດ"),
        ("បណ្ណាល័យជាតិកម្ពុជា", "បណ្ណាល័យ"),
    ],
)
def test_words_are_found_within_runs_without_blanks(written: str, asked: str) -> None:
    assert set(terms("en").line(asked)[0].split()) <= _terms(written)


@pytest.mark.parametrize(
    ("language", "written", "asked"),
    [
        ("de", "Die Häuser der Wärter", "Haus Wärters"),
        ("de", "Herr Mueller", "Müller"),
        ("de", "eine Straße", "STRASSE"),
        ("fr", "l'église d'Artagnan", "église artagnan"),
        ("ru", "высота маяков", "маяк высоты"),
        ("el", "τα καράβια", "καράβι"),
        ("ar", "المهندسون", "مهندسون"),
        ("hi", "पुस्तकालय", "पुस्तकालय"),
        ("tr", "IĞDIR'da evler", "ığdır ev"),
        ("en", "Свет маяков", "маяк"),  # its own script's language in a text of another one
    ],
)
def test_words_are_stemmed_in_their_language(language: str, written: str, asked: str) -> None:
    assert _terms(asked, language) <= _terms(written, language)


def test_function_words_stand_apart_and_names_in_capitals_do_not() -> None:
    content, function = terms("en").line("The WHO helps us in the US, and IT helps it.")
    assert {"WHO", "US", "IT"} <= set(content.split()) and {"the", "us", "it", "who"} <= set(function.split())
    assert "the" not in content.split()


def test_a_tone_tells_words_apart_unless_none_is_asked_for() -> None:
    written = _terms("Hải đăng", "vi")
    assert set(terms("vi").asked("hai")) <= written and set(terms("vi").asked("Hải")) <= written
    assert not set(terms("vi").asked("hãi")) & written


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Der Turm wurde im Jahr 1866 von den Wärtern gebaut und ist heute ein Museum.", "de"),
        ("La tour a été construite par les gardiens et elle est un musée.", "fr"),
        ("La torre fue construida por los guardianes y es un museo.", "es"),
        ("Wieża została zbudowana przez strażników i jest muzeum.", "pl"),
        ("Kule bekçiler tarafından yapıldı ve bugün bir müzedir.", "tr"),
        ("Башня была построена смотрителями и сейчас это музей.", "ru"),
        ("Вежа була побудована доглядачами і це музей, який стоїть на скелі.", "uk"),
        ("塔は1866年に建てられた。", "ja"),
        ("这座塔建于1866年。", "zh"),
        ("이 탑은 1866년에 세워졌다.", "ko"),
        ("Ο πύργος χτίστηκε από τους φύλακες και είναι μουσείο.", "el"),
        ("The tower was built by its keepers and is a museum.", "en"),
        ("Quarterly figures 2021", "en"),
        ("Маяк", "ru"),
        ("", "en"),
    ],
)
def test_the_language_is_told_by_the_words(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_declared_language_holds_unless_the_words_clearly_say_another() -> None:
    assert language_of("Kattegat 1911", "da-DK") == "da"
    german = "Der Turm wurde von den Wärtern gebaut, und er ist nicht das einzige, was sie an der Küste gebaut haben."
    assert language_of(german, "en") == "de" and language_of(german, "x-unknown") == "de"


def test_the_language_of_the_texts_around_counts_where_words_say_little() -> None:
    french = "La tour a été construite par les gardiens et elle est un musée."
    assert language_of("A comment on a comment") == "fr"
    assert language_of("A comment on a comment", around={"en": 90, "fr": 2}) == "en"
    assert (
        language_of(french, around={"en": 90}) == "fr"
        and language_of("A comment on a comment", "fr", {"en": 90}) == "fr"
    )
    assert language_of("Önay Sözer", around={"tr": 30, "en": 2}) == "tr"
    # of another script
    assert language_of("Quarterly figures", around={"ru": 90}) == "en"


def test_parts_of_words_tell_where_a_word_begins_and_ends() -> None:
    assert parts("Haus") == ["_hau", "haus", "aus_"] and parts("Ö") == ["_o_"]
    cut = WordParts("de")
    assert cut.line("Das Haus, 塔") == "_hau haus aus_" and cut.line("Haus-") == cut["Haus"]
    assert in_parts("de") and not in_parts("en")


def test_words_lie_where_they_are_said_to() -> None:
    text = "Zoë’s C++ «灯塔» 1,200 x\u0301y"
    assert [text[word.start : word.end] == word.text for word in words(text)] == [True] * len(list(words(text)))


def test_long_and_strange_texts_take_no_time_and_no_room() -> None:
    line = terms("en").line
    for text in (
        "a" * 100_000,
        "-" * 100_000,
        "a-" * 50_000,
        "1,2" * 30_000,
        "塔" * 50_000,
        "x\u0301" * 50_000,
        "A" * 50_000,
    ):
        assert len(line(text)[0]) < 12 * len(text) + 100
