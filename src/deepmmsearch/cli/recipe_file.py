"""Recipes as commands take them: with the variables that the user allows, and with a word on where keys go."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from deepmmsearch.cli.defaults import commands, config_file, variables
from deepmmsearch.compose.keys import key_uses
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.errors import UserError
from deepmmsearch.files import write_json
from deepmmsearch.streams import echo


def open_recipe(path: Path, model: Any, overrides: Sequence[str] = ()) -> Any:
    """The recipe as `load_recipe` reads it; where keys go that never went there is told on stderr."""
    try:
        loaded = load_recipe(path, model, overrides, variables(), commands())
    except UserError:
        _refuse_other_kind(path, model)
        raise
    tell_keys(loaded)
    return loaded


def _refuse_other_kind(path: Path, model: Any) -> None:
    """Raises UserError for a recipe that is right, but of another command."""
    from deepmmsearch.compose.recipe import read_recipe, read_settings
    from deepmmsearch.compose.recipe_kinds import kind_of
    from deepmmsearch.compose.shipped import find_recipe

    found = find_recipe(path)
    try:
        row = read_recipe(found, dict)
        kind = kind_of(row, str(found))
        read_settings(row, kind.model, str(found))
    except UserError:
        return
    if kind.model is not model:
        raise UserError(f"{found} is a recipe of kind {kind.name}. {kind.used(path)}")


def tell_keys(settings: Any) -> None:
    """Says once, for each place, which key goes there."""
    told = _told()
    new = {
        f"{use.variable} {use.place}": f"Note: the key in {use.variable} goes to {use.place}."
        for use in key_uses(settings)
        if os.environ.get(use.variable, "").strip()
    }
    new = {name: line for name, line in new.items() if name not in told}
    for line in new.values():
        echo(line, err=True)
    if new and (memory := _memory()) is not None:
        with suppress(OSError):  # where it cannot be kept it is told again
            write_json(memory, [*told, *new], private=True)


def _memory() -> Path | None:
    """Beside the user's own defaults, unless these are turned off by naming no file."""
    config = config_file()
    return None if config.exists() and not config.is_file() else config.with_name("keys-told.json")


def _told() -> list[str]:
    memory = _memory()
    try:
        found = json.loads(memory.read_text(encoding="utf-8")) if memory is not None else []
    except (OSError, ValueError):
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
