"""A user's own questions as a benchmark: a JSONL, JSON, CSV, TSV or Parquet file, a folder with one, or an atlas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepmmsearch.data.answers import flatten, number_range
from deepmmsearch.data.benchmark import Draft, QuestionSet
from deepmmsearch.data.columns import ANSWERS, NAME, TEXT, first, picture_columns, plain_names
from deepmmsearch.data.knowledge import fvqa, metadata_of, role_and_content, without_placeholders
from deepmmsearch.data.layouts import find_annotations, picture_folders
from deepmmsearch.data.load_report import Skip
from deepmmsearch.data.pictures import names_nothing
from deepmmsearch.data.records import row_question
from deepmmsearch.data.tables import SUFFIXES, Row, read_table
from deepmmsearch.errors import UserError
from deepmmsearch.notation import parse_json

_READ = {*TEXT, *ANSWERS, *NAME}


def open_own(
    path: Path, images: Path | None = None, sample: int | None = None, seed: int = 0, limit: int | None = None
) -> QuestionSet:
    """The questions at `path`, one row each: `question`, `answers` (several: a list, or `|` between them in CSV),
    `image` (a path beside the file or below it, an address, bytes; or several), `id`; every other column becomes
    metadata. Pictures of any other folder are read where it is given as `images`. `sample`, `seed` and `limit` as for
    `open_questions`.

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

    return QuestionSet(stem, rows, convert, folders, sample, seed, roots=allowed, limit=limit)


def own_question(row: Row, number: int, name: str = "own", delimited: bool = False) -> Draft:
    """Names of columns are read in any case. Raises Skip where there is no question."""
    if isinstance(row.get("prompt"), list) and "reward_model" in row:
        return replace(fvqa(row, number), needs_picture=False)
    if "image_hash" in row and "trajectory" in row:
        return _row_of_ours(row)
    columns = _conversation(plain_names(row))
    asked, key, called = first(columns, TEXT), first(columns, ANSWERS), first(columns, NAME)
    if asked is None:
        raise Skip("no question", f"columns: {', '.join(map(str, row))}")
    pictures, shown, unread = picture_columns(columns)
    if delimited:
        pictures = [part for each in pictures for part in _alternatives(each)]
    given = columns[key] if key else None
    ends = number_range(given)
    if ends is not None:
        answers = flatten(given) or flatten(sum(ends) / 2)
    else:
        answers = [part for text in flatten(given) for part in (_alternatives(text) if delimited else (text,))]
    metadata = metadata_of(columns.get("metadata"))
    used = {asked, key, called, *shown, "metadata"}
    metadata |= {name: value for name, value in columns.items() if name not in used and _tells(name, value, unread)}
    if ends is not None:
        metadata |= {"answer_type": "numerical", "answer_range": list(ends)}
    text = columns[asked]
    text = text[0] if isinstance(text, list) and len(text) == 1 else text
    if not isinstance(text, str | int | float):
        raise Skip("question in an unknown form", f"{asked} is a {type(text).__name__}")
    text = str(text)
    return Draft(
        str(columns[called]) if called is not None else f"{name}-{number:06d}",
        without_placeholders(text) if pictures else text,
        pictures,
        answers,
        metadata,
        needs_picture=False,
        notes=tuple(f"column {each[:60]}, which seems to hold a picture, not read" for each in unread[:8]),
    )


def _shown(part: Any) -> Any:
    """The picture of a part of a message, None where it is one of text."""
    keys = ("image", "image_url", "source")
    return next((part[key] for key in keys if part.get(key)), None) if isinstance(part, Mapping) else None


def _row_of_ours(row: Row) -> Draft:
    """Of a data set: its trajectory is left aside."""
    found = row_question(row, picture=False)
    pictures = [row["image"], *(row.get("further_images") or ())]
    return Draft(
        found.id, found.text, pictures, found.answers, found.metadata, needs_picture=False, history=found.history
    )


def _alternatives(text: Any) -> list[Any]:
    """What stands between `|` in a cell."""
    return [part.strip() for part in text.split("|")] if isinstance(text, str) and len(text) < 4096 else [text]


def _conversation(columns: dict[str, Any]) -> dict[str, Any]:
    """One question and one answer that are written as messages of a user and an assistant, as columns."""
    key = next((k for k in ("messages", "conversations", "prompt") if isinstance(columns.get(k), list)), None)
    if key is None:
        return columns
    said = [role_and_content(m) for m in columns[key] if isinstance(m, Mapping)]
    roles = [role for role, _ in said if role != "system"]
    if roles not in (["user"], ["user", "assistant"]):
        return columns
    texts = dict(said)
    kept = {name: value for name, value in columns.items() if name != key}
    contents = [m.get("content") for m in columns[key] if isinstance(m, Mapping)]
    shown = [_shown(part) for content in contents if isinstance(content, list) for part in content]
    if any(shown) and not picture_columns(kept)[0]:
        kept["images"] = list(filter(None, shown))
    answered = {"answer": texts["assistant"]} if "assistant" in texts and first(columns, ANSWERS) is None else {}
    return {**kept, "question": texts["user"], **answered}


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


def _tells(name: str, value: Any, unread: list[str]) -> bool:
    """Is a column metadata? Empty ones that might have been read are not, nor pictures that are not read."""
    if (name in _READ and names_nothing(value)) or (name in unread and len(str(value)) > 1024):
        return False
    return _plain(value)


def _plain(value: Any) -> bool:
    try:
        parse_json(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return False
    return True
