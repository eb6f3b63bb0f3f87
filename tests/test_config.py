from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from checkpoints import tiny_checkpoint
from deepmmsearch.agent import Toolbox
from deepmmsearch.compose import policies
from deepmmsearch.compose.policies import (
    ChatPolicySettings,
    HumanPolicySettings,
    LocalPolicySettings,
    build_policy,
    choose_prompt,
)
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.compose.tool_parts import OwnGroundingSettings
from deepmmsearch.compose.tool_settings import LocalToolSettings, NoToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.engine import Index
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.policies.chat import ChatPolicy
from deepmmsearch.policies.human import HumanPolicy
from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.settings import Settings
from deepmmsearch.strict_yaml import read_yaml
from deepmmsearch.testing import FakeTools, ScriptedPolicy


class Optimizer(Settings):
    learning_rate: float = 0.1
    name: str = "adamw"


class Recipe(Settings):
    output: str
    turns: int = 3
    optimizer: Optimizer = Optimizer()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("output: runs/a\noptimizer:\n  learning_rate: 0.5\n")
    return path


def test_a_recipe_with_overrides(recipe: Path) -> None:
    plain = load_recipe(recipe, Recipe)
    assert (plain.output, plain.turns, plain.optimizer.learning_rate) == ("runs/a", 3, 0.5)
    changed = load_recipe(recipe, Recipe, ["optimizer.learning_rate=1e-3", "turns=5", "output=runs/b"])
    assert (changed.output, changed.turns, changed.optimizer.learning_rate) == ("runs/b", 5, 0.001)


def test_overrides_fill_in_what_the_file_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("output: x\noptimizer:\n")
    assert load_recipe(path, Recipe, ["optimizer.name=sgd"]).optimizer.name == "sgd"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("output: x\nturn: 3", [], "Did you mean 'turns'"),
        ("output: x\noptimizer: {learning_rat: 1}", [], "Did you mean 'optimizer.learning_rate'"),
        ("output: x", ["optimizer.nam=x"], "Did you mean 'optimizer.name'"),
        ("turns: 3", [], "output: Field required"),
        ("output: x\nturns: many", [], "turns: .*'many'"),
        ("output: x", ["turns"], "is not an override"),
        ("output: x", ["=3"], "is not an override"),
        ("output: x", ["output.deeper=3"], "holds a value"),
        ("output: x", ["turns=[1"], "not YAML"),
        ("output: [x", [], "is not YAML"),
        ("- x", [], "holds no settings"),
        ("", [], "holds no settings"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(path, Recipe, overrides)
    assert "\n" not in str(caught.value)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "its aliases unfold to more than 50,000 values"),
        (MERGES, "its aliases unfold to more than 50,000 values"),
        ("output: &a [*a]", "an alias contains itself"),
        ("output: " + "[" * 5000 + "]" * 5000, "nests more than 40 deep"),
        ("output: " + "[" * 60 + "]" * 60, "nests more than 40 deep"),
        ("output: " + "x" * 1_000_001, "at most 1,000,000 are read"),
        ("output: x\nturns: 1\nturns: 2", r"turns stands twice in one section \(line 3\)"),
        ("output: \x00", "not YAML"),
    ],
    ids=["laughs", "merges", "itself", "deepest", "deep", "large", "twice", "control"],
)
def test_what_cannot_be_read_in_reasonable_time_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(path, Recipe)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_aliases_and_numbers_are_what_they_seem(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("output: &name x\noptimizer: {name: *name, learning_rate: 1e-3}\n")
    assert load_recipe(path, Recipe).optimizer == Optimizer(name="x", learning_rate=0.001)
    assert read_yaml("{a: 1e-3, b: -2E+4, c: 1.5e2, d: e5, e: 1_e}") == {
        "a": 0.001, "b": -2e4, "c": 150.0, "d": "e5", "e": "1_e"
    }  # fmt: skip


def test_a_missing_recipe() -> None:
    with pytest.raises(UserError, match="There is no recipe"):
        load_recipe(Path("nowhere.yaml"), Recipe)


def test_policies_are_built_from_settings(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "small", prompt="atlas", grounding="qwen3-vl")
    local = build_policy(LocalPolicySettings(model=str(folder), max_new_tokens=5))
    assert isinstance(local, LocalPolicy) and local.max_new_tokens == 5
    chat = build_policy(ChatPolicySettings(model="m", base_url="http://127.0.0.1:9/v1", timeout=3))
    assert isinstance(chat, ChatPolicy) and (chat.model, chat.timeout) == ("m", 3)
    assert isinstance(build_policy(HumanPolicySettings()), HumanPolicy)


def test_without_the_bundled_model_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(policies, "BUNDLED", tmp_path / "model")
    with pytest.raises(UserError, match="no bundled model"):
        build_policy(LocalPolicySettings())


def test_tools_are_built_from_settings(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "veld.md").write_text("# Veld\n\nThe capital of Veld is Moru.\n")
    Index.build(pages, tmp_path / "index")
    folder = tiny_checkpoint(tmp_path / "small", grounding="qwen3-vl")
    local = build_policy(LocalPolicySettings(model=str(folder)))
    tools = build_toolbox(
        LocalToolSettings(index=tmp_path / "index", text_hits=2, grounding=OwnGroundingSettings(box_threshold=0.1)),
        local,
    )
    assert tools.text_search is not None and (tools.text_hits, tools.box_threshold) == (2, 0.1)
    hits = asyncio.run(tools.text_search.search("capital of Veld", 3))
    assert "Moru" in hits[0].snippet
    assert tools.grounder is not None
    assert build_toolbox(LocalToolSettings(index=tmp_path / "index"), HumanPolicy()).grounder is None
    assert build_toolbox(NoToolSettings(), local) == Toolbox()


def test_tools_that_cannot_be_built(tmp_path: Path) -> None:
    policy = ScriptedPolicy("x")
    with pytest.raises(UserError, match="need an index"):
        build_toolbox(LocalToolSettings(), policy)
    with pytest.raises(UserError, match="not an index"):
        build_toolbox(LocalToolSettings(index=tmp_path), policy)


def test_the_dialect_of_boxes_comes_from_settings_or_the_card(tmp_path: Path) -> None:
    local = build_policy(LocalPolicySettings(model=str(tiny_checkpoint(tmp_path / "small"))))
    with pytest.raises(UnknownName, match=r"Did you mean 'qwen2\.5-vl'"):
        policies.find_grounder(local, "qwen2-vl")
    assert policies.find_grounder(local) is not None


def test_the_prompt_follows_card_and_tools(tmp_path: Path) -> None:
    trained = build_policy(LocalPolicySettings(model=str(tiny_checkpoint(tmp_path / "small", prompt="atlas"))))
    tools = FakeTools().toolbox()
    assert choose_prompt(trained, tools).name == "atlas"
    assert choose_prompt(trained, Toolbox()).name == "atlas-direct"
    assert choose_prompt(HumanPolicy(), tools).name == "deepmmsearch-r1"
    assert choose_prompt(HumanPolicy(), Toolbox()).name == "direct"
    assert choose_prompt(trained, tools, "mmsearch-r1").name == "mmsearch-r1"
    with pytest.raises(UnknownName, match="Did you mean 'direct'"):
        choose_prompt(trained, tools, "direkt")
