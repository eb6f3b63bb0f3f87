"""What a setting names, told by its content: checkpoints, indexes, questions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from deepmmsearch import images
from deepmmsearch.index_place import is_address
from deepmmsearch.outputs import content, digest_of
from deepmmsearch.settings import decisive
from deepmmsearch.store import CODEC
from deepmmsearch.types import Prompt, Question

_CHECKPOINT = (".safetensors", ".bin", ".pt", ".pth", ".json", ".jinja", ".txt", ".model", ".tiktoken")
_TABLES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt")
_PIECE = 1 << 20
_PIECES = 64


def contents_of(settings: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """The settings that can change a result, with checkpoints and indexes by what is in them. `model` and `adapter` may
    be names on the Hub, which are told by the revision that is on this machine."""
    return {name: _content(name, value) for name, value in decisive(settings).items()}


def _content(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return contents_of(value)
    if isinstance(value, list):
        return [_content(name, each) for each in value]
    if not isinstance(value, str | Path):
        return value
    if name == "index" and (is_address(value) or (Path(value) / "meta.json").is_file()):
        from deepmmsearch.engine.index import Index

        return content(value, Index.open(value).digest())
    if name in ("model", "adapter"):
        return content(value, checkpoint_digest(value))
    return value


def checkpoint_digest(source: str | Path) -> str:
    """Which weights, configuration, tokenizer and card: of a folder its files' digests, of a name on the Hub the
    revision that is on this machine, empty where none is.

    A file above 64 MiB is told by its size and by 64 pieces of 1 MiB, its first and last among them: 15 GB take a
    second and not a minute, and training changes weights everywhere.
    """
    folder = Path(source)
    if not folder.is_dir():
        return _hub_revision(str(source))
    files = sorted(path for path in folder.iterdir() if path.suffix in _CHECKPOINT and path.is_file())
    return digest_of(*(part for path in files for part in (path.name, _file_digest(path))))


def _file_digest(path: Path) -> bytes:
    size, found = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        if size <= _PIECE * _PIECES:
            return hashlib.file_digest(file, "sha256").digest()
        for number in range(_PIECES):
            file.seek(number * (size - _PIECE) // (_PIECES - 1))
            found.update(file.read(_PIECE))
    return b"%d:" % size + found.digest()


def kept_by_hub(name: str, file: str) -> Path | None:
    """The file of a model that the Hub's client keeps on this machine; None where it keeps none of that name."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ModuleNotFoundError:
        return None
    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _hub_revision(name: str) -> str:
    found = (kept_by_hub(name, file) for file in ("config.json", "adapter_config.json"))
    return next((path.parent.name for path in found if path is not None), "")


def tables_digest(place: Path) -> str:
    """A file, or the tables of a folder: what is asked, not the pictures."""
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.suffix in _TABLES)
    found: list[str | bytes] = []
    for path in files:
        with path.open("rb") as file:
            found += [path.name, hashlib.file_digest(file, "sha256").digest()]
    return digest_of(*found)


def questions_content(questions: Iterable[Question]) -> dict[str, str]:
    """Texts, answers, pictures and metadata, in their order. Reads every picture."""
    rows = [json.dumps(CODEC.encode(question, images.digest), sort_keys=True, default=str) for question in questions]
    return content(f"{len(rows)} questions", digest_of(*rows))


def prompt_content(prompt: Prompt) -> dict[str, str]:
    return content(prompt.name, digest_of(json.dumps(CODEC.encode(prompt, images.digest), sort_keys=True)))
