"""Tables as people write them: whatever the names of columns and the way they were saved, nothing is lost unsaid."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from data_files import base64_picture, picture_bytes, write_json, write_lines, write_picture, write_table
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.data.own import open_own
from deepmmsearch.data.tables import read_table
from deepmmsearch.errors import UserError
from deepmmsearch.eval.run import BenchmarkInfo, Described, EvalRun

ASKED = {"id": "x", "question": "Which tower is it?", "answers": ["Big Ben"]}


def shown(path: Path, row: dict[str, Any]) -> tuple[int, dict[str, int], dict[str, int]]:
    """How many pictures the question has, what was left out, what was told."""
    asked = open_own(write_lines(path, [{**ASKED, **row}]))
    questions = list(asked)
    return sum(len(q.images) for q in questions), dict(asked.report.dropped), dict(asked.report.notes)


@pytest.mark.parametrize(
    "column",
    [
        *(
            "image",
            "images",
            "img",
            "imgs",
            "photo",
            "photos",
            "picture",
            "pic",
            "Image",
            "IMAGE ",
            "file",
            "file_name",
        ),
        *("fileName", "filename", "file_path", "image_path", "img_path", "image_url", "imageUrl", "Image URL", "img_1"),
        *("image_1", "image1", "query_image", "image_file", "image_file_name", "image-path", "photo_1", "img_1_url"),
    ],
)
def test_a_column_of_pictures_is_read_whatever_it_is_called(tmp_path: Path, column: str) -> None:
    write_picture(tmp_path / "images/a.jpg")
    assert shown(tmp_path / "q.jsonl", {column: "images/a.jpg"}) == (1, {}, {})


@pytest.mark.parametrize(
    "value",
    [
        base64_picture(),
        base64.encodebytes(picture_bytes()).decode(),
        base64.urlsafe_b64encode(picture_bytes()).decode().rstrip("="),
        f"data:image/jpeg;base64,{base64_picture()}",
        f"DATA:image/png;base64,{base64_picture()}",
        {"bytes": base64_picture(), "path": None},
        {"bytes": None, "path": "images/a.jpg"},
        {"url": f"data:image/jpeg;base64,{base64_picture()}"},
        {"file_name": "images/a.jpg"},
        "{'bytes': None, 'path': 'images/a.jpg'}",
        list(picture_bytes()),
        ["images/a.jpg"],
        "['images/a.jpg']",
        "images\\a.jpg",
        "C:\\mine\\images\\a.jpg",
        "images/big%20ben.jpg",
        "file:images/a.jpg",
        "/somewhere/else/images/a.jpg",
        "theirs/images/a.jpg",
        "https://example.org/a.jpg?size=2",
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_picture_is_read_however_it_is_given(tmp_path: Path, value: Any) -> None:
    write_picture(tmp_path / "images/a.jpg")
    write_picture(tmp_path / "images/big ben.jpg")
    assert shown(tmp_path / "q.jsonl", {"image": value}) == (1, {}, {})


@pytest.mark.parametrize(
    ("row", "count"),
    [
        ({"images": ["images/a.jpg", "images/b.jpg"]}, 2),
        ({"image": "images/a.jpg", "image_2": "images/b.jpg"}, 2),
        ({"img_1": "images/a.jpg", "img_2": "images/b.jpg", "img_3": None, "num_images": 2}, 2),
        ({"image": '["images/a.jpg", "images/b.jpg"]'}, 2),
        # one picture in three forms
        ({"image": "images/a.jpg", "image_path": "images/a.jpg", "image_url": "https://example.org/c.jpg"}, 1),
        ({"image": None, "image_path": "images/a.jpg"}, 1),
        ({"images": ["images/a.jpg"], "image": "images/a.jpg"}, 1),
        ({"images": ["images/a.jpg"], "img_2": "images/b.jpg"}, 2),
        ({"Image": "images/a.jpg", "image": "images/b.jpg"}, 2),
        ({"image": "images/a.jpg; images/b.jpg"}, 2),
        ({"image": 17.0}, 1),
        ({"image": "", "images": [], "img_1": None}, 0),
    ],
)
def test_several_pictures_are_several_and_one_in_several_forms_is_one(
    tmp_path: Path, row: dict[str, Any], count: int
) -> None:
    write_picture(tmp_path / "images/a.jpg", 1)
    write_picture(tmp_path / "images/b.jpg", 2)
    write_picture(tmp_path / "images/17.jpg", 3)
    assert shown(tmp_path / "q.jsonl", row) == (count, {}, {})


def test_several_pictures_stand_in_their_order_and_all_must_be_there(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/a.jpg", 1)
    rows = [{**ASKED, "img_2": "images/a.jpg", "img_1": "images/gone.jpg"}]
    asked = open_own(write_lines(tmp_path / "q.jsonl", rows))
    assert not list(asked) and asked.report.dropped == {"picture file missing": 1}
    assert "gone.jpg" in asked.report.examples["picture file missing"][0]


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"front_view": "images/a.jpg"}, "front_view"),
        ({"bild": base64_picture()}, "bild"),
        ({"image": "images/a.jpg", "photo": "images/a.jpg"}, "photo"),
        ({"thumbnail_image": "https://example.org/a.png"}, "thumbnail_image"),
        ({"shots": ["images/a.jpg"]}, "shots"),
    ],
)
def test_a_column_that_looks_like_pictures_and_is_not_read_is_told(
    tmp_path: Path, row: dict[str, Any], column: str
) -> None:
    write_picture(tmp_path / "images/a.jpg")
    _, dropped, told = shown(tmp_path / "q.jsonl", row)
    assert not dropped and [note.split(",")[0] for note in told] == [f"column {column}"]


@pytest.mark.parametrize(
    "row",
    [
        {"image_width": 640, "image_id": 17, "image_caption": "A tower.", "source": "https://example.org/a.jpg"},
        {"category": "x" * 200, "note": "see images and photos", "page": "https://example.org/image.html"},
    ],
)
def test_what_is_no_picture_is_metadata(tmp_path: Path, row: dict[str, Any]) -> None:
    (question,) = open_own(write_lines(tmp_path / "q.jsonl", [{**ASKED, **row}]))
    assert not question.images and {name: question.metadata[name] for name in row} == row
    assert shown(tmp_path / "q.jsonl", row) == (0, {}, {})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("images/gone.jpg", "picture file missing"),
        ("a/long/path_without_an-extension/that/is/made/of/the/letters/of/base64/only", "picture file missing"),
        ("https://example.org/gone.jpg", "picture not downloaded"),
        (base64.b64encode(b"this is no picture at all " * 60).decode(), "picture cannot be decoded"),
        ({"height": 3}, "picture in an unknown form"),
        ([[[0, 255], [255, 0]]], "picture in an unknown form"),
        (True, "picture file missing"),
    ],
)
def test_reasons_are_true(tmp_path: Path, value: Any, reason: str) -> None:
    assert shown(tmp_path / "q.jsonl", {"image": value}) == (0, {reason: 1}, {})


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "ascii"]
)
def test_a_table_is_read_however_it_was_saved(tmp_path: Path, separator: str, encoding: str) -> None:
    place = "Zurich" if encoding == "ascii" else "Zürich, 東京"
    lines = [["ID", " Question ", "Answer", "Image"], ["1", "Which; tower, is\tit?", place, ""]]
    text = "".join(separator.join(f'"{cell}"' for cell in line) + "\r\n" for line in lines)
    # the mark aside, an encoding is told by its zeros: where they stand says which
    if encoding == "utf-32-le":
        text = "\ufeff" + text
    (tmp_path / "q.csv").write_bytes(text.encode(encoding))
    (question,) = open_own(tmp_path / "q.csv")
    assert (question.id, question.text, question.answers) == ("1", "Which; tower, is\tit?", (place,))


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("question;note, as it was, in full, there;answers\nWhich?;x;Big Ben\n", "Which?"),
        ("question;answers\nWhich, of these, is it?;Big, Ben\nWho, then?;Ada\n", "Which, of these, is it?"),
        ("question,answers\nWhich; of; these?,a|b|c\n", "Which; of; these?"),
        ("question\tanswers\nWhich, of these?\tBig Ben\n", "Which, of these?"),
        ('question,answers\n"Which\n\nof; these?",Big Ben\n', "Which\n\nof; these?"),
        ("question|answers\nWhich?|Big Ben\n", "Which?"),
        ("question,answers\r" + "Which?,Big Ben\r", "Which?"),
    ],
)
def test_a_separator_is_told_by_the_rows_that_it_makes(tmp_path: Path, text: str, question: str) -> None:
    (tmp_path / "q.csv").write_bytes(text.encode())
    assert next(iter(open_own(tmp_path / "q.csv"))).text == question


def test_a_separator_that_excel_wrote_above_the_header(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("sep=;\r\nquestion;answers\r\nWho, then?;Ada\r\n")
    (question,) = open_own(tmp_path / "q.csv")
    assert (question.text, question.answers) == ("Who, then?", ("Ada",))


def test_lines_of_json_in_two_bytes_a_letter_and_under_another_name(tmp_path: Path) -> None:
    line = json.dumps(ASKED) + "\n"
    (tmp_path / "q.jsonl").write_text(line * 2, encoding="utf-16-le")
    (tmp_path / "lines.json").write_text(line * 2)
    assert [len(read_table(tmp_path / name)) for name in ("q.jsonl", "lines.json")] == [2, 2]


def test_cells_beyond_the_header_and_columns_of_one_name_are_not_lost(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/a.jpg", 1)
    write_picture(tmp_path / "images/b.jpg", 2)
    header = "question,answers,image,image,note,note\n"
    (tmp_path / "q.csv").write_text(
        header + "Who?,Ada,images/a.jpg,images/b.jpg,x,y\nWho, then?,Ada,images/a.jpg,,x,y\nWhen?,1843\n\n"
    )
    asked = open_own(tmp_path / "q.csv")
    first, short = asked
    assert len(first.images) == 2 and first.metadata["note"] == "x" and first.metadata["note_2"] == "y"
    assert short.answers == ("1843",) and asked.report.dropped == {"row that cannot be read": 1}
    assert "line 3 has 7 cells, but the header 6" in asked.report.examples["row that cannot be read"][0]


def test_lines_in_another_encoding_are_told_and_cost_themselves(tmp_path: Path) -> None:
    lines = [json.dumps(ASKED), '{"question": "Où?", "answers": ["x"]}']
    (tmp_path / "q.jsonl").write_bytes("\n".join(lines).encode("cp1252"))
    asked = open_own(tmp_path / "q.jsonl")
    assert len(list(asked)) == 1 and "line 2 is not UTF-8 (byte 15 of it)" in asked.report.left_out
    (tmp_path / "q.jsonl").write_bytes(lines[1].encode("cp1252"))
    with pytest.raises(UserError, match=r"line 1 is not UTF-8 .*Save the file as UTF-8"):
        open_own(tmp_path / "q.jsonl")


def test_ids_that_several_rows_have_are_numbered_with_their_row(tmp_path: Path) -> None:
    rows = [{**ASKED, "id": name, "question": f"{n}?"} for n, name in enumerate(["1", "1", "1-row2", 1, "2"])]
    asked = open_own(write_lines(tmp_path / "q.jsonl", rows))
    names = [question.id for question in asked]
    assert names == ["1", "1-row2", "1-row2-row3", "1-row4", "2"] == [question.id for question in asked]
    assert asked.report.notes == {"id of another row, numbered": 3}
    assert asked.report.examples["id of another row, numbered"][0] == "row 2: 1 became 1-row2"


def test_a_conversation_of_one_question_is_one(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/a.jpg")
    said = [{"from": "human", "value": "<image>\nWhich tower?"}, {"from": "gpt", "value": "Big Ben"}]
    parts: list[dict[str, Any]] = [{"type": "image"}, {"type": "text", "text": "Which tower?"}]
    shown = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{base64_picture()}"}}
    rows = [
        {"messages": [{"role": "user", "content": [shown, *parts[1:]]}, {"role": "assistant", "content": "Big Ben"}]},
        {"conversations": said, "image": "images/a.jpg"},
        {"messages": [{"role": "user", "content": parts}], "images": ["images/a.jpg"], "answer": "Big Ben"},
    ]
    for question in open_own(write_json(tmp_path / "q.json", rows)):
        assert (question.text, question.answers, len(question.images)) == ("Which tower?", ("Big Ben",), 1)


@pytest.mark.parametrize(
    ("row", "text", "answers"),
    [
        ({"Question Text": "Who?", "Correct Answer": "Ada", "id": None}, "Who?", ("Ada",)),
        ({"q": "Who?", "a": "Ada"}, "Who?", ("Ada",)),
        ({"prompt": ["Who?"], "gold": ["Ada", "A. L."]}, "Who?", ("Ada", "A. L.")),
        ({"instruction": "Who?", "output": "Ada", "label": ""}, "Who?", ("Ada",)),
        ({"question": "Who?", "answers": {"text": ["Ada"], "answer_start": [3]}}, "Who?", ("Ada",)),
    ],
)
def test_questions_and_answers_by_other_names(
    tmp_path: Path, row: dict[str, Any], text: str, answers: tuple[str, ...]
) -> None:
    (question,) = open_own(write_json(tmp_path / "q.json", {"rows": [row]}))
    assert (question.text, question.answers) == (text, answers) and set(question.metadata) == {"benchmark"}


def test_rows_of_verl_keep_all_their_pictures(tmp_path: Path) -> None:
    pictures = [{"bytes": picture_bytes(n), "path": None} for n in range(2)]
    row = {"prompt": [{"role": "user", "content": "<image><image>Which?"}], "reward_model": {"ground_truth": "b"}}
    (question,) = open_own(write_table(tmp_path / "q.parquet", [{**row, "images": pictures}]))
    assert len(question.images) == 2 and question.text == "Which?"


def test_a_range_is_a_range(tmp_path: Path) -> None:
    rows = [{**ASKED, "answers": [{"range": [90, 100], "wikidata": 96}]}]
    (question,) = open_own(write_lines(tmp_path / "q.jsonl", rows))
    assert question.answers == ("96",) and question.metadata["answer_range"] == [90.0, 100.0]


def test_the_first_so_many_and_a_sample(tmp_path: Path) -> None:
    rows = [{**ASKED, "id": str(n), "answers": [] if n == 1 else ["a"]} for n in range(20)]
    path = write_lines(tmp_path / "q.jsonl", rows)
    assert [q.id for q in open_own(path, limit=3)] == ["0", "2", "3"]
    sampled = [q.id for q in open_own(path, sample=8, seed=1)]
    assert [q.id for q in open_own(path, sample=8, seed=1, limit=3)] == sampled[:3]


# Names in ids


def recipe(tmp_path: Path, benchmark: str) -> EvalRecipe:
    text = f"output: {tmp_path / 'out'}\nbenchmarks:\n- {benchmark}\nworkflows: {{direct: {{kind: direct}}}}\n"
    (tmp_path / "r.yaml").write_text(text)
    return load_recipe(tmp_path / "r.yaml", EvalRecipe)


@pytest.mark.parametrize(
    ("name", "title"),
    [("some/folder/mine.jsonl", "mine"), ("mine.CSV", "mine"), ("some/folder/", "folder"), ("okvqa", "okvqa")],
)
def test_a_file_of_ones_own_is_called_by_its_stem(tmp_path: Path, name: str, title: str) -> None:
    assert recipe(tmp_path, f"{{name: {name}}}").benchmarks[0].title == title


def test_a_name_that_would_break_ids_is_refused_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has a / in it"):
        recipe(tmp_path, "{name: okvqa, label: VQA v2 / val}")
    with pytest.raises(UserError, match="two benchmarks have the same name"):
        recipe(tmp_path, "{name: a/mine.jsonl}\n- {name: b/mine.csv}")
    with pytest.raises(UserError, match="has a / in it"):
        EvalRun(tmp_path / "run").describe([Described("direct", "direct")], [BenchmarkInfo("a/b")], [])
