"""The files in which benchmarks are published: which ones a folder holds, and how they belong together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepmmsearch.data.tables import (
    LocalRows,
    MappedRows,
    ParquetRows,
    Row,
    Rows,
    read_json,
    read_table,
    refuse_link_out,
)
from deepmmsearch.errors import UserError

PICTURES = ("images", "image", "imgs", "pictures")


def open_table(path: Path, split: str) -> LocalRows:
    """One file with all there is, or a folder with Parquet files named after their split."""
    if path.is_file():
        return LocalRows(read_table(path), picture_folders(path.parent))
    _refuse_missing(path)
    own = sorted(p for p in path.rglob("*.parquet") if p.name.lower().startswith(split.lower()))
    if own:
        return LocalRows(ParquetRows([refuse_link_out(file, path) for file in own]), picture_folders(path))
    found = find_annotations(path, split)
    return LocalRows(read_table(found) if found else read_table(path), picture_folders(path))


def find_annotations(folder: Path, *words: str) -> Path | None:
    """The one table of the folder whose name holds all of `words`. Raises UserError when several do."""
    kinds = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".pq")
    files = (p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    tables = sorted(p for p in files if p.suffix.lower() in kinds)
    named = [p for p in tables if all(word.lower() in p.name.lower() for word in words)]
    chosen = named or (tables if len(tables) == 1 else [])
    if len(chosen) > 1:
        raise UserError(
            f"{folder} holds several files that fit: {', '.join(p.name for p in chosen)}. Give one of them."
        )
    return refuse_link_out(chosen[0], folder) if chosen else None


def picture_folders(folder: Path) -> tuple[Path, ...]:
    return (folder, *(folder / name for name in PICTURES if (folder / name).is_dir()))


def open_infoseek(path: Path, split: str) -> LocalRows:
    """`infoseek_<split>.jsonl`, or `infoseek_<split>*.csv` in the form of Encyclopedic-VQA, with
    `infoseek_<split>_qtype.jsonl` and `infoseek_<split>_withkb.jsonl` where they are, and OVEN's pictures in
    `oven_images/` or `images/`."""
    folder = path if path.is_dir() else path.parent
    _refuse_missing(path)
    main = path if path.is_file() else refuse_link_out(folder / f"infoseek_{split}.jsonl", folder)
    if not main.is_file() and (tables := sorted(folder.glob(f"infoseek_{split}*.csv"))):
        main = refuse_link_out(tables[0], folder)
    rows = read_table(main)
    stem = main.stem
    extra: dict[str, dict[str, Any]] = {}
    for kind in ("qtype", "withkb"):
        beside = folder / f"{stem}_{kind}.jsonl"
        if beside.is_file():
            table = read_table(refuse_link_out(beside, folder))
            for number in range(len(table)):
                extra.setdefault(str(table[number].get("data_id")), {}).update(table[number])
    ovens = [folder / name for name in ("oven_images", "oven") if (folder / name).is_dir()]
    folders = (*ovens, *picture_folders(folder))
    if not extra:
        return LocalRows(rows, folders)
    return LocalRows(_joined(rows, "data_id", extra), folders)


def open_browsing(path: Path, split: str, table: str, pictures: str) -> LocalRows:
    """A repository: its `table`, in `data/` or beside the folder of `pictures`; or the table itself."""
    _refuse_missing(path)
    if path.is_file():
        # within the repository, the pictures lie beside the table's folder
        return LocalRows(read_table(path), (path.parent / pictures, path.parent.parent / pictures, path.parent))
    name = table.format(split=split)
    found = next((file for file in (path / "data" / name, path / name) if file.is_file()), None)
    if found is None:
        return open_table(path, split)
    return LocalRows(read_table(refuse_link_out(found, path)), (path / pictures, *picture_folders(path)))


def open_vqa(path: Path, split: str) -> LocalRows:
    """The VQA format of OK-VQA: `OpenEnded_mscoco_<split>_questions.json` and `mscoco_<split>_annotations.json`,
    pictures in `<split>/COCO_<split>_000000000001.jpg`."""
    if path.is_file() or not (path / f"OpenEnded_mscoco_{split}_questions.json").is_file():
        return open_table(path, split)
    questions, annotations = (
        read_json(refuse_link_out(path / name, path))[key]
        for name, key in (
            (f"OpenEnded_mscoco_{split}_questions.json", "questions"),
            (f"mscoco_{split}_annotations.json", "annotations"),
        )
    )
    extra = {str(row["question_id"]): row for row in annotations}
    return LocalRows(_joined(questions, "question_id", extra), (path / split, *picture_folders(path)))


def open_aokvqa(path: Path, split: str) -> LocalRows:
    """`aokvqa_v1p0_<split>.json`, pictures of COCO 2017 in `<split>2017/000000000001.jpg`."""
    if path.is_file():
        return LocalRows(read_table(path), (path.parent / f"{split}2017", *picture_folders(path.parent)))
    if (found := path / f"aokvqa_v1p0_{split}.json").is_file():
        folders = [path / part for part in (f"{split}2017", f"coco/{split}2017")]
        return LocalRows(read_table(refuse_link_out(found, path)), (*folders, *picture_folders(path)))
    return open_table(path, split)


def open_evqa(path: Path, split: str) -> LocalRows:
    """`<split>.csv`, pictures of Google Landmarks v2 in `landmarks/a/b/c/<id>.jpg`, of iNaturalist 2021 in
    `inaturalist/` with its `train.json` or `val.json` (number -> file) beside them."""
    folder = path if path.is_dir() else path.parent
    table = path if path.is_file() else refuse_link_out(folder / f"{split}.csv", folder)
    _refuse_missing(table)
    names = ("landmarks", "gldv2", "google-landmarks", "inaturalist", "inat", "inat2021")
    folders = (*(folder / name for name in names if (folder / name).is_dir()), *picture_folders(folder))
    files: dict[str, str] = {}
    for where in dict.fromkeys(folders):
        for listing in ("train.json", "val.json"):
            if (where / listing).is_file():
                listed = read_json(refuse_link_out(where / listing, folder))
                for image in listed.get("images", []) if isinstance(listed, dict) else []:
                    files[str(image["id"])] = str(image["file_name"])
    rows = read_table(table)
    return LocalRows(MappedRows(rows, range(len(rows)), lambda row: {**row, "_files": files}), folders)


def open_livevqa(path: Path, split: str) -> LocalRows:
    """A folder with `benchmark.json` (News, Paper, Video of the authors' repository) or `qa.json` (Research Preview),
    their pictures beside them or in `<Name>_imgs`, `<Name>_images`."""
    _refuse_missing(path)
    if path.is_file():
        return LocalRows(read_table(path), (path.parent, *_subfolders(path.parent)))
    for name in ("benchmark.json", "qa.json"):
        if (path / name).is_file():
            return LocalRows(read_table(refuse_link_out(path / name, path)), (path, *_subfolders(path)))
    parts = [part for part in sorted(path.iterdir()) if (part / "benchmark.json").is_file()]
    if not parts:
        return open_table(path, split)
    rows: list[Row] = []
    for part in parts:
        table = read_table(refuse_link_out(part / "benchmark.json", path))
        rows += [{**table[number], "part": part.name} for number in range(len(table))]
    return LocalRows(rows, (*parts, *(folder for part in parts for folder in _subfolders(part))))


def open_mmbench(path: Path, split: str) -> LocalRows:
    """The Hub's table, or `MMBench_*.tsv` of its authors: pictures in base64, or the number of the row that has it."""
    local = open_table(path, split)
    rows = local.rows
    if path.suffix.lower() != ".tsv":
        return local
    places = {str(rows[number].get("index")): number for number in range(len(rows))}

    def with_picture(row: Row) -> Row:
        place = places.get(str(row.get("image")))
        return row if place is None else {**row, "image": rows[place]["image"]}

    return LocalRows(MappedRows(rows, range(len(rows)), with_picture), local.folders)


def flat_livevqa(rows: Rows) -> Rows:
    """One row per question: a row of the authors' repository holds one question of each level."""
    flat: list[Row] = []
    for number in range(len(rows)):
        row = rows[number]
        levels = [
            (level, row[key]) for level, key in ((1, "level1_qa"), (2, "level2_qa")) if isinstance(row.get(key), dict)
        ]
        if not levels:
            flat.append(row)
        for level, asked in levels:
            common = {key: value for key, value in row.items() if not key.startswith("level")}
            flat.append({**common, **asked, "level": level})
    return flat


def open_dynvqa(path: Path, split: str) -> LocalRows:
    """`DynVQA_<language>/DynVQA_<language>.<year and month>.jsonl`: the newest month of a folder, or the file given;
    pictures in `images/`, named by question id or by `pictures.named_by`."""
    _refuse_missing(path)
    if path.is_file():
        return LocalRows(read_table(path), picture_folders(path.parent))
    months = sorted(path.rglob(f"DynVQA_{split}.*.jsonl"), key=lambda p: p.name)
    if not months:
        raise UserError(f"There is no DynVQA_{split}.*.jsonl in {path}. Give the file.")
    return LocalRows(
        read_table(refuse_link_out(months[-1], path)), (*picture_folders(path), *picture_folders(months[-1].parent))
    )


def _joined(rows: Rows, key: str, extra: Mapping[str, Row]) -> Rows:
    return MappedRows(rows, range(len(rows)), lambda row: {**extra.get(str(row[key]), {}), **row})


def _subfolders(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(p for p in folder.iterdir() if p.is_dir()))


def _refuse_missing(path: Path) -> None:
    if not path.exists():
        raise UserError(f"There is nothing at {path}. Give the folder or file of the data.")
