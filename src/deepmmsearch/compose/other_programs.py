"""Configurations of other programs, which lie beside the recipes and are none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepmmsearch.errors import UserError

# of Hydra's list of defaults: the file itself, and verl's own
_FOUND_ELSEWHERE = ("_self_", "ppo_trainer")


def other_program(row: Any) -> str | None:
    """The program whose configuration it is, where it is not a recipe."""
    if _is_agent_loops(row):
        return "verl"
    if not isinstance(row, Mapping):
        return None
    return (
        "verl" if {"actor_rollout_ref", "hydra"} & set(row) else "accelerate" if "compute_environment" in row else None
    )


def how_used(row: Any, path: Path) -> str:
    """How its program is given the configuration, in the words of a message."""
    if _is_agent_loops(row):
        place = "actor_rollout_ref.rollout.agent.agent_loop_config_path"
        return f"Name it to verl: python -m verl.trainer.main_ppo {place}={path.absolute()} ..."
    if other_program(row) == "accelerate":
        return f"Use it with: accelerate launch --config_file {path}"
    named = row.get("defaults") if isinstance(row.get("defaults"), list) else []
    beside = [f"{name}.yaml" for name in named if isinstance(name, str) and name not in _FOUND_ELSEWHERE]
    lacking = [name for name in beside if not (path.parent / name).exists()]
    needs = f"It needs {', '.join(lacking)} beside it. " if lacking else ""
    started = f"python -m verl.trainer.main_ppo --config-path {path.parent.absolute()} --config-name {path.stem}"
    return f"{needs}Use it with: {started}"


def refuse_other_program(row: Any, path: Path) -> None:
    """Raises UserError for what is not a recipe."""
    if (program := other_program(row)) is not None:
        raise UserError(f"{path} is a configuration of {program}, not a recipe. {how_used(row, path)}")


def _is_agent_loops(row: Any) -> bool:
    return isinstance(row, list) and bool(row) and all(isinstance(each, Mapping) and "_target_" in each for each in row)
