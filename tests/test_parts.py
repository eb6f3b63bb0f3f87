"""The slow tests can be run in parts, which together are all of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import pytest_collection_modifyitems


def kept(part: str, names: list[str]) -> list[str]:
    items = [SimpleNamespace(nodeid=name) for name in names]
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    config = SimpleNamespace(getoption=lambda name: part, hook=hook)
    pytest_collection_modifyitems(config, items)  # type: ignore[arg-type]
    return [item.nodeid for item in items]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_are_all_tests_each_once(parts: int) -> None:
    names = [f"tests/test_a.py::test_{number}" for number in range(60)]
    found = [kept(f"{number + 1}/{parts}", names) for number in range(parts)]
    assert sorted(name for part in found for name in part) == sorted(names)
    assert all(len(part) > 60 // parts // 2 for part in found)


def test_ci_runs_a_part_of_the_slow_ones() -> None:
    said = (Path(__file__).parent.parent / ".ci" / "run").read_text()
    assert "make test\n" in said and "make test-slow PART=" in said
