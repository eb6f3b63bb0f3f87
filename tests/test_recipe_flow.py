"""What one shipped recipe writes the next one reads; what none makes is shipped, or the recipe says how to get it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from deepmmsearch.cli import group
from deepmmsearch.compose.flow import makers, makes, reads
from deepmmsearch.compose.other_programs import other_program
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.compose.recipe_kinds import KINDS, kind_of
from deepmmsearch.compose.shipped import shipped_recipes
from deepmmsearch.errors import UserError
from deepmmsearch.settings import Recipe
from deepmmsearch.strict_yaml import read_yaml

ROOT = Path(__file__).parent.parent


def loaded() -> dict[str, Recipe]:
    found = {}
    for name, path in shipped_recipes().items():
        row = read_yaml(path.read_text(encoding="utf-8"))
        if other_program(row) is None:
            found[name] = load_recipe(path, kind_of(row, name).model)
    return found


RECIPES = loaded()
COMMANDS = sorted({(path, how) for recipe in RECIPES.values() for path, how in recipe.needs.items()})


def in_the_repository(path: Path) -> bool:
    listed = subprocess.run(["git", "ls-files", str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    return bool(listed.stdout.strip())


@pytest.mark.parametrize("name", RECIPES)
def test_every_input_comes_from_somewhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    recipe, made = RECIPES[name], makers()
    for path in reads(recipe):
        told = str(path) in recipe.needs
        assert told or path in made or in_the_repository(path), f"nothing makes {path}, and `needs` does not tell of it"
    stale = set(recipe.needs) - {str(path) for path in reads(recipe)}
    assert not stale, f"{name} does not read {stale}"


@pytest.mark.parametrize(("path", "how"), COMMANDS)
def test_what_is_needed_is_made_by_that_command_or_downloaded_from_there(path: str, how: str) -> None:
    if not how.startswith("deepmmsearch "):
        assert "https://" in how
        return
    context = click.Context(group)
    words: list[str] = shlex.split(how)[1:]
    command: Any = group
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
        context = click.Context(command, parent=context, info_name=name)
    context = command.make_context(command.name, words)
    if "recipe" not in context.params:
        places = [value for value in context.params.values() if isinstance(value, Path)]
        assert {Path(path), *Path(path).parents} & set(places)
        return
    recipe = Path(context.params["recipe"])
    kind = kind_of(read_yaml(shipped_recipes()[str(recipe)].read_text(encoding="utf-8")), str(recipe))
    assert Path(path) in makes(load_recipe(recipe, kind.model, context.params["overrides"]))


def test_outputs_do_not_lie_in_each_other() -> None:
    outputs = {recipe.output: name for name, recipe in RECIPES.items() if hasattr(recipe, "output")}
    assert len(outputs) == sum(hasattr(recipe, "output") for recipe in RECIPES.values())
    for output in outputs:
        assert not any(other in output.parents for other in outputs), output


def test_the_kind_is_told_by_what_stands_in_it() -> None:
    kinds = {
        name: kind_of(read_yaml(shipped_recipes()[name].read_text(encoding="utf-8")), name).name for name in RECIPES
    }
    by_folder = {"tools": "tools", "data": "data", "eval": "eval", "serve": "serve", "verl": "episodes"}
    for name, kind in kinds.items():
        folder, stem = name.split("/")
        assert kind == by_folder.get(folder, {"base": "pretrain"}.get(stem, stem.split("_")[0]))
    assert {kind.name for kind in KINDS} == {*kinds.values(), "harness"}
    assert kind_of({"policy": {}, "tools": {}}, "x.yaml").name == "harness"
    with pytest.raises(UserError, match="configuration of accelerate"):
        kind_of({"compute_environment": "LOCAL_MACHINE"}, "x.yaml")
    with pytest.raises(UserError, match="belong to none of serve, eval, data, pretrain"):
        kind_of({"colour": "red"}, "x.yaml")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("check verl/agent_loop", "configuration of verl, not a recipe. Name it to verl: .*agent_loop_config_path="),
        ("check verl/sync_4x8", "configuration of verl, not a recipe. Use it with: .*--config-name sync_4x8"),
        ("grpo verl/agent_loop", "configuration of verl"),
        ("grpo verl/sync_4x8", "configuration of verl"),
        ("eval verl/async_4x8", "configuration of verl"),
        ("sft accelerate/fsdp2_8", "configuration of accelerate"),
        ("grpo verl/episodes", "recipe of kind episodes. verl plays by it: .*data.episodes=verl/episodes"),
        ("eval verl/episodes", "recipe of kind episodes"),
        ("sft eval/atlas", "recipe of kind eval. Use it with: deepmmsearch eval eval/atlas"),
        ("eval tools/searxng", "recipe of kind tools. Use it with: deepmmsearch ask IMAGE QUESTION --tools"),
    ],
)
def test_what_a_command_cannot_use_is_told_with_what_can(words: str, told: str) -> None:
    ran = CliRunner().invoke(group, words.split())
    assert ran.exit_code != 0 and re.search(told, str(ran.exception) + ran.output)


def test_a_recipe_that_is_wrong_is_told_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("- a\n- b\n")
    ran = CliRunner().invoke(group, ["check", str(tmp_path / "mine.yaml")])
    assert "holds no settings" in str(ran.exception) + ran.output
    (tmp_path / "mine.yaml").write_text("episodes: {max_new_tokens: 64}\ncolour: red\n")
    ran = CliRunner().invoke(group, ["eval", str(tmp_path / "mine.yaml")])
    assert "colour" in str(ran.exception) + ran.output


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("verl/sync_4x8", "It needs qwen2.5-vl-7b.yaml beside it. Use it with: python -m verl.trainer.main_ppo"),
        ("verl/qwen2.5-vl-7b", "c.yaml. Use it with: python -m verl.trainer.main_ppo"),
        ("verl/agent_loop", "agent_loop_config_path="),
        ("accelerate/fsdp2_8", "accelerate launch --config_file"),
        ("verl/episodes", "Check it with: deepmmsearch check"),
    ],
)
def test_a_copy_is_told_how_it_is_used(name: str, told: str, tmp_path: Path) -> None:
    ran = CliRunner().invoke(group, ["recipes", "copy", name, str(tmp_path / "c.yaml")], catch_exceptions=False)
    assert told in ran.output and ("deepmmsearch check" in ran.output) is (name == "verl/episodes")
