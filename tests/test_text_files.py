"""Text files: wrapped lines, and bytes of all encodings."""

from __future__ import annotations

import textwrap

import pytest

pytest.importorskip("chardet")

from deepmmsearch.engine.chunks import passages
from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.charset import decode
from deepmmsearch.reading.file_kinds import extract
from deepmmsearch.reading.worker import Extractor
from deepmmsearch.reading.wrapping import unwrapped

PROSE = (
    "The keeper of the light at Oru, whose name was Astrid Holm, wrote down the weather every day. She did so for more "
    "than thirty years, and nobody but Mr. Emil Krag ever read what she had written about the wind and the tides."
)


@pytest.mark.parametrize("columns", [50, 64, 72, 80, 100])
@pytest.mark.parametrize("indents", [("", ""), ("   ", "   "), ("    ", ""), ("- ", "  "), ("> ", "> ")])
def test_wrapped_lines_are_one_paragraph(columns: int, indents: tuple[str, str]) -> None:
    first, others = indents
    wrapped = textwrap.fill(PROSE, columns, initial_indent=first, subsequent_indent=others)
    assert wrapped.count("\n") >= 2 and unwrapped(f"{wrapped}\n\n{wrapped}") == f"{first}{PROSE}\n\n{first}{PROSE}"


def test_scripts_without_blanks_are_joined_without_one() -> None:
    line = "港口的历史可以追溯到很久以前当时人们在这里建造了第一座灯塔以便引导船只"
    assert unwrapped(f"{line}\n{line}\n{line[:9]}。") == f"{line}{line}{line[:9]}。"


@pytest.mark.parametrize(
    "text",
    [
        "Astrid Holm\n12 Harbour Street\n5003 Bergen",
        "O ferry, thou that crossest in the night\nThe cold and silver waters of the bay,\n"
        "Where nothing but the keeper's little light\nHas ever shown a traveller the way,",
        "Name        Port       Year\nAstrid      Bergen     1920\nEmma        Oslo       1930",
        "def moor(ship):\n    for rope in ship.ropes:\n        rope.tie()",
        "- rope\n- tar\n- oil",
        "Heading of the page\nA paragraph in one long line, as it is written today in most of the editors.",
        "2024-01-01 12:00:01 INFO the ferry has left the port\n2024-01-01 12:00:02 INFO the ferry has left the port",
        "From: Astrid Holm <holm@host.example> of the port office\nTo: Emil Krag <krag@host.example> of the old light",
    ],
)
def test_lines_that_are_meant_stay(text: str) -> None:
    assert unwrapped(text) == text


def test_a_text_file_with_underlined_headings() -> None:
    document = extract("a.txt", f"The light\n=========\n\n{textwrap.fill(PROSE, 72)}\n".encode())
    assert (document.title, document.headings) == ("The light", (("The light", 1),))
    assert document.text == f"The light\n\n{PROSE}"


def test_passages_are_cut_between_paragraphs_and_keep_the_lines_of_code() -> None:
    code = "def moor(ship):\n    for rope in ship:\n        rope.tie()"
    text = f"{PROSE}\n\n{code}\n\n{PROSE}"
    found = passages(text, len(PROSE) + 20)
    assert [p.text for p in found] == [PROSE, code, PROSE]
    assert "\n\n".join(p.text for p in passages(text, 5_000)) == text
    chinese = "港很深。" * 90
    assert all(p.text.endswith("。") and " " not in p.text for p in passages(chinese, 100))


SAMPLES = [
    ("windows-1252", "“Le conservateur” du musée est Zoé Lefèvre, née à Besançon en août.", "windows-1252"),
    (
        "windows-1250",
        "Dyrektor muzeum mówił, że łódź stała w porcie przez całą zimę; później ją sprzedano.",
        "windows-1250",
    ),
    ("windows-1251", "Директор музея порта Пётр Орлов открыл выставку старых кораблей.", "windows-1251"),
    ("koi8-r", "Директор музея порта Пётр Орлов открыл выставку старых кораблей.", "koi8-r"),
    ("iso-8859-7", "Το λιμάνι είναι βαθύ και το ποτάμι είναι μακρύ και ήσυχο.", ""),
    ("gb18030", "这座城市的港口很深，河流很长，每年有很多船只进出。", "gb18030"),
    ("big5", "這座城市的港口很深，河流很長，每年有很多船隻進出。", "big5hkscs"),
    ("shift_jis", "この町の港は深く、川は長く、毎年多くの船が出入りします。", "cp932"),
    ("euc-jp", "この町の港は深く、川は長く、毎年多くの船が出入りします。", ""),
    ("euc-kr", "이 도시의 항구는 깊고 강은 길며 해마다 많은 배가 드나든다.", "cp949"),
    ("tis-620", "ท่าเรือของเมืองนี้ลึกมากและแม่น้ำก็ยาวมาก", ""),
    ("windows-1256", "ميناء هذه المدينة عميق والنهر طويل وتدخله سفن كثيرة كل عام", "windows-1256"),
    ("utf-16-le", "The harbour of this town is deep.\n", "utf-16-le"),
    ("utf-16-be", "The harbour of this town is deep.\n", "utf-16-be"),
]


@pytest.mark.parametrize(("encoding", "text", "told"), SAMPLES, ids=[s[0] for s in SAMPLES])
def test_encodings_that_nothing_tells_are_guessed_and_told(encoding: str, text: str, told: str) -> None:
    found = decode(text.encode(encoding))
    assert found.text == text and found.guessed.startswith(told) and found.guessed
    assert decode(text.encode(encoding), encoding).text == text


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
def test_marks_and_utf_8_are_no_guess(mark: str) -> None:
    assert decode("Čapek".encode(mark), "iso-8859-1") == ("Čapek", "")
    assert decode("Čapek".encode(), "iso-8859-1") == ("Čapek", "")


def test_latin_1_is_what_windows_writes() -> None:
    assert decode("“5 €” – no".encode("cp1252"), "iso-8859-1") == ("“5 €” – no", "")
    assert decode("caf\xe9".encode("latin-1")).guessed == "windows-1252, a weak guess"
    quoted = "“Well,” said the mayor’s wife – “it’s the opposition’s idea.” “No…”, she’d say, “it isn’t.” "
    prices = "Größe: 5 € – Höhe: 3 € – Gewicht: 7 € – Länge: 9 € – Schlüssel: 2 € – Füße: 4 €. "
    italian = "L’attività è già più che utile: così la città avrà libertà, perché è lì. "
    for text in (quoted * 3, prices * 3, italian * 4):
        assert decode(text.encode("cp1252")).text == text
    for text in ("Schöne Mädchen größer als die schönsten Bären.", "L'été à la plage, où l'élève préférait la forêt."):
        assert decode((text * 20).encode("cp850")).text == text * 20
    for text in ("Straße und Grüße aus Köln", "L'été à la plage", "O coração está à direita"):
        assert decode(text.encode("cp1252")).text == text


def test_a_file_says_what_was_guessed() -> None:
    content = SAMPLES[2][1].encode("cp1251")
    assert extract("a.txt", content).charset == "windows-1251"
    with Extractor() as extractor:
        assert extractor.extract("a.md", content).charset == "windows-1251"
        assert extractor.extract("a.md", b"Plain.").charset == ""


def test_a_stray_control_character_is_dropped_and_binary_is_refused() -> None:
    assert decode(b"The pilot is Rolf Hansen.\0\n").text == "The pilot is Rolf Hansen.\n"
    for content in (bytes(range(256)) * 4, b"\x7fELF" + bytes(60) + b"\xff\xfe\x01" * 9, b"a\0b"):
        with pytest.raises(Unreadable, match="not text"):
            decode(content)
