"""From any of the formats to any other: what `deepmmsearch data convert` does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from deepmmsearch.data.convert import is_sharegpt, write_sharegpt, write_verl
from deepmmsearch.data.load_report import LoadReport
from deepmmsearch.data.published import find_benchmark, open_questions
from deepmmsearch.data.reader import parquet_files, read_questions, read_trajectories
from deepmmsearch.data.records import question_row, read_rows, trajectory_row, write_rows
from deepmmsearch.data.tables import ParquetRows
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.store import FILE as STORED
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Question, Trajectory

FORMATS = ("verl", "sharegpt", "store", "parquet")
TRAINING = "train"
FIRST = f"{TRAINING}-00000.parquet"
"""Whatever split they are of: the questions of a folder that training reads."""


@dataclass(frozen=True)
class Chosen:
    """Which questions of a benchmark, or of a file, are converted: `path`: its local files; `sample` of them, drawn
    with `seed` (None: all); at most `limit`."""

    path: Path | None = None
    sample: int | None = None
    seed: int = 0
    limit: int | None = None


ALL = Chosen()


def write_as(
    source: Path, out: Path, to: str, split: str | None = None, images: Path | None = None, chosen: Chosen = ALL
) -> tuple[int, LoadReport]:
    """Converts what is at `source` (a store, a data set, verl's Parquet, ShareGPT, a file of questions, a benchmark's
    name) to `out`: a file for verl and ShareGPT, a folder for a store or a data set. `split`: of a data set (train) or
    of a benchmark (the one that is evaluated). Gives the rows written and what was left out.

    Raises UserError when `out` is there already, or `source` holds questions where trajectories are needed.
    """
    if to not in FORMATS:
        raise UnknownName("format", to, FORMATS)
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} is there already. Give another place.")
    files = parquet_files(source, split or TRAINING)
    known = find_benchmark(str(source)) is not None
    ours = bool(files) and not {"image_hash", "prompt"}.isdisjoint(ParquetRows(files[:1]).columns)
    if known or not (ours or (source / STORED).is_file() or is_sharegpt(source)):
        # a benchmark, or a table of one's own
        questions = open_questions(
            str(source),
            path=chosen.path,
            images=images,
            split=split,
            sample=chosen.sample or 0,
            seed=chosen.seed,
            limit=chosen.limit,
        )
        count = _write_questions(questions, out, to, str(source))
        return count, questions.report
    if chosen != ALL:
        raise UserError(
            f"{source} is not a benchmark, nor a table of questions: leave out --path, --sample and --limit."
        )
    report = LoadReport()
    if files and not any(row.get("trajectory") for row in islice(read_rows(files[0]), 1)):
        found = read_questions(source, split or TRAINING, report, images)
        return _write_questions(found, out, to, str(source)), report
    trajectories = read_trajectories(source, split or TRAINING, images, report)
    if to == "verl":
        return write_verl(_each_once(trajectories), out), report
    if to == "parquet":
        return write_rows(map(trajectory_row, trajectories), out / FIRST), report
    if to == "sharegpt":
        return write_sharegpt(trajectories, out), report
    store = TrajectoryStore(out)
    return sum(1 for trajectory in trajectories if store.append(trajectory)), report


def _each_once(trajectories: Iterable[Trajectory]) -> Iterator[Question]:
    seen = set()
    for trajectory in trajectories:
        if trajectory.question.id not in seen:
            seen.add(trajectory.question.id)
            yield trajectory.question


def _write_questions(questions: Iterable[Question], out: Path, to: str, source: str) -> int:
    if to == "verl":
        return write_verl(questions, out)
    if to == "sharegpt":
        return write_sharegpt(questions, out)
    if to == "store":
        raise UserError(f"{source} holds questions without trajectories, of which {to} cannot be made. Choose parquet.")
    return write_rows(map(question_row, questions), out / FIRST)
