"""Questions, conversations and worlds that somebody else wrote: no picture but theirs, and one bad row costs itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_files import picture_bytes, write_json, write_lines, write_picture, write_table
from deepmmsearch.atlas.world_files import read_questions as read_atlas
from deepmmsearch.data.convert import read_sharegpt
from deepmmsearch.data.exchange import write_as
from deepmmsearch.data.load_report import LoadReport, Skip
from deepmmsearch.data.own import open_own
from deepmmsearch.data.pictures import find_file, load_picture
from deepmmsearch.data.published import OKVQA, open_questions
from deepmmsearch.data.reader import read_questions, read_trajectories
from deepmmsearch.data.records import question_row, row_trajectory, trajectory_row, write_rows
from deepmmsearch.data.tables import distinct, read_table
from deepmmsearch.errors import UserError
from deepmmsearch.types import Answer, Completion, Prompt, Question, Trajectory, Turn

OUTSIDE = "picture outside the folder"


def row(image: str, **more: Any) -> dict[str, Any]:
    return {"question": "Who?", "answers": ["Ada"], "image": image, **more}


def conversation(*pictures: str) -> dict[str, Any]:
    said = [{"role": "user", "content": "<image>Who?"}, {"role": "assistant", "content": "<answer>Ada</answer>"}]
    return {"messages": said, "images": list(pictures)}


@pytest.fixture
def private(tmp_path: Path) -> Path:
    write_picture(tmp_path / "private" / "passport.jpg")
    return tmp_path / "private"


# Pictures


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_a_row_names_pictures_beside_its_file_and_below_it(tmp_path: Path, private: Path, suffix: str) -> None:
    home = tmp_path / "theirs"
    write_picture(home / "pictures" / "own.jpg")
    (home / "link.jpg").parent.mkdir(exist_ok=True)
    (home / "link.jpg").symlink_to(private / "passport.jpg")
    (home / "images").symlink_to(private)
    (home / "within.jpg").symlink_to("pictures/own.jpg")
    names = [
        "pictures/own.jpg",
        "within.jpg",
        str(home / "pictures" / "own.jpg"),
        "pictures/../pictures/own.jpg",
        # not theirs
        str(private / "passport.jpg"),
        str(private / "passport"),
        "../private/passport.jpg",
        "link.jpg",
        "images/passport.jpg",
        "passport.jpg",
        "pictures/../../private/passport",
    ]
    rows = [row(name) for name in names]
    table = home / f"q.{suffix}"
    if suffix == "csv":
        table.write_text("question,answers,image\n" + "".join(f"Who?,Ada,{name}\n" for name in names))
    else:
        {"jsonl": write_lines, "json": write_json, "parquet": write_table}[suffix](table, rows)
    asked = open_own(table)
    assert sum(question.image is not None for question in asked) == 4
    assert asked.report.dropped == {OUTSIDE: 7}
    assert any("passport.jpg; allow its folder with --images" in shown for shown in asked.report.examples[OUTSIDE])
    # whoever reads it may allow the folder
    asked = open_own(table, images=private)
    assert len(list(asked)) == 11 and not asked.report.dropped


def test_a_folder_of_a_benchmark_leads_nowhere_else(tmp_path: Path, private: Path) -> None:
    home = tmp_path / "okvqa"
    (private / "COCO_val2014_000000000009.jpg").write_bytes(picture_bytes())
    asked = {"questions": [{"question_id": 1, "image_id": 9, "question": "Who?"}]}
    told = {"annotations": [{"question_id": 1, "answers": [{"answer": "Ada"}]}]}
    write_json(home / "OpenEnded_mscoco_val2014_questions.json", asked)
    write_json(home / "mscoco_val2014_annotations.json", told)
    (home / "val2014").symlink_to(private)
    questions = OKVQA.open(home)
    assert not list(questions) and questions.report.dropped == {OUTSIDE: 1}
    assert len(list(OKVQA.open(home, images=private))) == 1
    (home / "mscoco_val2014_annotations.json").rename(private / "told.json")
    (home / "mscoco_val2014_annotations.json").symlink_to(private / "told.json")
    with pytest.raises(UserError, match="is a link out of"):
        OKVQA.open(home)


@pytest.mark.parametrize("name", ["questions.jsonl", "train.parquet"])
def test_a_table_in_a_folder_is_not_a_link_out_of_it(tmp_path: Path, name: str) -> None:
    kept = tmp_path / "kept" / name
    (write_lines if name.endswith("jsonl") else write_table)(kept, [row("")])
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / name).symlink_to(kept)
    with pytest.raises(UserError, match="is a link out of"):
        list(open_own(tmp_path / "theirs"))
    # a link that the reader names himself is followed
    assert len(list(open_own(tmp_path / "theirs" / name))) == 1


def test_conversations_name_pictures_beside_their_file(tmp_path: Path, private: Path) -> None:
    write_picture(tmp_path / "theirs" / "own.jpg")
    names = ["own.jpg", str(private / "passport.jpg"), "../private/passport.jpg"]
    path = write_json(tmp_path / "theirs" / "x.json", [conversation(name) for name in names])
    report = LoadReport()
    assert len(list(read_sharegpt(path, report))) == 1
    assert report.dropped == {OUTSIDE: 1, "picture file missing": 1}
    assert len(list(read_trajectories(path, images=private))) == 3
    count, report = write_as(path, tmp_path / "out", "store")
    assert (count, report.dropped.total()) == (1, 2)
    assert write_as(path, tmp_path / "all", "store", images=private)[0] == 3


def test_a_world_names_pictures_of_its_own(tmp_path: Path, private: Path) -> None:
    line = {"id": "a", "question": "Who?", "answers": ["Ada"], "metadata": {}}
    write_picture(tmp_path / "world" / "images" / "a.jpg")
    for name in (str(private / "passport.jpg"), "../private/passport.jpg", "images/../../private/passport.jpg"):
        write_lines(
            tmp_path / "world" / "questions.jsonl", [{**line, "image": "images/a.jpg"}, {**line, "image": name}]
        )
        rows = read_atlas(tmp_path / "world")
        assert next(rows).image is not None
        with pytest.raises(UserError, match=r"line 2 cannot be read as a question: its picture .* lies outside"):
            next(rows)


def test_a_trajectory_in_a_table_has_its_own_pictures(tmp_path: Path) -> None:
    whole = trajectory_row(Trajectory(Question("q", "Who?"), Prompt("p", "deepmmsearch-r1", "s")))
    seen = {"kind": "Observation", "text": "x", "images": [{"sha256": "../../private/passport"}]}
    for name in ("../../private/passport", "-1", "7", "９", "9" * 50):
        seen["images"] = [{"sha256": name}]
        told = {**json.loads(whole["trajectory"]), "context": [seen]}
        with pytest.raises(UserError, match="that it does not hold"):
            row_trajectory({**whole, "trajectory": json.dumps(told)})


@pytest.mark.parametrize("given", [{"path": "{}"}, {"bytes": "{}"}, {"bytes": "{}", "path": "{}"}])
def test_a_picture_in_a_table_is_bytes_and_no_path(tmp_path: Path, private: Path, given: dict[str, str]) -> None:
    named = {key: value.format(private / "passport.jpg") for key, value in given.items()}
    whole = question_row(Question("q", "Who?", answers=("Ada",)))
    write_table(tmp_path / "q.parquet", [{**whole, "image": named, "pictures": [named]}])
    report = LoadReport()
    assert not list(read_questions(tmp_path / "q.parquet", report=report)) and report.dropped.total() == 1
    told = {"id": "q", "question": "Who?", "answers": ["Ada"], "image": named}
    asked = open_own(write_table(tmp_path / "theirs" / "own.parquet", [told]))
    assert not list(asked) and asked.report.dropped == {OUTSIDE: 1}


def test_names_that_no_disk_takes(tmp_path: Path) -> None:
    for name in ("x" * 300, "a\0b", "a/" * 2000, "\ud800", "https://[", "//[::1/x.jpg", "."):
        with pytest.raises((Skip, ValueError)):
            load_picture(name, (tmp_path,))
        assert name.startswith(("https", ".")) or find_file((tmp_path,), name) is None


# Rows


BAD: dict[str, Any] = {
    "deep": {
        "question": "Who?",
        "answers": json.loads("[" * 90 + "1" + "]" * 90),
        "more": json.loads("[" * 99 + "]" * 99),
    },
    "digits": {"question": "Who?", "answers": 10**299, "n": 10**299},
    "half": {"id": "\ud800", "question": "Who is \udfff?", "answers": ["A\ud83d"], "category": ["\ud800"]},
    "address": row("https://["),
    "name": row("x" * 400),
    "kinds": {"id": {}, "question": ["?"], "answers": {"answer": {"answer": None}}, "image": [{"bytes": [1]}]},
    "metadata": {"question": "Who?", "answers": ["A"], "metadata": "{" + '"a":{' * 500},
    "list": {"question": "Who?", "answers": "[" * 400 + "]" * 400},
    "long": {"question": "Who?", "answers": f"[{'9' * 4000}]"},
}


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_row_costs_itself(tmp_path: Path, bad: str) -> None:
    rows = [row("", id="first"), BAD[bad], row("", id="last")]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    asked = open_own(path)
    questions = list(asked)
    assert [questions[0].id, questions[-1].id] == ["first", "last"]
    assert len(questions) == 3 or (asked.report.dropped.total() == 1 and all(asked.report.examples.values()))
    # what was read can be written, too
    write_rows((question_row(question) for question in questions), tmp_path / "out.parquet")
    assert len(list(read_questions(tmp_path / "out.parquet"))) == len(questions)


LINES = [
    b'{"question": "Who?", "answers": ["Ada"], "id": "first"}',
    b"{broken",
    b'{"question": "caf\xe9?", "answers": ["Ada"]}',
    b"[" * 900 + b"]" * 900,
    b'{"a":' * 900 + b"1" + b"}" * 900,
    b'{"question": "Who?", "answers": ' + b"9" * 4000 + b"}",
    b'{"question": "Who?", "answers": ' + b"9" * 9000 + b"}",
    b"[1, 2]",
    b'"text"',
    b"\x00\x01",
    b'{"question": "Who?", "answers": ["Ada"], "id": "last"}',
]


def test_lines_that_are_no_rows_are_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\n".join(LINES) + b"\n")
    asked = open_own(path)
    assert [question.id for question in asked] == ["first", "last"]
    assert asked.report.dropped == {"row that cannot be read": 9}
    assert asked.report.examples["row that cannot be read"][0].startswith("row 2: line 2 is not JSON")
    # where none is one, the file is another
    path.write_bytes(b"\n".join(LINES[1:-1]))
    with pytest.raises(UserError, match="line 1 is not JSON"):
        open_own(path)


def test_entries_of_a_list_and_of_a_table_likewise(tmp_path: Path) -> None:
    asked = open_own(write_json(tmp_path / "q.json", [row("", id="a"), 7, None, ["x"], row("", id="b")]))
    assert [question.id for question in asked] == ["a", "b"] and asked.report.dropped == {"row that cannot be read": 3}
    (tmp_path / "q.csv").write_bytes(b"id,question,answers\na,Who?,Ada\nb,\x00,x\nc,Who?,Ada\n")
    asked = open_own(tmp_path / "q.csv")
    assert {"a", "c"} <= {question.id for question in asked}
    (tmp_path / "latin.csv").write_bytes("id,question,answers\na,Qui est-ce à Paris?,Ada\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"latin.csv is not UTF-8 \(byte 33\). Save it as UTF-8."):
        open_own(tmp_path / "latin.csv")
    (tmp_path / "utf16.csv").write_text("id,question,answers\na,Who à?,Ada\n", encoding="utf-16")
    assert [question.text for question in open_own(tmp_path / "utf16.csv")] == ["Who à?"]


def test_a_damaged_group_of_a_table_costs_its_rows(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "q.parquet", [row("", id=str(n), words="some words " * 40 + str(n)) for n in range(6)]
    )
    content = bytearray(path.read_bytes())
    # within the second of the three groups, behind the statistics at its head
    middle = len(content) // 3 + 100
    content[middle : middle + 200] = b"\xff" * 200
    path.write_bytes(content)
    asked = open_own(path)
    assert 2 <= len(list(asked)) <= 4 and asked.report.rows == 6
    assert asked.report.dropped["row that cannot be read"] == 6 - asked.report.loaded


def test_tables_of_another_shape_cost_their_rows(tmp_path: Path) -> None:
    whole = question_row(Question("q", "Who?", answers=("Ada",)))
    wrong = [{**whole, "history": "[7]"}, {**whole, "metadata": "{"}, {**whole, "metadata": "[1]"}, whole]
    write_rows(wrong, tmp_path / "q.parquet")
    report = LoadReport()
    assert len(list(read_questions(tmp_path / "q.parquet", report=report))) == 1 and report.dropped.total() == 3
    with pytest.raises(UserError, match=r"q.parquet, row 1 cannot be read"):
        list(read_trajectories(tmp_path / "q.parquet"))


def test_a_whole_trajectory_is_written_whatever_it_holds(tmp_path: Path) -> None:
    turn = Turn(Completion("half \ud800 a pair<answer>A\udfff</answer>"), Answer("A\udfff"))
    played = Trajectory(
        Question("q\ud800", "Who\ud800?", (), ("\ud800",)), Prompt("p", "deepmmsearch-r1", "s"), (), (turn,)
    )
    write_rows([trajectory_row(played)], tmp_path / "q.parquet")
    (back,) = read_trajectories(tmp_path / "q.parquet")
    assert back.turns == played.turns and back.question.text == "Who??"
    write_as(tmp_path / "q.parquet", tmp_path / "verl.parquet", "verl")
    assert len(read_table(tmp_path / "verl.parquet")) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: write_json(folder / "OpenEnded_mscoco_val2014_questions.json", []),
        lambda folder: write_json(folder / "OpenEnded_mscoco_val2014_questions.json", {"questions": [7]}),
        lambda folder: write_json(folder / "mscoco_val2014_annotations.json", {"annotations": [{}]}),
        lambda folder: write_json(folder / "mscoco_val2014_annotations.json", {"annotations": {"a": 1}}),
        lambda folder: (folder / "mscoco_val2014_annotations.json").write_text("[" * 5000),
    ],
)
def test_files_of_a_benchmark_in_another_form_are_one_sentence(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    write_json(tmp_path / "OpenEnded_mscoco_val2014_questions.json", {"questions": []})
    write_json(tmp_path / "mscoco_val2014_annotations.json", {"annotations": []})
    damage(tmp_path)
    try:
        list(OKVQA.open(tmp_path))
    except UserError as error:
        assert str(tmp_path) in str(error)


def test_own_data_is_found_where_its_owner_says(tmp_path: Path) -> None:
    """Pictures of one's own elsewhere, by absolute paths, through a link that one names oneself."""
    write_picture(tmp_path / "disk" / "a.jpg")
    (tmp_path / "pictures").symlink_to(tmp_path / "disk")
    path = write_lines(tmp_path / "mine" / "q.jsonl", [row("a.jpg"), row(str(tmp_path / "disk" / "a.jpg"))])
    asked = open_questions(str(path), images=tmp_path / "pictures")
    assert len(list(asked)) == 2
    shutil.rmtree(tmp_path / "disk")
    assert not list(asked)


def test_pictures_of_the_hub_are_not_decoded_by_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor those in lists and in records."""
    datasets = pytest.importorskip("datasets")
    from deepmmsearch.data.tables import hub_rows

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    image = datasets.Image()
    features = datasets.Features(
        {"image": image, "images": datasets.List(image), "shown": {"image": image}, "n": datasets.Value("int32")}
    )
    kept = {"bytes": b"not a picture", "path": None}
    row = {"image": kept, "images": [kept, kept], "shown": {"image": kept}, "n": 3}
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_list([row], features=features).to_parquet(tmp_path / "data/train.parquet")
    rows = hub_rows(str(tmp_path / "data"), None, "train")
    assert len(rows) == 1 and rows[0] == row


def test_a_table_of_many_columns_takes_no_time_and_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("a," * 50_000 + "a\n" + "x\n" * 50_000)
    with pytest.raises(UserError, match="line 2 has 1 cells, but the header 50001"):
        read_table(path)
    path.write_text("a,b,a,c\n1,2,3\n1\n1,2,3,4\n\n")
    rows = read_table(path)
    assert [dict(row) for row in (rows[0], rows[1], rows[2])] == [
        {"a": "1", "b": "2", "a_2": "3", "c": None},
        {"a": "1", "b": None, "a_2": None, "c": None},
        {"a": "1", "b": "2", "a_2": "3", "c": "4"},
    ]
    assert distinct(["a", "a", "a_2", "a", "a_2"]) == ["a", "a_2", "a_2_2", "a_3", "a_2_3"]


def test_what_many_pictures_and_columns_cost_is_bounded(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg")
    several = {**row("a.jpg"), "image": ["a.jpg"] * 50_000}
    twice = {**row("a.jpg"), "image": ["a.jpg", "a.jpg"], "image_path": "a.jpg"}
    odd = [{**row("a.jpg"), **{f"view {n} of row {number}": "a.jpg" for n in range(300)}} for number in range(10)]
    deep = row("/".join(["x"] * 500) + "/a.jpg")
    asked = open_own(write_lines(tmp_path / "q.jsonl", [several, twice, deep, *odd]))
    questions = list(asked)
    assert [len(q.images) for q in questions] == [2] + [1] * 11
    assert asked.report.dropped == {"more than 64 pictures": 1}
    assert len(asked.report.notes) <= 41 and sum(asked.report.notes.values()) == 8 * 10
