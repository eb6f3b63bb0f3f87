"""The file format of data sets: Parquet with pictures (the `datasets` library's Image type), one question a row, with
the trajectory that answered it where there is one. The same files feed fine-tuning and reinforcement learning.

| column | type | |
|---|---|---|
| id, question, source | string | `source`: the benchmark |
| image | Image | as the tools see it; the first, where the question has several |
| answers | list of string | all accepted |
| category | string | of the knowledge taxonomy |
| search | string | "required" or "free" |
| metadata | string | JSON |
| trajectory | string | JSON of `store.to_dict`, its pictures as numbers |
| pictures | list of Image | the trajectory's own, by number |
| further_images | list of Image | the question's second picture and those after it |
| history | string | JSON: earlier questions of the conversation and their answers |
| image_hash | string | perceptual hash, 64 bits in hexadecimal |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.data.pictures import encode
from deepmmsearch.data.tables import ParquetRows, Row, pyarrow_parquet
from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.files import replacing
from deepmmsearch.notation import json_text, parse_json, without_halves
from deepmmsearch.sealing import refuse_sealed
from deepmmsearch.store import from_dict, to_dict
from deepmmsearch.types import Exchange, Question, Trajectory

_TEXTS = ("id", "question", "source", "category", "search", "metadata", "trajectory", "history", "image_hash")
COLUMNS = (
    "id",
    "question",
    "image",
    "answers",
    "source",
    "category",
    "search",
    "metadata",
    "trajectory",
    "pictures",
    "further_images",
    "history",
    "image_hash",
)
ROW_GROUP = 100


@dataclass(frozen=True)
class Encoding:
    """How pictures are kept: PNG is exact, JPEG and WEBP are smaller. `max_pixels`: larger ones are made smaller."""

    format: str = "PNG"
    quality: int = 92
    max_pixels: int | None = None

    def __call__(self, image: Image) -> bytes:
        if self.max_pixels is not None and image.width * image.height > self.max_pixels:
            scale = (self.max_pixels / (image.width * image.height)) ** 0.5
            size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
            image = image.resize(size, resample=1)
        return encode(image, self.format, self.quality)


EXACT = Encoding()


def schema() -> Any:
    """The Arrow schema, with the note by which the `datasets` library knows the pictures."""
    try:
        import pyarrow as pa
    except ModuleNotFoundError as error:
        raise MissingExtra("Reading Parquet files", "data") from error
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    types = {
        "image": picture,
        "answers": pa.list_(pa.string()),
        **dict.fromkeys(("pictures", "further_images"), pa.list_(picture)),
    }
    text = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "answers": {"feature": text, "_type": "Sequence"},
        "pictures": {"feature": {"_type": "Image"}, "_type": "Sequence"},
        "further_images": {"feature": {"_type": "Image"}, "_type": "Sequence"},
    }
    listed = {name: features.get(name, text) for name in COLUMNS}
    note = json.dumps({"info": {"features": listed}})
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS], metadata={"huggingface": note})


def question_row(question: Question, encoding: Encoding = EXACT, image_hash: str | None = None) -> dict[str, Any]:
    """The row of a question. Raises UserError for metadata that are no JSON, and for a question that is published
    encrypted."""
    refuse_sealed(question)
    try:
        metadata = json_text(dict(question.metadata))
    except (TypeError, ValueError) as error:
        raise UserError(f"The metadata of question {question.id!r} are no JSON: {error}.") from None
    category = question.metadata.get("category")
    return {
        "id": without_halves(question.id),
        "question": without_halves(question.text),
        "image": _picture(encoding(question.image)) if question.image is not None else None,
        "answers": list(map(without_halves, question.answers)),
        "source": without_halves(str(question.metadata.get("benchmark", ""))),
        "category": None if category is None else without_halves(str(category)),
        "search": None,
        "metadata": metadata,
        "trajectory": None,
        "pictures": [],
        "further_images": [_picture(encoding(image)) for image in question.images[1:]],
        "history": json_text([asdict(e) for e in question.history]) if question.history else None,
        "image_hash": image_hash,
    }


def with_trajectory(row: Row, trajectory: Trajectory, encoding: Encoding = EXACT) -> dict[str, Any]:
    """The row with how its question was answered; the question's own pictures stay in their columns."""
    pictures: list[dict[str, Any]] = []

    def keep(image: Image) -> str:
        pictures.append(_picture(encoding(image)))
        return str(len(pictures) - 1)

    bare = replace(trajectory, question=replace(trajectory.question, images=()))
    return {**row, "trajectory": json_text(to_dict(bare, keep)), "pictures": pictures}


def trajectory_row(trajectory: Trajectory, encoding: Encoding = EXACT) -> dict[str, Any]:
    return with_trajectory(question_row(trajectory.question, encoding), trajectory, encoding)


def row_question(row: Row, *, picture: bool = True) -> Question:
    """The question of a row; its metadata tell `category` and `search_required` where the row does. `picture` off
    leaves the picture undecoded."""
    metadata = _parsed(row, "metadata", "{}")
    if row.get("category"):
        metadata["category"] = row["category"]
    if row.get("search"):
        metadata["search_required"] = row["search"] == "required"
    stored = [row["image"], *(row.get("further_images") or ())] if picture and row.get("image") is not None else []
    history = tuple(Exchange(**earlier) for earlier in _parsed(row, "history", "[]"))
    return Question(
        str(row["id"]),
        str(row["question"]),
        tuple(_load(image, row["id"]) for image in stored),
        tuple(map(str, row["answers"] or ())),
        metadata,
        history,
    )


def row_trajectory(row: Row, *, picture: bool = True) -> Trajectory:
    """The trajectory of a row, with the row's question. Raises UserError where there is none."""
    if not row.get("trajectory"):
        raise UserError(f"Row {row.get('id')!r} holds a question without a trajectory. Give data with trajectories.")
    pictures = row.get("pictures") or []

    def own(number: str) -> Image:
        if not number.isdecimal() or len(number) > 6 or int(number) >= len(pictures):
            raise UserError(f"Row {row.get('id')!r} names a picture {number[:80]!r} that it does not hold.")
        return _load(pictures[int(number)], row["id"])

    found = from_dict(_parsed(row, "trajectory", "{}"), own)
    return replace(found, question=row_question(row, picture=picture))


def _parsed(row: Row, column: str, nothing: str) -> Any:
    try:
        found = parse_json(row.get(column) or nothing)
    except (TypeError, ValueError) as error:
        raise UserError(f"Row {row.get('id')!r} cannot be read: its {column} is not JSON ({error}).") from None
    if type(found) is not type(json.loads(nothing)):
        raise UserError(f"Row {row.get('id')!r} cannot be read: its {column} is not such as {nothing}.")
    return found


def write_rows(rows: Iterable[Row], path: Path, *, private: bool = False) -> int:
    """Writes a Parquet file that appears whole or not at all, `private`: for its owner alone. Gives the number of its
    rows."""
    parquet = pyarrow_parquet()
    import pyarrow as pa

    shape = schema()
    count = 0
    file = replacing(path, durable=True, private=private)
    with file as draft, parquet.ParquetWriter(draft, shape, compression="zstd") as writer:
        batch: list[Mapping[str, Any]] = []
        for row in rows:
            batch.append({name: row.get(name) for name in COLUMNS})
            if len(batch) == ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(batch, schema=shape))
                count, batch = count + len(batch), []
        if batch or not count:
            writer.write_table(pa.Table.from_pylist(batch, schema=shape))
            count += len(batch)
    return count


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, or of all Parquet files of a folder in the order of their names."""
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    rows = ParquetRows(files)
    for number in range(len(rows)):
        yield rows[number]


def _picture(data: bytes) -> dict[str, Any]:
    return {"bytes": data, "path": None}


def _load(picture: Any, name: str) -> Image:
    content = picture.get("bytes") if isinstance(picture, Mapping) else None
    # a text would be taken for a path
    if not isinstance(content, bytes) or not content:
        raise UserError(f"Row {name!r} names a picture outside of the file. Embed it.")
    return images.load(content, name=f"the picture of row {name!r}")
