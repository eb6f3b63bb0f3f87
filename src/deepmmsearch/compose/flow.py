"""What a recipe reads and what it makes: the paths by which one recipe's result is the next one's start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.other_programs import other_program
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.compose.recipe_kinds import kind_of
from deepmmsearch.compose.shipped import shipped_recipes
from deepmmsearch.compose.tool_settings import CacheSettings, ReplaySettings
from deepmmsearch.compose.training_recipes import AtlasExperiment, Experiment, FineTuning
from deepmmsearch.data.recipe import BuildSettings
from deepmmsearch.index_place import is_address
from deepmmsearch.settings import EndpointSettings, Recipe, sections
from deepmmsearch.strict_yaml import read_yaml
from deepmmsearch.train.recipes import SftRecipe

_PATHS = ("adapter", "data", "path", "images", "index")
_PERHAPS = ("model", "encoder", "name", "benchmark")


def is_path(name: str) -> bool:
    """Is it a path here, and not a name on the Hub (`owner/name`) or of a benchmark?"""
    path = Path(name)
    outside = name.startswith((".", "/", "~")) or len(path.parts) > 2
    return outside or path.exists() or (len(path.parts) == 2 and path.parent.is_dir())


def reads(recipe: Recipe) -> dict[Path, str]:
    """The files and folders that have to be there, with the settings that name them."""
    return dict(_read(recipe))


def _read(recipe: Recipe) -> Iterator[tuple[Path, str]]:
    for section in sections(recipe):
        values: dict[str, Any] = {**section.__dict__, **(section.model_extra or {})}
        for name in _PATHS:
            given = values.get(name)
            listed = given if isinstance(given, list | tuple) else [given] if given else []
            yield from ((Path(path), name) for path in listed if not is_address(path))
        if not isinstance(section, EndpointSettings):
            perhaps = [(values.get(name), name) for name in _PERHAPS]
            yield from ((Path(given), name) for given, name in perhaps if isinstance(given, str) and is_path(given))
        if isinstance(section, ReplaySettings):
            yield section.cassette, "cassette"


def makes(recipe: Recipe) -> dict[Path, str]:
    """What is there afterwards, with what it is."""
    made: dict[Path, str] = {}
    match recipe:
        case EvalRecipe():
            made[recipe.output] = "trajectories, verdicts and the report"
        case BuildSettings():
            made[recipe.output / "dataset"] = "the training set"
            made |= {recipe.output / "variants" / name: "a variant of it" for name in recipe.balance.variants}
        case SftRecipe() | Experiment():
            made[recipe.output / "merged"] = "the checkpoint"
            if recipe.lora is not None:
                made[recipe.output / "adapter"] = "the adapter alone"
        case PretrainRecipe():
            made[recipe.output / "checkpoint"] = "the base model"
    if isinstance(recipe, AtlasExperiment):
        made[recipe.atlas.folder] = "worlds, made where they are missing"
    if isinstance(recipe, FineTuning) and recipe.evaluate_on:
        made[recipe.evaluate_on.folder] = "worlds, made where they are missing"
    recorded = {s.cassette: "recorded calls" for s in sections(recipe) if isinstance(s, CacheSettings)}
    return made | recorded


def makers() -> dict[Path, str]:
    """What the shipped recipes make, and the commands that do."""
    found: dict[Path, str] = {}
    for name, path in shipped_recipes().items():
        row = read_yaml(path.read_text(encoding="utf-8"))
        if other_program(row):
            continue
        kind = kind_of(row, str(path))
        recipe: Recipe = load_recipe(path, kind.model)
        if isinstance(recipe, Recipe):
            found |= dict.fromkeys(makes(recipe), f"deepmmsearch {kind.command} {name}")
    return found
