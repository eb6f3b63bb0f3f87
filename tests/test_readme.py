"""What README and docs promise: the commands exist with these options, and the tree is the one on the disk."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from deepmmsearch.cli import COMMANDS, group
from deepmmsearch.cli.evaluate import PlayOrMerge

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for block in re.findall(r"^```(?:bash|sh)\n(.*?)^```", text, re.S | re.M):
            lines = (line.split("  #")[0].strip() for line in block.splitlines())
            found += [(page.name, line) for line in lines if line.startswith("deepmmsearch ")]
    return found


@pytest.mark.parametrize(("page", "line"), _commands())
def test_commands_of_the_docs_exist(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = group
    context = click.Context(group)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = "play" if isinstance(command, PlayOrMerge) and words[0] != "merge" else words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{page}: no command {name!r} in {line!r}"
        command = found
    options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h", "--version"}
    for word in words:
        if word.startswith("-") and not re.fullmatch(r"-?\d+(\.\d+)?", word):
            assert word.split("=")[0] in options, f"{page}: {line!r} uses {word}, known are {sorted(options)}"


def test_every_command_explains_itself_with_an_example() -> None:
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None and command.help and "Example" in command.help, name


def test_the_tree_in_the_readme_is_the_one_on_the_disk() -> None:
    block = re.search(r"^## Files\n+```\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    assert block is not None
    folders: list[str] = []
    listed = set()
    for line in block[1].splitlines():
        path = line.split("  ")[0].strip() or line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders = [*folders[:depth], name]
        path = "".join(folders)
        assert (ROOT / path).exists(), f"README lists {path}"
        listed.add(path)
    for module in (ROOT / "src/deepmmsearch").iterdir():
        if module.name not in ("__init__.py", "__main__.py", "__pycache__", "py.typed"):
            name = module.name + ("/" if module.is_dir() else "")
            assert f"src/deepmmsearch/{name}" in listed, f"README does not list src/deepmmsearch/{name}"


# of other programs: those of accelerate, and of verl all but how its episodes are played
RECIPES = sorted(
    path
    for path in (ROOT / "recipes").rglob("*.yaml")
    if path.parent.name not in ("accelerate", "verl") or path.stem == "episodes"
)


def recipe_model(recipe: Path) -> Any:
    """The settings that a recipe is read as: by its folder, else by what it is called after."""
    from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
    from deepmmsearch.compose.agent_loop_recipe import AgentLoopRecipe
    from deepmmsearch.compose.data_build import DataRecipe
    from deepmmsearch.compose.eval_recipe import EvalRecipe
    from deepmmsearch.compose.serving import ServeRecipe
    from deepmmsearch.compose.tool_settings import ToolSettings
    from deepmmsearch.compose.training_recipes import AnyExperiment, FineTuning

    by_folder = {"tools": ToolSettings, "data": DataRecipe, "eval": EvalRecipe, "serve": ServeRecipe}
    by_folder |= {"verl": AgentLoopRecipe}
    by_name = {"base": PretrainRecipe, "sft": FineTuning, "grpo": AnyExperiment}
    return by_folder.get(recipe.parent.name) or by_name[recipe.stem.split("_")[0]]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_loads(recipe: Path) -> None:
    pytest.importorskip("torch")
    from deepmmsearch.compose.recipe import load_recipe

    load_recipe(recipe, recipe_model(recipe))


def test_the_python_example_is_the_one_that_the_type_checker_reads() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert (ROOT / "docs/examples/ask.py").read_text(encoding="utf-8").endswith(f'"""\n\n{example}')
