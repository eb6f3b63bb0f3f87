"""A user's own questions: any of the usual files, pictures beside them, nothing dropped in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_files import shared, write_json, write_lines, write_picture
from deepmmsearch.data.own import open_own
from deepmmsearch.data.published import open_questions
from deepmmsearch.errors import UserError


def test_json_lines_with_pictures_beside_them(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/a.jpg")
    elsewhere = write_picture(tmp_path.parent / f"{tmp_path.name}-else" / "b.png", 2)
    rows = [
        {"id": "x", "question": "Who?", "answers": ["Ada", "Ada Lovelace"], "image": "a.jpg", "year": 1843},
        {"question": "Where?", "answer": "London", "image": str(elsewhere)},
        {"question": "When?", "answer": 1843},
        {"question": "Why?", "answers": []},
        {"question": "How?", "answer": "so", "image": "gone.jpg"},
    ]
    asked = open_own(write_lines(tmp_path / "mine.jsonl", rows), images=elsewhere.parent)
    questions = list(asked)
    assert [q.id for q in questions] == ["x", "mine-000001", "mine-000002"]
    assert questions[0].metadata == {"benchmark": "mine", "year": 1843} and questions[0].image is not None
    assert questions[1].image is not None and questions[2].image is None and questions[2].answers == ("1843",)
    assert asked.report.dropped == {"no answer": 1, "picture file missing": 1}


def test_csv_with_several_answers(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("id,question,answers,image\n1,Who is it?,Ada|Ada Lovelace,\n", encoding="utf-8")
    (question,) = list(open_own(tmp_path / "mine.csv"))
    assert question.answers == ("Ada", "Ada Lovelace") and question.image is None


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ("[2014, 2016]", ("[2014, 2016]",)),
        ("[2014]", ("[2014]",)),
        ("[1.5, 2]", ("[1.5, 2]",)),
        ("['Ada', 'Ada Lovelace']", ("Ada", "Ada Lovelace")),
        ('["2014", "2016"]', ("2014", "2016")),
        ("2014|2016", ("2014", "2016")),
    ],
)
def test_numbers_in_brackets_are_one_answer(tmp_path: Path, cell: str, answers: tuple[str, ...]) -> None:
    quoted = cell.replace('"', '""')
    (tmp_path / "mine.csv").write_text(f'question,answers\nWhen?,"{quoted}"\n', encoding="utf-8")
    lines = write_lines(tmp_path / "mine.jsonl", [{"question": "When?", "answers": cell.split("|")}])
    for path in (tmp_path / "mine.csv", lines):
        (question,) = list(open_own(path))
        assert question.answers == answers, path
    (listed,) = list(open_own(write_lines(tmp_path / "list.jsonl", [{"question": "When?", "answers": [2014, 2016]}])))
    assert listed.answers == ("2014", "2016")


@pytest.mark.parametrize("form", ["list", "data", "by id"])
def test_json_in_its_usual_shapes(tmp_path: Path, form: str) -> None:
    row = {"question": "Who?", "answer": "Ada"}
    shapes = {"list": [row], "data": {"data": [row]}, "by id": {"q1": row}}
    (question,) = list(open_own(write_json(tmp_path / "mine.json", shapes[form])))
    assert question.answers == ("Ada",)
    assert question.id == ("q1" if form == "by id" else "mine-000000")


def test_a_folder_and_an_atlas(tmp_path: Path) -> None:
    from deepmmsearch.atlas.questions import each_question
    from deepmmsearch.atlas.world import make_world
    from deepmmsearch.atlas.world_files import write_atlas

    world = make_world(3, countries=12, famous=1)
    write_atlas(world, tmp_path / "world", each_question(world, 3))
    asked = open_questions(str(tmp_path / "world"))
    questions = list(asked)
    assert len(questions) == 3 and all(q.image is not None and "plan" in q.metadata for q in questions)
    assert open_questions(str(tmp_path / "world"), sample=2).sample == 2


def test_pictures_outside_of_the_folder_are_not_read_through_dots(tmp_path: Path) -> None:
    write_picture(tmp_path / "secret.jpg")
    asked = open_own(
        write_lines(tmp_path / "q/mine.jsonl", [{"question": "Who?", "answer": "A", "image": "../secret.jpg"}])
    )
    assert list(asked) == [] and asked.report.dropped == {"picture file missing": 1}


def test_files_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"question": "Who?"\n')
    with pytest.raises(UserError, match=r"broken.jsonl, line 1 is not JSON"):
        list(open_own(tmp_path / "broken.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no questions"):
        open_own(tmp_path / "empty")
    (tmp_path / "mine.docx").write_text("")
    with pytest.raises(UserError, match="of no kind read here"):
        open_own(tmp_path / "mine.docx")
    with pytest.raises(UserError, match="neither --split nor --path"):
        open_questions(str(tmp_path / "broken.jsonl"), split="val")


def test_shared_questions() -> None:
    path = shared("image_questions.jsonl")
    if path is None:
        pytest.skip("the questions are not beside the project")
    asked = open_own(path)
    questions = list(asked)
    assert len(questions) == 30 and not asked.report.dropped
    assert all(q.image is not None and q.image.size == (720, 540) and q.metadata["gold_box"] for q in questions)
