"""General benchmarks: choices become lines, and what is officially accepted is accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from data_files import base64_picture, picture_bytes, write_lines, write_picture, write_table
from deepmmsearch.data.published import BENCHMARKS
from deepmmsearch.judge import RuleJudge
from deepmmsearch.types import Question

IMAGE = {"bytes": picture_bytes(), "path": None}


def only(name: str, path: Path) -> Question:
    asked = BENCHMARKS.find(name).open(path)
    (question,) = list(asked)
    assert question.image is not None and not asked.report.dropped, asked.report
    return question


def right(question: Question, answer: str) -> bool:
    return RuleJudge("official").verdict(question, answer).correct


def test_ocrbench(tmp_path: Path) -> None:
    row = {"dataset": "IIIT5K", "question": "what is written?", "question_type": "Regular", "answer": ["CENTRE"]}
    question = only("ocrbench", write_table(tmp_path / "test.parquet", [{**row, "image": IMAGE}]))
    assert question.answers == ("CENTRE",) and right(question, "It says centre.") and not right(question, "cent")


def test_ocrbench_as_its_authors_publish_it(tmp_path: Path) -> None:
    write_picture(tmp_path / "HME100K/1.jpg")
    row = {"id": 7, "image_path": "HME100K/1.jpg", "question": "Write the formula."}
    formula = {**row, "dataset_name": "HME100k", "type": "Handwritten", "answers": ["y _ { 2 } = X\n", "y_2 = X\n"]}
    word = {**row, "dataset_name": "IIIT5K", "type": "Regular Text Recognition", "answers": "[1, 2]"}
    (tmp_path / "OCRBench.json").write_text(json.dumps([formula, word]))
    asked = BENCHMARKS.find("ocrbench").open(tmp_path / "OCRBench.json")
    first, second = list(asked)
    assert not asked.report.dropped and [first.id, second.id] == ["ocrbench-HME100k-7", "ocrbench-IIIT5K-7"]
    assert right(first, "$y_{2}=X$") and right(first, "y_2=X") and not right(first, "y_2=x")
    assert second.answers == ("[1, 2]",) and right(second, "it says [1, 2]") and not right(second, "1")


def test_mmvet(tmp_path: Path) -> None:
    row = {"question_id": "v1_0", "question": "What is x?", "answer": "-1 <AND> -5", "capability": "ocr,math"}
    question = only("mmvet", write_table(tmp_path / "test.parquet", [{**row, "image": IMAGE}]))
    assert question.id == "mmvet-v1_0" and question.metadata["answer_lists"] == [["-1", "-5"]]
    row["answer"] = "1.25 <OR> 5/4"
    question = only("mmvet", write_table(tmp_path / "or.parquet", [{**row, "image": IMAGE}]))
    assert question.answers == ("1.25", "5/4") and question.metadata["answer_type"] == "string"


def test_ai2d(tmp_path: Path) -> None:
    row = {"question": "Who eats grass?", "options": ["fox", "rabbit", "owl", "hawk"], "answer": "1", "image": IMAGE}
    question = only("ai2d", write_table(tmp_path / "test.parquet", [row]))
    assert question.text.endswith("A. fox\nB. rabbit\nC. owl\nD. hawk") and question.answers == ("B", "rabbit")
    assert right(question, "B") and right(question, "rabbit") and not right(question, "A")


@pytest.mark.parametrize(
    ("given", "answers", "kind"),
    [
        (
            {"choices": None, "answer": "1.2", "answer_type": "float", "precision": 1.0, "unit": "m"},
            ("1.2",),
            "numerical",
        ),
        ({"choices": ["yes", "no"], "answer": "no", "answer_type": "text"}, ("B", "no"), "choice"),
        ({"choices": None, "answer": "[1, 2]", "answer_type": "list"}, ("[1, 2]",), "string"),
    ],
)
def test_mathvista(tmp_path: Path, given: dict[str, object], answers: tuple[str, ...], kind: str) -> None:
    row = {"pid": "1", "question": "How much?", "image": "images/1.jpg", "decoded_image": IMAGE, **given}
    question = only("mathvista", write_table(tmp_path / "testmini.parquet", [row]))
    assert question.answers == answers and question.metadata["answer_type"] == kind


def test_mmbench_of_its_authors_and_of_the_hub(tmp_path: Path) -> None:
    row = {"index": 7, "question": "Which one?", "hint": float("nan"), "A": "cat", "B": "dog", "C": "nan", "D": None}
    table = {**row, "C": "", "answer": "B", "category": "identity", "image": IMAGE}
    question = only("mmbench", write_table(tmp_path / "dev.parquet", [table]))
    assert question.text == "Which one?\nA. cat\nB. dog" and question.answers == ("B", "dog")

    columns = ("index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "split")
    values = ("7", "Which one?", "Look.", "cat", "dog", "", "", "B", "identity", base64_picture(), "dev")
    (tmp_path / "mmbench_dev.tsv").write_text("\t".join(columns) + "\n" + "\t".join(values) + "\n")
    question = only("mmbench", tmp_path / "mmbench_dev.tsv")
    assert question.text.startswith("Look.\nWhich one?") and question.answers == ("B", "dog")


def test_rotations_of_mmbench_are_one_question(tmp_path: Path) -> None:
    columns = ("index", "question", "A", "B", "C", "answer", "image")
    rows = [("7", "Which?", "cat", "dog", "", "B", base64_picture()), ("1000007", "Which?", "dog", "cat", "", "A", "7")]
    text = "\n".join("\t".join(row) for row in (columns, *rows))
    (tmp_path / "MMBench_DEV_EN.tsv").write_text(text + "\n")
    asked = BENCHMARKS.find("mmbench").open(tmp_path / "MMBench_DEV_EN.tsv")
    first, second = list(asked)
    assert not asked.report.dropped and first.image is not None and second.image is not None
    assert [first.id, second.id] == ["mmbench-7", "mmbench-1000007"] and second.text.endswith("A. dog\nB. cat")
    assert first.metadata["circular"] == second.metadata["circular"] == "mmbench-7"
    assert right(first, "B") and right(second, "A") and not right(second, "B")


@pytest.mark.parametrize("name", ["docvqa", "infovqa"])
def test_documents(tmp_path: Path, name: str) -> None:
    row = {"questionId": "49153", "question": "What is the brand?", "answers": ["itc limited", "ITC"], "image": IMAGE}
    question = only(name, write_table(tmp_path / "val.parquet", [row]))
    assert question.id == f"{name}-49153" and question.answers == ("itc limited", "ITC")
    assert right(question, "ITC Limitd") and not right(question, "Philip Morris")


def test_test_splits_have_no_answers(tmp_path: Path) -> None:
    row = {"questionId": 1, "question": "What?", "answers": None, "image": base64_picture()}
    asked = BENCHMARKS.find("docvqa").open(write_lines(tmp_path / "val.jsonl", [row]))
    assert list(asked) == [] and asked.report.dropped == {"no answer": 1}
