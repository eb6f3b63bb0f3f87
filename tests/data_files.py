"""Small files in the formats in which benchmarks are published, made by hand."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw


def picture(number: int = 0, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Another number, another picture, also to a perceptual hash."""
    image = Image.new("RGB", size, (40 + 50 * number % 200, 90, 200 - 30 * number % 150))
    draw = ImageDraw.Draw(image)
    for corner in range(4):
        x, y = (37 * (number + 1) * (corner + 1)) % 60, (53 * (number + 2) * (corner + 3)) % 40
        draw.rectangle((x, y, x + 8 + 9 * corner, y + 6 + 5 * corner), fill=(255 - 60 * corner, 20 * number % 255, 80))
    return image


def picture_bytes(number: int = 0, format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, format)
    return buffer.getvalue()


def base64_picture(number: int = 0) -> str:
    return base64.b64encode(picture_bytes(number)).decode()


def write_picture(path: Path, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(number, "PNG" if path.suffix == ".png" else "JPEG"))
    return path


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    return path


def shared(name: str) -> Path | None:
    """A folder or file of the fixtures that lie beside the project, None where they do not."""
    import os

    root = Path(os.environ.get("DEEPMMSEARCH_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    return root / name if (root / name).exists() else None


def grid(seed: int, size: tuple[int, int] = (128, 96)) -> Image.Image:
    """A picture that looks like no other of another seed."""
    import random

    rng = random.Random(f"grid {seed}")
    small = Image.new("RGB", (8, 8))
    small.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(64)])
    return small.resize(size, Image.Resampling.BICUBIC)
