"""What kind of recipe it is, told by what stands in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
from deepmmsearch.compose.agent_loop_recipe import AgentLoopRecipe
from deepmmsearch.compose.data_build import DataRecipe
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.harness_recipe import HarnessRecipe
from deepmmsearch.compose.other_programs import other_program, refuse_other_program
from deepmmsearch.compose.serving import ServeRecipe
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.training_recipes import AnyExperiment, FineTuning
from deepmmsearch.errors import UserError
from deepmmsearch.strict_yaml import read_yaml


@dataclass(frozen=True)
class RecipeKind:
    """`command` uses it: `deepmmsearch COMMAND RECIPE`. `model` is what it is read as."""

    name: str
    command: str
    model: Any
    marked: Callable[[Mapping[str, Any]], bool]

    def used(self, path: Path) -> str:
        """How a recipe of this kind is used, in the words of a message."""
        if self.name == "episodes":
            named = path.absolute() if path.is_file() else path
            return (
                f"verl plays by it: python -m verl.trainer.main_ppo data.episodes={named} ... "
                f"Check it with: deepmmsearch check {path}"
            )
        if self.name == "harness":
            return f"Use it with: {self.command} --model_args recipe={path}"
        return f"Use it with: deepmmsearch {self.command} {path}"


def _any(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda row: any(name in row for name in names)


def _of_grpo(row: Mapping[str, Any]) -> bool:
    return _any("atlas", "rollouts", "reward")(row) or {"model", "tools"} <= set(row)


KINDS = (
    RecipeKind("serve", "serve", ServeRecipe, _any("models")),
    RecipeKind("eval", "eval", EvalRecipe, _any("workflows", "benchmarks")),
    RecipeKind("data", "data build", DataRecipe, _any("seeds", "teacher")),
    RecipeKind("pretrain", "pretrain", PretrainRecipe, _any("vision", "scenes", "joint")),
    RecipeKind("episodes", "check", AgentLoopRecipe, _any("episodes")),
    RecipeKind("grpo", "grpo", AnyExperiment, _of_grpo),
    RecipeKind("harness", "python -m lmms_eval --model deepmmsearch", HarnessRecipe, _any("policy", "trajectories")),
    RecipeKind("sft", "sft", FineTuning, _any("lora", "trl", "evaluate_on", "data")),
    RecipeKind("tools", "ask IMAGE QUESTION --tools", ToolSettings, _any("text", "image", "index", "kind")),
)


def kind_of(row: Mapping[str, Any], source: str) -> RecipeKind:
    """Raises UserError for settings that are of no kind of recipe."""
    refuse_other_program(row, Path(source))
    for kind in KINDS:
        if kind.marked(row):
            return kind
    listed = ", ".join(kind.name for kind in KINDS)
    raise UserError(f"{source} is not a recipe: its settings ({', '.join(row)}) belong to none of {listed}.")


def kind_of_file(path: Path) -> str:
    """The kind's name, or the program whose configuration it is."""
    row = read_yaml(path.read_text(encoding="utf-8"))
    return other_program(row) or kind_of(row, str(path)).name
