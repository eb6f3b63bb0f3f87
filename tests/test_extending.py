"""The examples of docs/extending.md: each is installed as its page says, and used."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Offer
from data_files import base64_picture
from deepmmsearch.agent import Toolbox, play
from deepmmsearch.agent.dialect import DIALECTS
from deepmmsearch.agent.table import TOOLS, installed_tools
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.evaluation import Evaluation, Task
from deepmmsearch.compose.judges import JudgeSettings, build_judge
from deepmmsearch.compose.recipe import read_settings
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.data.published import BENCHMARKS, open_questions
from deepmmsearch.errors import UserError
from deepmmsearch.eval.run import BenchmarkInfo
from deepmmsearch.eval.workflows import WORKFLOWS
from deepmmsearch.judge import JUDGES, RuleJudge
from deepmmsearch.rewards import REWARDS, RewardSettings, build_reward
from deepmmsearch.testing import FakeTools, ScriptedPolicy, contract
from deepmmsearch.tools.providers import catalog
from deepmmsearch.types import Prompt, Question, Trajectory

DOCS = Path(__file__).parent.parent / "docs" / "extending.md"
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
RIGHT = "<reason>r</reason><answer>Oru</answer>"


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", SECTIONS[section], re.DOTALL | re.MULTILINE)


class Installed:
    """What a section shows, installed by pip. `recipe`: its YAML; `check`: runs its contract."""

    def __init__(self, section: str, offer: Offer) -> None:
        ((group, entries),) = tomllib.loads(blocks(section, "toml")[0])["project"]["entry-points"].items()
        folder = offer(group, package=section.replace(" ", "-").lower(), **entries)
        (self.name,) = entries
        self.modules = []
        for text in blocks(section, "python"):
            head, _, _ = text.partition("\n")
            name = head.removeprefix("# ").removesuffix(".py")
            assert head == f"# {name}.py", f"{section}: the first line of an example names its file"
            (folder / f"{name}.py").write_text(text)
            self.modules.append(name)
        self.recipe: Any = yaml.safe_load(found[0]) if (found := blocks(section, "yaml")) else None

    def check(self) -> None:
        (name,) = [name for name in self.modules if name.startswith("check_")]
        importlib.import_module(name).check_all()


def start(dialect: str = "deepmmsearch-r1", **question: Any) -> Trajectory:
    return Trajectory(Question("q", "Which city is it?", answers=("Oru",), **question), Prompt("p", dialect, "Answer."))


def test_every_group_has_its_example() -> None:
    project = tomllib.loads((DOCS.parent.parent / "pyproject.toml").read_text())["project"]
    ours = {group for group in project["entry-points"] if group.startswith("deepmmsearch.")}
    shown = {g for s in SECTIONS for text in blocks(s, "toml") for g in tomllib.loads(text)["project"]["entry-points"]}
    assert shown == ours == set(re.findall(r"\| `(deepmmsearch\.\w+)` \|", DOCS.read_text()))
    assert all(f"`{name}`" in DOCS.read_text() for name in contract.__all__ if name.isupper())


def test_a_provider(offer: Offer) -> None:
    pytest.importorskip("httpx2")
    example = Installed("A provider", offer)
    example.check()
    assert catalog.listing("mediawiki").about == "The search of a wiki itself, such as Wikipedia's."
    assert len(blocks("A provider", "python")[0].splitlines()) <= 28, "20 lines and blank ones"
    tools = build_toolbox(read_settings(example.recipe, ToolSettings, "tools.yaml"), ScriptedPolicy("x"), {})
    assert tools.text_search is not None and tools.text_search.name == "mediawiki"  # type: ignore[attr-defined]


def test_a_tool(offer: Offer) -> None:
    example = Installed("A tool", offer)
    example.check()
    assert "days_between" in TOOLS.names()
    settings = read_settings(example.recipe, ToolSettings, "tools.yaml")
    assert [extra.name for extra in settings.extra] == ["days_between"]
    asked = '<reason>r</reason><days_between>{"first": "1801-02-03", "second": "1801-03-03"}</days_between>'
    (tool,) = [tool for tool in installed_tools() if tool.name == "days_between"]
    played = asyncio.run(play(start(), ScriptedPolicy(asked, RIGHT), Toolbox(extra=(tool,))))
    assert played.answer == "Oru" and played.turns[0].observation is not None
    assert played.turns[0].observation.text == "28 days." and not played.searches


def test_a_dialect(offer: Offer) -> None:
    example = Installed("A dialect", offer)
    example.check()
    assert "json-turns" in DIALECTS.names()
    script = ('{"reason": "r", "tool": "text_search", "input": "Oru"}', '{"reason": "r", "answer": "Oru"}')
    played = asyncio.run(play(start("json-turns"), ScriptedPolicy(*script), FakeTools().toolbox()))
    assert played.answer == "Oru" and len(played.searches) == 1


def test_a_benchmark(offer: Offer, tmp_path: Path) -> None:
    Installed("A judge", offer)
    Installed("A benchmark", offer)
    rows = [{"name": "Tower", "city": city, "photo": base64_picture()} for city in ("Oru", "")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = open_questions("landmarks", path=tmp_path / "rows.jsonl")
    (question,) = asked
    assert dict(asked.report.dropped) == {"no city": 1} and question.metadata["benchmark"] == "landmarks"
    assert RuleJudge("official").verdict(question, "Surely Oru, by the sea").correct
    assert BENCHMARKS.find("landmarks").hub is not None


def test_a_judge(offer: Offer) -> None:
    example = Installed("A judge", offer)
    example.check()
    judge = build_judge(read_settings(example.recipe, JudgeSettings, "judge.yaml"))
    assert asyncio.run(judge.judge(start().question, "in Oru")).reason == "the city is named"
    assert JUDGES.origin("city") == "a-judge"


async def test_a_reward(offer: Offer) -> None:
    example = Installed("A reward", offer)
    assert "brief" in REWARDS.names()
    reward = build_reward(RewardSettings.model_validate(example.recipe), RuleJudge("reward"))
    right = await play(start(), ScriptedPolicy(RIGHT), Toolbox())
    long = await play(start(), ScriptedPolicy(RIGHT.replace("Oru", "the city is called Oru")), Toolbox())
    assert (await reward(right)).value == 1.0 and (await reward(long)).value == pytest.approx(0.8)
    assert (await reward(right)).parts == {"correct": 1.0, "short": 1.0}
    with pytest.raises(ValueError, match="needs the setting words"):
        RewardSettings.model_validate("brief")


async def test_a_workflow(offer: Offer, tmp_path: Path) -> None:
    example = Installed("A workflow", offer)
    assert "second-try" in WORKFLOWS.names()
    evaluation = Evaluation(recipe_with(tmp_path, example.recipe))
    evaluation._policies["m"] = Unsure()
    task = Task(BenchmarkInfo("own", "Own", 1), [], FakeTools().toolbox(), {})
    workflow = evaluation.workflow("w", task)
    played = [trajectory async for trajectory in workflow.play(start().question)]
    assert played[-1].answer == "Oru" and played[-1].question.metadata["rollout"] == 1
    with pytest.raises(UserError, match=r"workflows\.w: The workflow second-try: times: Input should be a valid"):
        recipe_with(tmp_path, {**example.recipe, "times": "many"})
    with pytest.raises(UserError, match=r"Unknown setting of the workflow second-try 'tims'\. Did you mean 'times'"):
        recipe_with(tmp_path, {"kind": "second-try", "tims": 3})


class Unsure:
    """Knows it the second time."""

    async def act(self, trajectory: Trajectory) -> Any:
        rollout = trajectory.question.metadata["rollout"]
        return await ScriptedPolicy(RIGHT if rollout else RIGHT.replace("Oru", "I do not know")).act(trajectory)


def recipe_with(folder: Path, workflow: Any) -> EvalRecipe:
    benchmark = {"name": str(folder / "mine.jsonl"), "label": "own"}
    row = {
        "output": str(folder / "run"),
        "policies": {"m": {}},
        "benchmarks": [benchmark],
        "workflows": {"w": workflow},
    }
    recipe: EvalRecipe = read_settings(row, EvalRecipe, "recipe.yaml")
    return recipe


def test_a_family_of_models(offer: Offer, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from PIL import Image
    from tests.checkpoints import tiny_checkpoint

    from deepmmsearch.policies.local import LocalPolicy
    from deepmmsearch.policies.local.checkpoint import load_checkpoint
    from deepmmsearch.policies.local.families import FAMILIES

    Installed("A family of models", offer)
    assert FAMILIES.origin("vipllava") == "a-family-of-models"
    source = tiny_checkpoint(tmp_path, "vipllava")
    family = load_checkpoint(source, "auto").family
    assert type(family).__name__ == "VipLlava" and family.trains and family.features((40, 30)) == 16
    policy = LocalPolicy.load(source, max_new_tokens=6)
    asked = start(images=(Image.new("RGB", (40, 30), "red"),))
    for check in contract.POLICY:
        check(contract.PolicyCase(policy, asked))
