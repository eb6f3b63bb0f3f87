"""What training reads: trajectories and questions, from whatever holds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deepmmsearch.data.convert import is_sharegpt, read_sharegpt, verl_question
from deepmmsearch.data.load_report import LoadReport, Skip
from deepmmsearch.data.own import open_own
from deepmmsearch.data.records import row_question, row_trajectory
from deepmmsearch.data.tables import BROKEN, ParquetRows, refuse_link_out, whole_row
from deepmmsearch.errors import UserError
from deepmmsearch.sealing import refuse_sealed
from deepmmsearch.store import FILE, TrajectoryStore
from deepmmsearch.types import Question, Trajectory


def read_trajectories(
    path: str | Path, split: str = "train", images: Path | None = None, report: LoadReport | None = None
) -> Iterator[Trajectory]:
    """The trajectories of a store's folder, of a data set (a folder or file of Parquet; of a folder with splits the
    files of `split`), or of a ShareGPT file, one at a time, with their pictures. `images`: a folder with pictures that
    the ShareGPT file may name, besides its own.

    Raises UserError when there are none at `path`, and for one that cannot be read; of a ShareGPT file that one is left
    out and counted in `report`, and of a data set, too, where there is one.
    """
    place = Path(path)
    if (place / FILE).is_file():
        for trajectory in TrajectoryStore(place):
            refuse_sealed(trajectory.question)
            yield trajectory
        return
    if is_sharegpt(place):
        yield from read_sharegpt(place, report, images)
        return
    files = parquet_files(place, split)
    if not files:
        raise UserError(
            f"There are no trajectories in {place}. Expected a folder with {FILE} or Parquet files, or a ShareGPT file."
        )
    for file in files:
        rows = ParquetRows([file])
        if len(rows) and "trajectory" not in rows[0] and BROKEN not in rows[0]:
            raise UserError(
                f"{file} holds questions without trajectories. Build some with: deepmmsearch data build RECIPE"
            )
        for number in range(len(rows)):
            try:
                trajectory = row_trajectory(whole_row(rows[number]))
            except Exception as error:  # whatever a row can bring about
                name, skip = f"{file.name}, row {number + 1}", _skip(error)
                if report is None:
                    raise UserError(f"{name} cannot be read: {skip}. Build the data again.") from None
                report.rows += 1
                report.drop(name, skip)
                continue
            yield trajectory


def holds_trajectories(path: str | Path) -> bool:
    """Is there anything for `read_trajectories`?"""
    place = Path(path)
    return (place / FILE).is_file() or is_sharegpt(place) or bool(parquet_files(place))


def read_questions(
    path: str | Path, split: str = "train", report: LoadReport | None = None, images: Path | None = None
) -> Iterator[Question]:
    """The questions of a data set, of a store's folder (each once), of verl's Parquet files, or of whatever
    `own.open_own` reads: JSONL, JSON, CSV, a folder with one, an atlas. Rows that cannot be read are left out and
    counted in `report`; `images` as for `own.open_own`.

    Raises UserError when there is nothing at `path`.
    """
    place = Path(path)
    if (place / FILE).is_file():
        seen = set()
        for trajectory in TrajectoryStore(place):
            refuse_sealed(trajectory.question)
            if trajectory.question.id not in seen:
                seen.add(trajectory.question.id)
                yield trajectory.question
        return
    files = parquet_files(place, split)
    counted = report if report is not None else LoadReport()
    if not files:
        asked = open_own(place, images)
        yield from asked
        counted.add(asked.report)
        return
    for file in files:
        rows = ParquetRows([file])
        if not {"image_hash", "prompt"} & set(rows.columns):
            asked = open_own(file, images)
            yield from asked
            counted.add(asked.report)
            continue
        for number in range(len(rows)):
            counted.rows += 1
            try:
                row = whole_row(rows[number])
                question = row_question(row) if "image_hash" in row else verl_question(row, number)
            except Exception as error:  # whatever a row can bring about: it costs that row, and no other
                counted.drop(f"{file.name}, row {number + 1}", _skip(error))
                continue
            counted.loaded += 1
            yield question


def _skip(error: Exception) -> Skip:
    return error if isinstance(error, Skip) else Skip("row in an unknown format", str(error)[:160])


def parquet_files(place: Path, split: str = "train") -> list[Path]:
    """The Parquet files at a place: the file itself, those of the split where the folder has splits, else all."""
    if place.is_file():
        return [place] if place.suffix in (".parquet", ".pq") else []
    files = [refuse_link_out(file, place) for file in sorted(place.glob("*.parquet"))] if place.is_dir() else []
    splits = {f.name.split("-")[0] for f in files}
    if split in splits:
        return [f for f in files if f.name.split("-")[0] == split]
    if splits & {"train", "validation", "test"}:
        raise UserError(f"{place} has no split {split!r}. It has: {', '.join(sorted(splits))}.")
    return files
