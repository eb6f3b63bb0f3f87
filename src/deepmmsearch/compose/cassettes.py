"""The cassettes that a recipe writes, and those of a part of its run: machines share no file that any writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from deepmmsearch.compose.tool_settings import CacheSettings
from deepmmsearch.outputs import RunPart
from deepmmsearch.settings import Settings, replaced, sections

S = TypeVar("S", bound=Settings)


def cassettes_of(recipe: Settings) -> list[Path]:
    """Each once."""
    return list(dict.fromkeys(s.cassette for s in sections(recipe) if isinstance(s, CacheSettings)))


def with_own_cassettes(recipe: S, part: RunPart) -> S:
    return recipe if part.of == 1 else with_cassettes(recipe, part.folder)


def with_cassettes(recipe: S, place: Callable[[Path], Path]) -> S:
    """The recipe with each cassette at another `place`."""

    def moved(value: Any) -> Any:
        if not isinstance(value, CacheSettings):
            return value
        return value.model_copy(update={"cassette": place(value.cassette)})

    mine: S = replaced(recipe, moved)
    return mine
