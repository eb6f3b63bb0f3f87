"""A user's own questions as a benchmark: a JSONL, JSON, CSV, TSV or Parquet file, a folder with one, or an atlas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepmmsearch.data.answers import flatten
from deepmmsearch.data.benchmark import Draft, QuestionSet
from deepmmsearch.data.knowledge import fvqa
from deepmmsearch.data.layouts import find_annotations, picture_folders
from deepmmsearch.data.load_report import Skip
from deepmmsearch.data.tables import SUFFIXES, Row, read_table
from deepmmsearch.errors import UserError
from deepmmsearch.notation import parse_json

TEXT = ("question", "query", "text", "prompt")
ANSWERS = ("answers", "answer", "gt_answer", "ground_truth")
PICTURE = ("image", "image_path", "img_path", "picture", "image_url", "file")
NAME = ("id", "question_id", "data_id", "sample_id")


def open_own(path: Path, images: Path | None = None, sample: int | None = None, seed: int = 0) -> QuestionSet:
    """The questions at `path`, one row each: `question`, `answers` (several: a list, or `|` between them in CSV),
    `image` (a path beside the file or below it, an address, bytes), `id`; every other column becomes metadata. Pictures
    of any other folder are read where it is given as `images`.

    Raises UserError when there is no such file or the folder holds no table.
    """
    table = _find_table(path)
    rows = read_table(table)
    home = path if path.is_dir() else table.parent
    allowed = (*((images,) if images else ()), home)
    folders = (*allowed, *picture_folders(home)[1:])
    delimited = table.suffix.lower() in (".csv", ".tsv")
    stem = path.stem if path.is_file() else path.name

    def convert(row: Row, number: int) -> Draft:
        return own_question(row, number, stem, delimited)

    return QuestionSet(stem, rows, convert, folders, sample, seed, roots=allowed)


def own_question(row: Row, number: int, name: str = "own", delimited: bool = False) -> Draft:
    if isinstance(row.get("prompt"), list) and "reward_model" in row:
        return fvqa(row, number)
    text = _first(row, TEXT)
    if text is None:
        raise Skip("no question", f"columns: {', '.join(map(str, row))}")
    key = next((k for k in ANSWERS if row.get(k) not in (None, "", [])), None)
    given = row.get(key) if key else None
    answers = [part for text in flatten(given) for part in (text.split("|") if delimited else (text,))]
    picture = _first(row, PICTURE)
    metadata = _metadata(row.get("metadata"))
    used = {*TEXT, *ANSWERS, *PICTURE, *NAME, "metadata"}
    metadata |= {str(k): v for k, v in row.items() if k not in used and _plain(v)}
    identifier = _first(row, NAME)
    return Draft(
        str(identifier) if identifier is not None else f"{name}-{number:06d}",
        str(text),
        picture,
        answers,
        metadata,
        needs_picture=False,
    )


def _metadata(found: Any) -> dict[str, Any]:
    if isinstance(found, str) and found.strip().startswith("{"):
        try:
            found = parse_json(found)
        except ValueError:
            return {"metadata": found}
    return dict(found) if isinstance(found, Mapping) else {}


def _find_table(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"There is no file or folder {path}. Give questions as one of {', '.join(SUFFIXES)}.")
    found = find_annotations(path, "questions") or find_annotations(path)
    if found is not None:
        return found
    if any(path.rglob("*.parquet")):
        return path
    raise UserError(f"{path} holds no questions. Expected a questions.jsonl or questions.csv in it.")


def _first(row: Row, keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key) not in (None, "")), None)


def _plain(value: Any) -> bool:
    try:
        parse_json(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return False
    return True
