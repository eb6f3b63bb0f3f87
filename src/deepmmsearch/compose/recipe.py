"""Recipes and settings: one YAML file holds a whole experiment; a typing error in it is an error, not a default."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from deepmmsearch.errors import UnknownName, UserError

M = TypeVar("M", bound=BaseModel)


def load_recipe(path: Path, model: type[M], overrides: Sequence[str] = ()) -> M:
    """The recipe in a YAML file with overrides such as `trl.learning_rate=1e-3` applied.

    Raises UserError for a file that is missing or no YAML, an override without "=", or a value of the wrong kind;
    UnknownName for a setting that does not exist.
    """
    if not path.is_file():
        raise UserError(f"There is no recipe {path}. Give a YAML file such as recipes/atlas/sft.yaml.")
    try:
        row = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(row, dict):
        raise UserError(f"{path} holds no settings. Expected lines such as `output: runs/mine`.")
    for override in overrides:
        _override(row, override)
    try:
        return model.model_validate(row)
    except ValidationError as error:
        raise _explain(error, path, model) from None


def _override(row: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise UserError(f"{override!r} is no override. Write name=value, such as output=runs/mine.")
    *folders, last = name.split(".")
    for folder in folders:
        row[folder] = {} if row.get(folder) is None else row[folder]
        row = row[folder]
        if not isinstance(row, dict):
            raise UserError(f"{name} cannot be set: {folder} holds a value, not settings.")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"The value in {override!r} is not YAML. Quote it, or close its brackets.") from None
    if isinstance(parsed, str):
        # YAML 1.1 reads 1e-3 as text, people read it as a number
        with suppress(ValueError):
            parsed = float(parsed)
    row[last] = parsed


def _explain(error: ValidationError, path: Path, model: type[BaseModel]) -> UserError:
    first = error.errors()[0]
    *parents, name = (str(part) for part in first["loc"]) if first["loc"] else ("",)
    if first["type"] == "extra_forbidden":
        owner: type[BaseModel] = model
        for parent in parents:
            annotation: Any = owner.model_fields[parent].annotation if parent in owner.model_fields else None
            candidates = [annotation, *getattr(annotation, "__args__", ())]
            owner = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), owner)
        return UnknownName(
            f"setting in {path}", ".".join((*parents, name)), [".".join((*parents, n)) for n in owner.model_fields]
        )
    place = ".".join((*parents, name))
    said = first["msg"].removeprefix("Value error, ")
    # what contradicts itself is a whole section, and too long to be shown
    found = "" if isinstance(first.get("input"), dict) else f", found {first.get('input')!r}"
    return UserError(f"{path}: {place + ': ' if place else ''}{said}{found}.")
