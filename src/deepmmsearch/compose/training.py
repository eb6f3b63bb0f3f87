"""Experiments put together: a GRPO run's questions, tools, judge and reward from one recipe, and the episodes that
measure a policy while it is trained.

Questions come from invented worlds (`atlas`), each searched with its own index, or from `data`, searched with `tools`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.protocols import Grounder
from deepmmsearch.atlas.play import play_worlds
from deepmmsearch.atlas.worlds import Worlds
from deepmmsearch.compose.judges import build_judge
from deepmmsearch.compose.local_inputs import with_local_inputs
from deepmmsearch.compose.policies import choose_prompt, policy_grounder
from deepmmsearch.compose.toolbox import build_toolbox, try_tools
from deepmmsearch.compose.training_recipes import AtlasExperiment, DataExperiment, Experiment, FineTuning
from deepmmsearch.digests import contents_of
from deepmmsearch.engine.index import Index
from deepmmsearch.errors import UserError
from deepmmsearch.eval.figures import EXACT, effort, mean_score, measure_exactly
from deepmmsearch.outputs import Output
from deepmmsearch.policies.human import HumanPolicy
from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.policies.local.checkpoint import Checkpoint
from deepmmsearch.progress import Watch, silent
from deepmmsearch.rewards import build_reward
from deepmmsearch.settings import LimitSettings
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.recorded import RecordedGrounder, RecordedImageSearch
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.train.generation import SamplerSettings, Twin, policy_of
from deepmmsearch.train.grpo import COMMAND as GRPO
from deepmmsearch.train.grpo import GrpoResult, open_checkpoint, train
from deepmmsearch.train.grpo import trl_settings as grpo_settings
from deepmmsearch.train.metrics import Evaluate
from deepmmsearch.train.output import made_with
from deepmmsearch.train.rollout_trainer import NumberedQuestions
from deepmmsearch.train.rollouts import Player
from deepmmsearch.train.sft import COMMAND as SFT
from deepmmsearch.train.sft import SftResult
from deepmmsearch.train.sft import train as fine_tune_on_folders
from deepmmsearch.train.sft import trl_settings as sft_settings
from deepmmsearch.train.shards import apart
from deepmmsearch.train.start import check_start
from deepmmsearch.types import Question

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def run_sft(recipe: FineTuning, report: Watch = silent) -> SftResult:
    """Fine-tunes; with `evaluate_on` the policy of the moment plays, greedy."""
    recipe = with_local_inputs(recipe)
    Output(recipe.output, SFT).expect(made_with(recipe), {})
    settings = sft_settings(recipe)
    check_start(recipe.model)
    held_out = recipe.evaluate_on
    if held_out is None or not recipe.evaluate_every:
        return fine_tune_on_folders(recipe, report=report)
    worlds = Worlds(held_out.folder, [held_out.seed], held_out.questions, "eval", report)
    prompt, limits = held_out.prompt, held_out.limits

    def make_evaluate(checkpoint: Checkpoint) -> Evaluate:
        # twins share parameters, not buffers, so the move comes before them
        checkpoint.model.to(settings.device)
        twin = Twin(apart(checkpoint.model, settings))
        policy = policy_of(twin, checkpoint, SamplerSettings(max_new_tokens=held_out.max_new_tokens))

        def evaluate(model: PreTrainedModel | PeftModel, step: int) -> Mapping[str, float]:
            twin.sync(model)
            return _measured(worlds, policy, prompt, limits)

        return evaluate

    return fine_tune_on_folders(recipe, make_evaluate, report)


def run_grpo(recipe: AtlasExperiment | DataExperiment, report: Watch = silent) -> GrpoResult:
    """Everything that can be checked is checked before the model is loaded."""
    recipe = with_local_inputs(recipe)
    Output(recipe.output, GRPO).expect(made_with(recipe), {})
    grpo_settings(recipe)
    check_start(recipe.model, recipe.adapter, recipe.rollouts)
    reward = build_reward(recipe.reward, build_judge(recipe.judge))
    source = _atlas(recipe, report) if isinstance(recipe, AtlasExperiment) else _data(recipe, report)
    checkpoint = open_checkpoint(recipe)

    def make_player(start: LocalPolicy) -> Player:
        prompt = choose_prompt(start, source.any_tools, recipe.prompt)
        return Player(
            source.tools_for(policy_grounder(start)),
            prompt,
            reward,
            recipe.limits.limits(),
            recipe.rollouts.concurrency,
            recipe.rollouts.tool_timeout,
            label=recipe.model,
        )

    contents = {"indexes": source.indexes}
    return train(recipe, source.questions, checkpoint, make_player, source.evaluate, report, contents)


@dataclass(frozen=True)
class _Source:
    """`tools_for` makes of a grounder the tools of each question; `any_tools` are some of them, to choose a prompt;
    `indexes`: digests of what a world's tools search."""

    questions: NumberedQuestions
    tools_for: Callable[[Grounder], Callable[[Question], Toolbox]]
    any_tools: Toolbox
    indexes: Sequence[str] = ()
    evaluate: Callable[[LocalPolicy, int], Mapping[str, float]] | None = None


def _atlas(recipe: AtlasExperiment, report: Watch) -> _Source:
    settings = recipe.atlas
    seeds = range(settings.seed, settings.seed + settings.worlds)
    worlds = Worlds(settings.folder, seeds, settings.questions, "train", report, settings.search_share)
    held_out = None
    if recipe.evaluate_every:
        held_out = Worlds(settings.folder, [settings.evaluate_seed], settings.evaluate, "eval", report)
    # eight rollouts ask the same of the same picture, and the worlds do not change
    recorder = Recorder(Cassette(settings.folder / "searches.sqlite"), "cache")

    def tools_for(grounder: Grounder) -> Callable[[Question], Toolbox]:
        # by content: another model may come to lie at the same place
        own = {"provider": "own model", "model": contents_of({"model": recipe.model, "adapter": recipe.adapter})}
        found = RecordedGrounder(grounder, recorder, own)
        tools = {name: _recorded(worlds.toolbox(name), found, recorder, name) for name in worlds.worlds}
        return lambda question: tools[str(question.metadata["world"])]

    evaluate = _evaluation(held_out, recipe) if held_out is not None else None
    indexes = [Index.open(worlds.index(name)).digest() for name in worlds.worlds]
    return _Source(worlds, tools_for, worlds.toolbox(worlds.worlds[0]), indexes, evaluate)


def _recorded(tools: Toolbox, grounder: Grounder, recorder: Recorder, world: str) -> Toolbox:
    assert tools.image_search is not None
    search = RecordedImageSearch(tools.image_search, recorder, {"provider": "local", "world": world})
    return replace(tools, grounder=grounder, image_search=search)


def _evaluation(worlds: Worlds, recipe: Experiment) -> Callable[[LocalPolicy, int], Mapping[str, float]]:
    def evaluate(policy: LocalPolicy, step: int) -> Mapping[str, float]:
        return _measured(worlds, policy, recipe.prompt, recipe.limits)

    return evaluate


def _measured(worlds: Worlds, policy: LocalPolicy, prompt: str | None, limits: LimitSettings) -> dict[str, float]:
    """Accuracy and searches of the greedy policy, over all questions and over those that need a search or none."""
    chosen = choose_prompt(policy, worlds.toolbox(worlds.worlds[0]), prompt)
    played = measure_exactly(play_worlds(worlds, policy, policy_grounder(policy), chosen, limits.limits()))
    parts = {
        "": played,
        "_search_required": [row for row in played if row.search_required],
        "_search_free": [row for row in played if not row.search_required],
    }
    figures: dict[str, float] = {}
    for name, rows in parts.items():
        figures[f"accuracy{name}"] = mean_score(rows, EXACT)
        figures[f"searches{name}"] = effort(rows, limits.calls).calls
    return figures


def _data(recipe: DataExperiment, report: Watch) -> _Source:
    questions = [question for path in recipe.data for question in _questions(path, report)]
    if not questions:
        raise UserError(f"There are no questions with answers in {', '.join(map(str, recipe.data))}. Give other data.")
    unlabelled = [q.id for q in questions if not q.answers]
    if unlabelled:
        raise UserError(
            f"{len(unlabelled)} of {len(questions)} questions have no accepted answers (the first: {unlabelled[0]!r}), "
            "so no reward can be given. Remove them or add answers."
        )
    tools = build_toolbox(recipe.tools, HumanPolicy())
    asyncio.run(try_tools(tools))

    def tools_for(grounder: Grounder) -> Callable[[Question], Toolbox]:
        box = tools if tools.grounder is not None else replace(tools, grounder=grounder)
        return lambda question: box

    return _Source(questions, tools_for, tools)


def _questions(path: Path, report: Watch) -> Sequence[Question]:
    from deepmmsearch.atlas.world_files import QUESTIONS, load_questions
    from deepmmsearch.data.load_report import LoadReport
    from deepmmsearch.data.reader import read_questions

    # of an atlas even those without answers, which are then refused; other data are read as what they are
    if (path / QUESTIONS).is_file():
        return load_questions(path)
    rows = LoadReport()
    found = list(read_questions(path, report=rows))
    for reason, count in rows.dropped.items():
        report(f"{path}: {count} of {rows.rows} rows left out: {reason} (the first: {rows.examples[reason][0]})")
    return found
