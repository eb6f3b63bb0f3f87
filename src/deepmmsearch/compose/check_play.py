"""Recipes that play questions, checked: evaluations and data builds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepmmsearch.compose.agent_loop_recipe import AgentLoopRecipe
from deepmmsearch.compose.check_parts import Parts, StandIn
from deepmmsearch.compose.data_build import DataRecipe, PlayerSettings
from deepmmsearch.compose.estimate import TEXT_SEARCHES, WORLD_QUESTION, Tempo, Work, episodes, judged
from deepmmsearch.compose.eval_recipe import (
    QUESTIONS,
    AtlasBenchmarkSettings,
    BenchmarkSettings,
    DirectSettings,
    EvalRecipe,
    NamedBenchmarkSettings,
    OracleSettings,
    RagSettings,
    WorkflowSettings,
)
from deepmmsearch.compose.evaluation import Evaluation, limited
from deepmmsearch.compose.harness_recipe import HarnessRecipe
from deepmmsearch.compose.policies import prompt_for, trained_prompt
from deepmmsearch.compose.serving import ServeRecipe
from deepmmsearch.compose.tool_settings import LocalToolSettings, NoToolSettings, ToolSettings
from deepmmsearch.data.published import find_benchmark
from deepmmsearch.data.recipe import AgainstTable, AtlasSeeds, ModelTaxonomy, SearchByRollouts
from deepmmsearch.errors import UnknownName
from deepmmsearch.policies.agent_card import AgentCard
from deepmmsearch.settings import LimitSettings
from deepmmsearch.types import Policy

# bytes that are kept of a played question, of a picture, and of a row of a data set through all its stages
PLAYED, PICTURE, ROW = 20_000, 300_000, 500_000
# of what is judged right, and so goes on to be labelled (DeepMMSearch-R1, section 3.2: 47,000 of 200,000)
RIGHT = 0.25


def narrowed(recipe: EvalRecipe, only: Sequence[str], benchmarks: Sequence[str]) -> EvalRecipe:
    """What is played of it. Raises UnknownName for a workflow or benchmark that is not in the recipe."""
    for name in only:
        if name not in recipe.workflows:
            raise UnknownName("workflow in the recipe", name, recipe.workflows)
    evaluation = Evaluation(recipe)
    workflows = {name: w for name, w in recipe.workflows.items() if not only or name in only}
    playing = {evaluation.name_of(workflow) for workflow in workflows.values()}
    searching = any(not isinstance(w, DirectSettings | OracleSettings) for w in workflows.values())
    changed = {
        "workflows": workflows,
        "policies": {name: policy for name, policy in recipe.policies.items() if name in playing},
        "benchmarks": limited(recipe.benchmarks, benchmarks),
        "tools": recipe.tools if searching else None,
    }
    return recipe.model_copy(update=changed)


def check_evaluation(recipe: EvalRecipe, parts: Parts) -> None:
    plan, evaluation, workflows = parts.plan, Evaluation(recipe), recipe.workflows
    players = {name: evaluation.name_of(w) for name, w in workflows.items()}
    policies = {name: parts.policy(settings) for name, settings in recipe.policies.items()}
    asked = {b.title: b for b in recipe.benchmarks}
    for judge in recipe.judges.values():
        parts.judge(judge)
    tools = _check_tools(recipe, parts, workflows, list(asked.values()), players, policies)
    for name, workflow in workflows.items():
        with plan.trying():
            evaluation.prompts(workflow, players[name])
    played, worlds, sizes = 0.0, 0.0, []
    for label, benchmark in asked.items():
        with plan.trying():
            known = find_benchmark(benchmark.name) if isinstance(benchmark, NamedBenchmarkSettings) else None
            if known is not None and known.encrypted:
                evaluation.refuse_cassettes(label)
        questions = _questions(benchmark, parts)
        sizes.append(f"{label} {questions:,.0f}")
        worlds += questions * isinstance(benchmark, AtlasBenchmarkSettings)
        for name, workflow in workflows.items():
            work = _work(recipe, parts, name, workflow, players[name], questions, benchmark, tools)
            if work is not None:
                plan.does(work)
                played += questions
                plan.room += min(recipe.pictures, questions) * PICTURE
    plan.note(f"Questions: {', '.join(sizes)}.")
    for name, settings in recipe.judges.items():
        if (work := judged(f"judge {name}", played, settings, recipe.concurrency)) is not None:
            plan.work.append(work)
    plan.room += played * PLAYED + worlds * WORLD_QUESTION


def _questions(benchmark: BenchmarkSettings, parts: Parts) -> float:
    if isinstance(benchmark, AtlasBenchmarkSettings):
        parts.engine()
        count: float = benchmark.sample or QUESTIONS
    else:
        count = parts.questions(benchmark.name, benchmark.path, benchmark.images, benchmark.split, benchmark.sample)
    return min(count, benchmark.limit or count)


def _check_tools(
    recipe: EvalRecipe,
    parts: Parts,
    workflows: dict[str, WorkflowSettings],
    asked: list[BenchmarkSettings],
    players: dict[str, str],
    policies: dict[str, Policy],
) -> ToolSettings | None:
    """What the recipe's tools come down to here."""
    others = [b for b in asked if not isinstance(b, AtlasBenchmarkSettings)]
    searching = [name for name, w in workflows.items() if not isinstance(w, DirectSettings | OracleSettings)]
    if not others or not searching:
        return None
    if recipe.tools is None:
        parts.plan.lacks(
            f"{others[0].title} needs tools to be searched with. Add a `tools:` section to the "
            "recipe, or play it with workflows of kind direct alone."
        )
        return None
    found = [parts.tools(recipe.tools, policies[p]) for p in dict.fromkeys(players[name] for name in searching)]
    return found[0]


def _work(
    recipe: EvalRecipe,
    parts: Parts,
    name: str,
    workflow: WorkflowSettings,
    player: str,
    questions: float,
    benchmark: BenchmarkSettings,
    tools: ToolSettings | None,
) -> Work | None:
    atlas = isinstance(benchmark, AtlasBenchmarkSettings)
    given: dict[str, Any] = {"concurrency": recipe.concurrency}
    if isinstance(workflow, OracleSettings):
        return episodes(name, questions, Tempo(), None, parts.plan.assumed, **given) if atlas else None
    if isinstance(workflow, DirectSettings):
        given |= {"images": 0, "texts": 0, "turns": 1}
    elif isinstance(workflow, RagSettings):
        given |= {"images": 1, "texts": 1, "turns": 2}
    else:
        given |= {"limits": workflow.limits, "images": int(workflow.image_search)}
        if workflow.text_searches is not None:
            given["texts"] = min(TEXT_SEARCHES, workflow.text_searches)
    searched = None if atlas else tools
    return episodes(name, questions, parts.tempo(recipe.policies[player]), searched, parts.plan.assumed, **given)


def check_build(recipe: DataRecipe, parts: Parts) -> None:
    plan, seeds = parts.plan, recipe.seeds
    plan.has("A data build", "data")
    atlas = isinstance(seeds, AtlasSeeds)
    if isinstance(seeds, AtlasSeeds):
        parts.engine()
        count: float = seeds.worlds * seeds.questions
        plan.room += count * WORLD_QUESTION
    else:
        count = parts.questions(seeds.benchmark, seeds.path, seeds.images, seeds.split, seeds.count or 0)
        plan.assumed.add(f"The teacher is right about {RIGHT:.0%} of the seeds.")
    for against in recipe.unique.against:
        if isinstance(against, AgainstTable):
            parts.questions(against.benchmark, against.path, against.images, against.split, against.count or 0)
    tools = {name: _check_player(player, atlas, parts) for name, player in recipe.players().items()}
    parts.judge(recipe.judge)
    right = count if atlas else RIGHT * count
    plan.work.append(_played(recipe.teacher, tools["teacher"], "teacher", count, recipe, parts))
    if isinstance(recipe.search, SearchByRollouts) and recipe.rollout_policy is not None:
        rollouts = right * recipe.search.rollouts
        plan.work.append(_played(recipe.rollout_policy, tools["rollout_policy"], "rollouts", rollouts, recipe, parts))
    asked = [judged("judge", count, recipe.judge, recipe.episodes.concurrency)]
    if isinstance(recipe.taxonomy, ModelTaxonomy):
        parts.endpoint(recipe.taxonomy)
        asked.append(judged("labels", right, recipe.taxonomy, recipe.taxonomy.concurrency))
    plan.work += [work for work in asked if work is not None]
    plan.room += count * ROW


def _check_player(settings: PlayerSettings, atlas: bool, parts: Parts) -> ToolSettings:
    policy, tools = parts.policy(settings.policy), settings.tools
    if not (atlas and isinstance(tools, LocalToolSettings) and tools.index is None):
        tools = parts.tools(tools, policy)
    with parts.plan.trying():
        prompt_for(trained_prompt(policy), not isinstance(tools, NoToolSettings), settings.prompt)
    return tools


def _played(
    settings: PlayerSettings, tools: ToolSettings, name: str, questions: float, recipe: DataRecipe, parts: Parts
) -> Work:
    played, tempo, assumed = recipe.episodes, parts.tempo(settings.policy), parts.plan.assumed
    return episodes(name, questions, tempo, tools, assumed, limits=played.limits, concurrency=played.concurrency)


def check_harness(recipe: HarnessRecipe, parts: Parts) -> None:
    """How many questions there are the harness knows: the estimate is of one."""
    policy = parts.policy(recipe.policy)
    tools = parts.tools(recipe.tools, policy)
    with parts.plan.trying():
        prompt_for(trained_prompt(policy), not isinstance(tools, NoToolSettings), recipe.prompt)
    tempo = parts.tempo(recipe.policy)
    parts.plan.does(episodes("a question", 1, tempo, tools, parts.plan.assumed, limits=recipe.limits, concurrency=1))


def check_loop(recipe: AgentLoopRecipe, parts: Parts) -> None:
    """The model is named in verl's configuration, and so are the questions: the estimate is of one."""
    parts.judge(recipe.judge)
    tools = parts.tools(recipe.tools, StandIn("verl's model", AgentCard()))
    with parts.plan.trying():
        prompt_for(None, not isinstance(tools, NoToolSettings), recipe.prompt)
    tempo, assumed = Tempo(endpoint="verl's"), parts.plan.assumed
    parts.plan.does(episodes("a question", 1, tempo, tools, assumed, limits=recipe.limits, concurrency=1))
    if (work := judged("judge", 1, recipe.judge, 1)) is not None:
        parts.plan.does(work)


def check_serve(recipe: ServeRecipe, parts: Parts) -> None:
    """How much is asked nobody knows: the estimates are of one question."""
    parts.plan.has("The server", "serve")
    if recipe.keys is not None and not recipe.keys.is_file():
        parts.plan.lacks(f"There are no keys in {recipe.keys}. Make one with: deepmmsearch keys add NAME")
    for name, served in recipe.models.items():
        policy = parts.policy(served.policy)
        tools = parts.tools(served.tools, policy)
        with parts.plan.trying():
            prompt_for(trained_prompt(policy), not isinstance(tools, NoToolSettings), served.prompt)
        limits = served.limits or LimitSettings()
        tempo, assumed = parts.tempo(served.policy), parts.plan.assumed
        parts.plan.does(episodes(f"a question to {name}", 1, tempo, tools, assumed, limits=limits, concurrency=1))
