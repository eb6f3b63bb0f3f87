"""The Parquet format: what is written is read again, by us and by the `datasets` library."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("pyarrow")

from data_files import picture, picture_bytes, write_lines, write_table
from deepmmsearch import images
from deepmmsearch.data.reader import read_questions, read_trajectories
from deepmmsearch.data.records import (
    COLUMNS,
    Encoding,
    question_row,
    read_rows,
    row_question,
    row_trajectory,
    trajectory_row,
    write_rows,
)
from deepmmsearch.errors import UserError
from deepmmsearch.renderer import messages
from deepmmsearch.store import TrajectoryStore, to_dict
from deepmmsearch.testing import trajectories
from deepmmsearch.types import Question, Trajectory


def plain(trajectory: Trajectory) -> dict[str, object]:
    """Everything, with pictures by their digest."""
    return to_dict(trajectory, images.digest)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trajectories(max_turns=3))
def test_any_trajectory_survives(tmp_path: Path, trajectory: Trajectory) -> None:
    # a row's own columns win over metadata of the same name
    metadata = {k: v for k, v in trajectory.question.metadata.items() if k not in ("category", "search_required")}
    trajectory = replace(trajectory, question=replace(trajectory.question, metadata=metadata))
    path = tmp_path / "one.parquet"
    assert write_rows([trajectory_row(trajectory)], path) == 1
    (row,) = read_rows(path)
    assert plain(row_trajectory(row)) == plain(trajectory)


def test_the_datasets_library_knows_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    question = Question("q1", "Who?", (picture(1),), ("Ada",), {"benchmark": "mine"})
    write_rows([question_row(question), question_row(Question("q2", "Why?"))], tmp_path / "train-00000.parquet")
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "train-*.parquet"), split="train")
    assert tuple(rows.column_names) == COLUMNS
    assert isinstance(rows.features["image"], datasets.Image)
    assert images.digest(rows[0]["image"]) == images.digest(picture(1))
    assert rows[1]["image"] is None and list(rows[0]["answers"]) == ["Ada"]


def test_columns_tell_category_and_search() -> None:
    row = {**question_row(Question("q", "Who?", metadata={"kind": "text"})), "category": "People", "search": "required"}
    assert row_question(row).metadata == {"kind": "text", "category": "People", "search_required": True}


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_pictures_are_kept_as_told(format: str) -> None:
    large = picture(1, (400, 300))
    row = question_row(Question("q", "Who?", (large,)), Encoding(format, 92, 30_000))
    seen = row_question(row).image
    assert seen is not None and seen.width * seen.height <= 30_000 and abs(seen.width / seen.height - 4 / 3) < 0.05
    same = row_question(question_row(Question("q", "Who?", (large,)), Encoding(format))).image
    assert same is not None and same.size == large.size
    assert (images.digest(same) == images.digest(large)) == (format == "PNG")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def rows() -> object:
        yield question_row(Question("q", "Who?"))
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_rows(rows(), tmp_path / "x.parquet")  # type: ignore[arg-type]
    assert not (tmp_path / "x.parquet").exists()
    assert write_rows([], tmp_path / "none.parquet") == 0 and list(read_rows(tmp_path / "none.parquet")) == []


def test_damaged_data_are_named() -> None:
    with pytest.raises(UserError, match="question without a trajectory"):
        row_trajectory(question_row(Question("q", "Who?")))
    row = {**question_row(Question("q", "Who?")), "image": {"bytes": b"", "path": "/etc/passwd"}}
    with pytest.raises(UserError, match="outside of the file"):
        row_question(row)
    with pytest.raises(UserError, match="are no JSON"):
        question_row(Question("q", "Who?", metadata={"x": {1}}))


def played(name: str) -> Trajectory:
    from deepmmsearch.types import Answer, Completion, Prompt, Turn

    question = Question(name, f"Who is {name}?", (picture(len(name)),), ("Ada",))
    text = "<reason>I know.</reason><answer>Ada</answer>"
    turn = Turn(Completion(text), Answer("Ada"))
    return Trajectory(question, Prompt("p", "deepmmsearch-r1", "Be brief."), turns=(turn,), stop="answer")


def test_training_reads_stores_and_data_sets_alike(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path / "store")
    for name in ("a", "bb"):
        store.append(played(name))
    write_rows([trajectory_row(played("a"))], tmp_path / "set/train-00000.parquet")
    write_rows([trajectory_row(played("bb"))], tmp_path / "set/train-00001.parquet")
    write_rows([trajectory_row(played("ccc"))], tmp_path / "set/validation-00000.parquet")

    kept = [plain(t) for t in read_trajectories(tmp_path / "store")]
    assert kept == [plain(t) for t in read_trajectories(tmp_path / "set")]
    assert [t.question.id for t in read_trajectories(tmp_path / "set", "validation")] == ["ccc"]
    assert [q.id for q in read_questions(tmp_path / "store")] == [q.id for q in read_questions(tmp_path / "set")]
    assert messages(next(read_trajectories(tmp_path / "set")))[0] == messages(played("a"))[0]
    with pytest.raises(UserError, match="no split 'test'"):
        list(read_trajectories(tmp_path / "set", "test"))
    with pytest.raises(UserError, match="no trajectories in"):
        list(read_trajectories(tmp_path))


def test_questions_from_verl_and_from_lines(tmp_path: Path) -> None:
    reward = {"ground_truth": "Spain", "candidate_answers": json.dumps(["ES"]), "style": "rule"}
    row = {"prompt": [{"role": "user", "content": "Where?"}], "images": [{"bytes": picture_bytes()}]}
    write_table(tmp_path / "verl.parquet", [{**row, "reward_model": reward, "data_source": "mmsearch_r1/x"}])
    (question,) = read_questions(tmp_path / "verl.parquet")
    assert question.answers == ("Spain", "ES") and question.image is not None
    (mine,) = read_questions(write_lines(tmp_path / "mine.jsonl", [{"question": "Who?", "answer": "Ada"}]))
    assert mine.answers == ("Ada",)


def test_fine_tuning_takes_a_data_set_for_a_store(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("trl")
    from deepmmsearch.data.reader import holds_trajectories
    from deepmmsearch.train.sft import SftRecipe, train

    write_rows([trajectory_row(played("a"))], tmp_path / "set/train-00000.parquet")
    TrajectoryStore(tmp_path / "store").append(played("a"))
    assert holds_trajectories(tmp_path / "set") and holds_trajectories(tmp_path / "store")
    (tmp_path / "empty").mkdir()
    data = [tmp_path / "set", tmp_path / "empty"]
    with pytest.raises(UserError, match=r"There are no trajectories in .*empty: ") as refused:
        train(SftRecipe(model="none", data=data, output=tmp_path / "out"))
    assert str(tmp_path / "set") not in str(refused.value)
    # the data are found, so the next thing that is missing is the model
    with pytest.raises(UserError, match="none"):
        train(SftRecipe(model=str(tmp_path / "none"), data=data[:1], output=tmp_path / "out"))
