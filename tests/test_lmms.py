"""The adapter for lmms-eval, against a minimal stand-in for its interface (0.7: api.model.lmms, Instance.args,
registry_v2.ModelManifest). The package itself is not installed in tests: it brings some sixty others."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.lmms.answering import Answering, as_question
from deepmmsearch.prompts import load_prompt
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Completion, Trajectory


@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


class Base:
    is_simple = True

    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}


@dataclass(frozen=True)
class Instance:
    args: tuple[Any, ...]


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, attributes in {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": Base},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
    }.items():
        module = ModuleType(name)
        for key, value in attributes.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "deepmmsearch.lmms.model", raising=False)


class Echo:
    """Answers with the question's text and the size of its picture; fails where it is told to."""

    async def act(self, trajectory: Trajectory) -> Completion:
        question = trajectory.question
        if "fail" in question.text:
            raise UserError("no")
        size = question.image.size if question.image is not None else None
        return Completion(f"<reason>x</reason><answer>{question.text} {size}</answer>")


def workflow() -> AgentWorkflow:
    return AgentWorkflow(Echo(), load_prompt("direct"), lambda _: Toolbox())


def test_requests_become_questions_and_answers_keep_their_order(harness: None, tmp_path: Path) -> None:
    from deepmmsearch.lmms.model import DeepMMSearch

    model = DeepMMSearch.__new__(DeepMMSearch)
    Base.__init__(model)
    model._answering = Answering(workflow(), concurrency=2, store=TrajectoryStore(tmp_path / "kept"))
    docs = [{"picture": Image.new("RGB", (n + 1, 2))} for n in range(3)]
    model.task_dict = {"okvqa": {"val": docs}}
    asked = [
        Instance((f"<image>\nWhat {n}?", {"max_new_tokens": 16}, lambda doc: [doc["picture"]], n, "okvqa", "val"))
        for n in (2, 0, 1, 2)
    ]
    assert model.generate_until(asked) == ["What 2? (3, 2)", "What 0? (1, 2)", "What 1? (2, 2)", "What 2? (3, 2)"]
    assert len(TrajectoryStore(tmp_path / "kept")) == 4
    with pytest.raises(NotImplementedError, match="generate"):
        model.loglikelihood(asked)


def test_an_episode_that_failed_answers_nothing() -> None:
    questions = [as_question("a", "fail", []), as_question("b", "fine", ["no picture"])]
    assert Answering(workflow()).answers(questions) == ["", "fine None"]


def test_a_model_that_is_down_ends_the_run_instead_of_answering_nothing(tmp_path: Path) -> None:
    questions = [as_question(str(n), "fail", []) for n in range(20)]
    store = TrajectoryStore(tmp_path)
    with pytest.raises(Failed, match="8 questions in a row ended in an error, the last with: no"):
        Answering(workflow(), concurrency=1, store=store).answers(questions)
    assert len(store) == 8
    with pytest.raises(Failed, match="All 3 questions failed, the last with: no"):
        Answering(workflow()).answers(questions[:3])
    assert Answering(workflow(), stop_after_errors=None).answers(questions) == [""] * 20


def test_the_model_is_found_through_the_entry_point(harness: None) -> None:
    (found,) = entry_points(group="lmms_eval.models", name="deepmmsearch")
    manifest = found.load()()
    assert (manifest.model_id, manifest.simple_class_path) == ("deepmmsearch", "deepmmsearch.lmms.model.DeepMMSearch")


def test_a_recipe_that_waits_for_a_person_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "agent.yaml"
    recipe.write_text("policy: {kind: human}\n")
    with pytest.raises(UserError, match=r"'human'\. Known: chat, local"):
        Answering.from_recipe(recipe)
