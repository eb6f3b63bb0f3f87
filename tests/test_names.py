"""One name for one thing: no two modules and no two public classes share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from test_imports import MODULES

# Modules that are named by something else than their subject, and so may be called as its module is.
NAMED_BY_ANOTHER = {
    "cli": "one file a command: `cli.judge` is `deepmmsearch judge`",
    "compose": "what it puts together: `compose.toolbox` makes an `agent.toolbox`",
    "testing.contract": "what it holds to its contract: `testing.contract.judge`",
    "tools.providers": "one file a provider, called as in recipes: `local`, `pictures`",
}
# Names that stand for one thing in two places: name -> why. To be kept empty.
MODULES_ALLOWED: dict[str, str] = {}
CLASSES_ALLOWED: dict[str, str] = {}


def subject(module: str) -> bool:
    return not any(module.startswith(f"{package}.") for package in NAMED_BY_ANOTHER)


def shared(names: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: places for name, places in names.items() if len(places) > 1}


def classes(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def test_no_two_modules_share_a_name() -> None:
    names: dict[str, list[str]] = defaultdict(list)
    for module in filter(subject, MODULES):
        names[module.rsplit(".", 1)[-1]].append(module)
    assert len(names) > 100
    assert shared(names).keys() == MODULES_ALLOWED.keys(), shared(names)


def test_no_two_public_classes_share_a_name() -> None:
    names: dict[str, list[str]] = defaultdict(list)
    for module, path in MODULES.items():
        for name in classes(path):
            names[name].append(module)
    assert len(names) > 200
    assert shared(names).keys() == CLASSES_ALLOWED.keys(), shared(names)


@pytest.mark.parametrize("package", NAMED_BY_ANOTHER)
def test_what_is_named_by_another_thing_is_there(package: str) -> None:
    assert any(module.startswith(f"{package}.") for module in MODULES)
