"""Recipes and settings: one YAML file holds a whole experiment; a typing error in it is an error, not a default."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import BaseModel, TypeAdapter, ValidationError

from deepmmsearch.compose.keys import refuse_commands, refuse_others
from deepmmsearch.compose.other_programs import refuse_other_program
from deepmmsearch.compose.shipped import find_recipe
from deepmmsearch.errors import UnknownName, UserError, all_of
from deepmmsearch.settings import FOREIGN, KIND, UNKNOWN, choices, inner, names
from deepmmsearch.strict_yaml import read_yaml

M = TypeVar("M", bound=BaseModel)
Place = tuple[int | str, ...]


@overload
def load_recipe(
    path: Path,
    model: type[M],
    overrides: Sequence[str] = (),
    variables: Collection[str] = (),
    commands: Collection[str] = (),
) -> M: ...
@overload
def load_recipe(
    path: Path,
    model: Any,
    overrides: Sequence[str] = (),
    variables: Collection[str] = (),
    commands: Collection[str] = (),
) -> Any: ...
def load_recipe(
    path: Path,
    model: Any,
    overrides: Sequence[str] = (),
    variables: Collection[str] = (),
    commands: Collection[str] = (),
) -> Any:
    """The recipe in a YAML file, or the shipped one of that name (`eval/atlas`), as a `model` (or one of a union of
    them), with overrides such as `trl.learning_rate=1e-3` applied. `variables`: environment variables that the file may
    have sent as keys, besides the services' own and those of the overrides; `commands`: command lines that it may have
    started.

    Raises UserError for a file that is missing or not YAML, an override without "=", a value of the wrong kind, or any
    other variable or command; UnknownName for a setting that does not exist.
    """
    found = find_recipe(path)
    loaded = read_settings(read_recipe(found, model, overrides), model, str(found))
    given = [value for name, _, value in (o.partition("=") for o in overrides) if name.endswith("key_variable")]
    refuse_others(loaded, str(found), [*variables, *given])
    refuse_commands(loaded, str(found), commands)
    return loaded


def read_recipe(path: Path, model: Any, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What stands in the file, with the overrides, before it is checked. Raises UserError."""
    try:
        row = read_yaml(path.read_text(encoding="utf-8"))
    # also of bytes that are not text
    except ValueError as error:
        raise UserError(f"{path} is not YAML that can be read: {error}.") from None
    refuse_other_program(row, path)
    if not isinstance(row, dict):
        raise UserError(f"{path} holds no settings. Expected lines such as `output: runs/mine`.")
    for override in overrides:
        _override(row, override, model)
    return row


def read_settings(row: Any, model: Any, source: str) -> Any:
    """The row as a `model`; `source` is what messages call it. Raises UserError with all that is wrong, UnknownName
    where that is one name."""
    try:
        return TypeAdapter(model).validate_python(row)
    except ValidationError as error:
        raise all_of(explain(error, model, source)) from None


def _override(row: dict[str, Any], override: str, model: Any) -> None:
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise UserError(f"{override!r} is not an override. Write name=value, such as output=runs/mine.")
    *folders, last = name.split(".")
    here: Any = row
    kinds = [model]
    for folder in folders:
        kinds = [found for kind in kinds for found in inner(kind, folder)]
        key = _key(here, folder, name)
        there = None if isinstance(here, dict) and key not in here else here[key]
        short = next((mark.by for kind in kinds for mark, _ in choices(kind) if mark.by), None)
        if isinstance(there, str) and short:
            # the kind alone, as in `grounding: own`
            there = {short: there}
        here[key] = {} if there is None else there
        here = here[key]
        if not isinstance(here, dict | list):
            raise UserError(f"{name} cannot be set: {folder} holds a value, not settings.")
    here[_key(here, last, name)] = _value(override, value)


def _key(here: Any, part: str, name: str) -> Any:
    """`part` as a key, or as a place in a list. Raises UserError."""
    if isinstance(here, dict):
        return part
    if not part.isdigit() or int(part) >= len(here):
        raise UserError(f"{name} cannot be set: {part!r} is not a place in a list of {len(here)}; the first is 0.")
    return int(part)


def _value(override: str, value: str) -> Any:
    try:
        return read_yaml(value)
    except ValueError:
        raise UserError(f"The value in {override!r} is not YAML. Quote it, or close its brackets.") from None


def explain(error: ValidationError, model: Any, source: str) -> list[UserError]:
    """Everything that is wrong, each in a sentence."""
    return [_sentence(line, model, source) for line in error.errors(include_url=False)]


def _sentence(line: Any, model: Any, source: str) -> UserError:
    place: Place = line["loc"]
    context, said = line.get("ctx", {}), line["msg"].removeprefix("Value error, ").removesuffix(".")
    name, within = ".".join(map(str, place)), "".join(f"{part}." for part in place[:-1])
    if line["type"] == UNKNOWN:
        return UnknownName(f"setting in {source}", str(place[-1]), _near(context["known"], place, model), within)
    if line["type"] == FOREIGN:
        return UserError(f"{source}: {within}{said}.")
    if line["type"] == KIND:
        return UnknownName(f"kind of {name or 'settings'} in {source}", context["found"], context["known"])
    if line["type"] == "literal_error":
        known = re.findall("'([^']*)'", context["expected"])
        return UnknownName(f"{name} in {source}", str(line["input"]), known)
    # what contradicts itself is a whole section, and too long to be shown
    found = "" if isinstance(line.get("input"), dict) else f", found {line.get('input')!r}"
    return UserError(f"{source}: {name + ': ' if name else ''}{said}{found}.")


def _near(known: Sequence[str], place: Place, model: Any) -> list[str]:
    """The names known at that place, and where one of its sections has a setting of the wrong name, that one too."""
    kinds = [model]
    for part in place[:-1]:
        kinds = [found for kind in kinds for found in inner(kind, str(part))]
    wanted = str(place[-1])
    deeper = [
        f"{section}.{wanted}"
        for section in known
        if wanted in names(found for kind in kinds for found in inner(kind, section))
    ]
    return [*known, *deeper]
