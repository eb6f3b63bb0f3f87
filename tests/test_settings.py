"""Settings of one kind are refused under every other kind, in every model that a recipe is made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
from deepmmsearch.compose.data_build import DataRecipe
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.harness_recipe import HarnessRecipe
from deepmmsearch.compose.policies import ChatPolicySettings, LocalPolicySettings, PolicySettings
from deepmmsearch.compose.recipe import load_recipe, read_settings
from deepmmsearch.compose.serving import ServeRecipe
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.training_recipes import AnyExperiment, FineTuning
from deepmmsearch.errors import UserError
from deepmmsearch.rewards import RewardSettings
from deepmmsearch.settings import FOREIGN, EndpointSettings, LimitSettings, OneOf, Settings

ROOTS = (EvalRecipe, DataRecipe, AnyExperiment, FineTuning, PretrainRecipe, HarnessRecipe, ServeRecipe, ToolSettings)
RECIPES = Path(__file__).parent.parent / "recipes"


def parts(kind: Any, seen: set[int]) -> Iterator[Any]:
    """Every model and every annotated union within a type, once."""
    if get_origin(kind) is Annotated:
        yield from ((kind, mark) for mark in kind.__metadata__ if isinstance(mark, OneOf) and id(mark) not in seen)
        seen |= {id(mark) for mark in kind.__metadata__}
        yield from parts(get_args(kind)[0], seen)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        if id(kind) not in seen:
            seen.add(id(kind))
            yield kind, None
            for found in kind.model_fields.values():
                yield from parts(Annotated[(found.annotation, *found.metadata, None)], seen)
    else:
        for argument in get_args(kind):
            yield from parts(argument, seen)


def walked() -> list[tuple[Any, OneOf | None]]:
    seen: set[int] = set()
    return [part for root in ROOTS for part in parts(root, seen)]


UNIONS = [(kind, mark) for kind, mark in walked() if mark is not None]


def foreign() -> Iterator[Any]:
    for union, mark in UNIONS:
        kinds = mark.kinds(get_args(union)[0])
        for kind, member in kinds.items():
            others = {name: owner for owner, m in kinds.items() for name in m.model_fields}
            for name in sorted(set(others) - set(member.model_fields) - (set() if mark.by else set(mark.meant))):
                owners = [k for k, m in kinds.items() if name in m.model_fields]
                yield pytest.param(union, mark, kind, name, owners, id=f"{member.__name__}-{kind}-{name}")


FOREIGN_SETTINGS = list(foreign())


def test_the_walk_finds_all_kinds() -> None:
    found = {member.__name__ for union, mark in UNIONS for member in mark.kinds(get_args(union)[0]).values()}
    assert {
        "RuleJudgeSettings",
        "OraclePolicySettings",
        "HumanPolicySettings",
        "TableSeeds",
        "VllmServerRollouts",
    } <= found
    assert {"DinoGroundingSettings", "ReplaySettings", "DataExperiment", "RagSettings", "ProviderSettings"} <= found
    assert len(FOREIGN_SETTINGS) > 150


def test_every_section_of_every_recipe_refuses_unknown_names() -> None:
    for kind, mark in walked():
        # a reward's settings are the arguments of a function, and checked against them
        assert mark is not None or issubclass(kind, Settings | RewardSettings), f"{kind} takes any name"


@pytest.mark.parametrize(("union", "mark", "kind", "name", "owners"), FOREIGN_SETTINGS)
def test_a_setting_of_another_kind_is_refused_by_name(
    union: Any, mark: OneOf, kind: str, name: str, owners: list[str]
) -> None:
    means = next((n for n, k in mark.meant.items() if k == kind), "") if mark.by is None else mark.by
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(union).validate_python({means: kind, name: None})
    told = [e for e in caught.value.errors() if e["type"] == FOREIGN]
    assert [(e["loc"], e["ctx"]["kind"], e["ctx"]["owners"]) for e in told] == [((name,), kind, owners)]
    said = told[0]["msg"]
    assert said.startswith(f"{name} belongs to ") and all(owner in said for owner in owners)
    assert f" {kind}" in said and "that takes " in said and f"Remove {name}, or " in said


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        (
            "eval/atlas",
            ["policies.bundled={base_url: 'http://127.0.0.1:8000/v1'}"],
            r"policies\.bundled\.base_url belongs to kind chat, but this is kind local, which is meant where none is "
            r"given; that takes model, .*, seed\. Remove base_url, or add kind: chat\.",
        ),
        ("atlas/grpo", ["judge.kind=rules"], "Unknown kind of judge in .* 'rules'. Did you mean 'rule'"),
        ("atlas/grpo", ["judge={model: gpt-5}"], "judge.model belongs to kind llm.*add kind: llm"),
        ("atlas/grpo", ["judge={kind: llm, rule: exact}"], "judge.rule belongs to kind rule, but this is kind llm"),
        (
            "atlas/grpo",
            ["tools={kind: providers, text: [nonsense]}"],
            "tools belongs to a recipe with data, but this is a recipe with atlas",
        ),
        (
            "atlas/grpo",
            ["rollouts={backend: vllm-server, batch: 8}"],
            "rollouts.batch belongs to backend local and slots",
        ),
        ("atlas/grpo", ["rollouts.backend=vllm-server"], "evaluate_every needs a sampler in this process"),
        ("atlas/grpo", ["data=[x]"], "give either atlas or data"),
        ("paper/grpo_mmsearch_r1", ["evaluate_every=5"], "evaluate_every belongs to questions from atlas"),
        ("paper/grpo_mmsearch_r1", ["tools.grounding={kind: none, model: x}"], "belongs to kind dino and chat"),
        ("paper/grpo_mmsearch_r1", ["tools.image=[]", "tools.grounding=own"], "grounding belongs to image search"),
        ("paper/grpo_mmsearch_r1", ["tools.recorder.mode=live"], "tools.recorder.cassette belongs to mode cache and"),
        ("paper/grpo_mmsearch_r1", ["tools.index=index"], "index belongs to the provider and the reader called local"),
        ("atlas/sft", ["evaluate_every=200"], "evaluate_every does nothing without evaluate_on"),
        ("atlas/sft", ["evaluate_on.folder=w"], "evaluate_on does nothing without evaluate_every"),
        (
            "eval/atlas",
            ["tools.text=[searxng]"],
            "tools belongs to other benchmarks: an atlas is searched with",
        ),
        ("eval/general", ["tools.text=[searxng]"], "tools belongs to workflows of kind rag and agent"),
        ("eval/atlas", ["benchmarks.0.path=x"], "benchmarks.0.path belongs to name another benchmark"),
        ("eval/atlas", ["workflows.direct.crop=false"], "workflows.direct.crop belongs to kind agent and oracle"),
        (
            "eval/atlas",
            ["workflows.oracle.policy=bundled"],
            "oracle.policy belongs to kind direct and rag and agent",
        ),
        (
            "data/atlas",
            ["seeds.path=x"],
            "belongs to a section with benchmark, but this is a section with worlds",
        ),
        ("data/atlas", ["rollout_policy.policy=oracle"], "rollout_policy belongs to search.by rollouts"),
        ("data/infoseek", ["teacher.gold_boxes=true"], "teacher.gold_boxes belongs to seeds from worlds"),
        ("data/infoseek", ["judge.cassette=x"], "Did you mean 'judge.recorder.cassette'"),
    ],
)
def test_what_did_nothing_is_refused(recipe: str, overrides: list[str], message: str) -> None:
    models = {"eval": EvalRecipe, "data": DataRecipe, "sft": FineTuning}
    folder, name = recipe.split("/")
    model: Any = models.get(folder) or models.get(name) or AnyExperiment
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(RECIPES / f"{recipe}.yaml", model, overrides)
    assert "\n" not in str(caught.value)


def test_kinds_are_meant_only_where_that_is_safe() -> None:
    assert read_settings({}, PolicySettings, "x") == LocalPolicySettings()
    assert read_settings("chat", PolicySettings, "x") == ChatPolicySettings()
    assert read_settings({"text": "searxng"}, ToolSettings, "x").kind == "providers"
    with pytest.raises(UserError, match="base_url belongs to kind chat"):
        read_settings({"base_url": "http://127.0.0.1:1"}, PolicySettings, "x")


def test_overrides_reach_into_kinds_and_lists() -> None:
    path = RECIPES / "eval" / "paper.yaml"
    given = ["tools.reader.timeout=3", "tools.text.0.country=us", "benchmarks.2.sample=9", "policies.qwen.model=m"]
    loaded = load_recipe(path, EvalRecipe, [*given, "workflows.qwen agent.limits.calls=4"])
    assert loaded.tools is not None and loaded.tools.kind == "providers"
    assert loaded.tools.reader.kind == "web" and loaded.tools.text[0].options == {"country": "us"}
    assert loaded.benchmarks[2].sample == 9 and loaded.policies["qwen"].model == "m"  # type: ignore[union-attr]
    assert loaded.workflows["qwen agent"].limits == LimitSettings(calls=4)  # type: ignore[union-attr]
    with pytest.raises(UserError, match="'9' is not a place in a list of 6; the first is 0"):
        load_recipe(path, EvalRecipe, ["benchmarks.9.sample=1"])


def test_one_vocabulary() -> None:
    """Limits, judges and models behind endpoints have the same names wherever a recipe speaks of them."""
    sections = [kind for kind, mark in walked() if mark is None]
    limits = [s for s in sections if {"calls", "image_searches"} <= set(s.model_fields)]
    assert limits == [LimitSettings]
    endpoints = [s for s in sections if "base_url" in s.model_fields]
    assert len(endpoints) == 5 and all(issubclass(s, EndpointSettings) for s in endpoints)
    assert len({s for s in sections if "rule" in s.model_fields}) == 1
