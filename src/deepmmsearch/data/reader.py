"""What training reads: trajectories and questions, from whatever holds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deepmmsearch.data.convert import is_sharegpt, read_sharegpt, verl_question
from deepmmsearch.data.load_report import LoadReport, Skip
from deepmmsearch.data.own import open_own
from deepmmsearch.data.records import row_question, row_trajectory
from deepmmsearch.data.tables import ParquetRows
from deepmmsearch.errors import UserError
from deepmmsearch.store import FILE, TrajectoryStore
from deepmmsearch.types import Question, Trajectory


def read_trajectories(path: str | Path, split: str = "train") -> Iterator[Trajectory]:
    """The trajectories of a store's folder, of a data set (a folder or file of Parquet; of a folder with splits the
    files of `split`), or of a ShareGPT file, one at a time, with their pictures.

    Raises UserError when there are none at `path`.
    """
    place = Path(path)
    if (place / FILE).is_file():
        yield from TrajectoryStore(place)
        return
    if is_sharegpt(place):
        yield from read_sharegpt(place)
        return
    files = parquet_files(place, split)
    if not files:
        raise UserError(
            f"There are no trajectories in {place}. Expected a folder with {FILE} or Parquet files, or a ShareGPT file."
        )
    for file in files:
        rows = ParquetRows([file])
        if len(rows) and "trajectory" not in rows[0]:
            raise UserError(
                f"{file} holds questions without trajectories. Build some with: deepmmsearch data build RECIPE"
            )
        for number in range(len(rows)):
            yield row_trajectory(rows[number])


def holds_trajectories(path: str | Path) -> bool:
    """Is there anything for `read_trajectories`?"""
    place = Path(path)
    return (place / FILE).is_file() or is_sharegpt(place) or bool(parquet_files(place))


def read_questions(path: str | Path, split: str = "train", report: LoadReport | None = None) -> Iterator[Question]:
    """The questions of a data set, of a store's folder (each once), of verl's Parquet files, or of whatever
    `own.open_own` reads: JSONL, JSON, CSV, a folder with one, an atlas. Rows that cannot be read are left out and
    counted in `report`.

    Raises UserError when there is nothing at `path`.
    """
    place = Path(path)
    if (place / FILE).is_file():
        seen = set()
        for trajectory in TrajectoryStore(place):
            if trajectory.question.id not in seen:
                seen.add(trajectory.question.id)
                yield trajectory.question
        return
    files = parquet_files(place, split)
    counted = report if report is not None else LoadReport()
    if not files:
        asked = open_own(place)
        yield from asked
        counted.add(asked.report)
        return
    for file in files:
        rows = ParquetRows([file])
        for number in range(len(rows)):
            row = rows[number]
            counted.rows += 1
            try:
                question = row_question(row) if "image_hash" in row else verl_question(row, number)
            except Skip as skip:
                counted.drop(f"{file.name}, row {number + 1}", skip)
                continue
            counted.loaded += 1
            yield question


def parquet_files(place: Path, split: str = "train") -> list[Path]:
    """The Parquet files at a place: the file itself, those of the split where the folder has splits, else all."""
    if place.is_file():
        return [place] if place.suffix in (".parquet", ".pq") else []
    files = sorted(place.glob("*.parquet")) if place.is_dir() else []
    splits = {f.name.split("-")[0] for f in files}
    if split in splits:
        return [f for f in files if f.name.split("-")[0] == split]
    if splits & {"train", "validation", "test"}:
        raise UserError(f"{place} has no split {split!r}. It has: {', '.join(sorted(splits))}.")
    return files
