"""The recipes that come with the package, by names such as `eval/atlas`: their path in `recipes` without the suffix."""

from __future__ import annotations

import difflib
from pathlib import Path

from deepmmsearch.errors import UserError

_PACKAGE = Path(__file__).parents[1]
SUFFIXES = (".yaml", ".yml")


def shipped_folder() -> Path:
    """In a wheel they lie within the package, in a clone beside `src`."""
    within = _PACKAGE / "recipes"
    return within if within.is_dir() else _PACKAGE.parents[1] / "recipes"


def shipped_recipes() -> dict[str, Path]:
    folder = shipped_folder()
    paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def find_recipe(name: str | Path) -> Path:
    """A file of that name, with or without its suffix, wins over a shipped recipe. Raises UserError for neither."""
    own = Path(name)
    for path in (own, *(own.with_name(own.name + suffix) for suffix in SUFFIXES if own.name)):
        if path.is_file():
            return path
    known = shipped_recipes()
    wanted = own.with_suffix("") if own.suffix in SUFFIXES else own
    # what the docs write: recipes/eval/atlas.yaml
    asked = wanted.as_posix().removeprefix("recipes/")
    if asked in known:
        return known[asked]
    close = difflib.get_close_matches(asked, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(
        f"There is no recipe {name}: there is no such file here, and none of that name comes with the package.{hint} "
        "See those that do with: deepmmsearch recipes list"
    )
