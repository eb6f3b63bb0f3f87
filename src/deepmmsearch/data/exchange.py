"""From any of the formats to any other: what `deepmmsearch data convert` does."""

from __future__ import annotations

from pathlib import Path

from deepmmsearch.data.convert import is_sharegpt, read_sharegpt, write_sharegpt, write_verl
from deepmmsearch.data.load_report import LoadReport
from deepmmsearch.data.published import BENCHMARKS, open_questions
from deepmmsearch.data.reader import parquet_files, read_questions, read_trajectories
from deepmmsearch.data.records import question_row, trajectory_row, write_rows
from deepmmsearch.data.tables import ParquetRows
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.store import TrajectoryStore

FORMATS = ("verl", "sharegpt", "store", "parquet")


def write_as(
    path: Path, out: Path, to: str, split: str = "train", images: Path | None = None
) -> tuple[int, LoadReport]:
    """Converts what is at `path` (a store, a data set, verl's Parquet, ShareGPT, a file of questions, a benchmark's
    name) to `out`: a file for verl and ShareGPT, a folder for a store or a data set. Gives the rows written and what
    was left out.

    Raises UserError when `out` is there already, or `path` holds questions where trajectories are needed.
    """
    if to not in FORMATS:
        raise UnknownName("format", to, FORMATS)
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} is there already. Give another place.")
    report = LoadReport()
    if not path.exists() and str(path) in BENCHMARKS.names():
        return _write_benchmark(str(path), out, to, split)
    trajectories = read_sharegpt(path, report, images) if is_sharegpt(path) else None
    if to == "verl":
        asked = (t.question for t in trajectories) if trajectories else read_questions(path, split, report, images)
        return write_verl(asked, out), report
    files = parquet_files(path, split)
    questions_only = bool(files) and not ParquetRows(files[:1])[0].get("trajectory")
    bare = path.is_file() and not files and trajectories is None
    if to == "parquet" and (questions_only or bare):
        rows = (question_row(question) for question in read_questions(path, split, report, images))
        return write_rows(rows, out / f"{split}-00000.parquet"), report
    played = trajectories if trajectories is not None else read_trajectories(path, split, report=report)
    if to == "parquet":
        return write_rows((trajectory_row(t) for t in played), out / f"{split}-00000.parquet"), report
    if to == "sharegpt":
        return write_sharegpt(played, out), report
    store = TrajectoryStore(out)
    return sum(1 for trajectory in played if store.append(trajectory)), report


def _write_benchmark(name: str, out: Path, to: str, split: str) -> tuple[int, LoadReport]:
    """All questions of a split."""
    if to not in ("verl", "parquet"):
        raise UserError(f"{name} holds questions, of which {to} cannot be made. Choose verl or parquet.")
    asked = open_questions(name, split=split, sample=0)
    if to == "verl":
        return write_verl(asked, out), asked.report
    return write_rows(map(question_row, asked), out / f"{split}-00000.parquet"), asked.report
