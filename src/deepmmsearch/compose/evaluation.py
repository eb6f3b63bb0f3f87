"""An evaluation put together from one recipe: policies, tools, benchmarks, judges and workflows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.dialect import DIALECTS
from deepmmsearch.agent.runner import ToolsFor, Workflow
from deepmmsearch.atlas.worlds import Worlds
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.eval_recipe import (
    QUESTIONS,
    AgentSettings,
    AtlasBenchmarkSettings,
    BenchmarkSettings,
    DirectSettings,
    EvalRecipe,
    OracleSettings,
    OtherWorkflowSettings,
    PlayedOptions,
    RagSettings,
    SearchOptions,
    SwitchOptions,
    WorkflowOptions,
)
from deepmmsearch.compose.judges import build_judge, judge_texts
from deepmmsearch.compose.policies import (
    LocalPolicySettings,
    build_policy,
    choose_prompt,
    policy_content,
    prompt_for,
    trained_prompt,
)
from deepmmsearch.compose.tool_settings import CacheSettings
from deepmmsearch.compose.toolbox import build_toolbox, find_grounder
from deepmmsearch.digests import contents_of, prompt_content, questions_content
from deepmmsearch.engine.index import Index
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.eval.faults import with_fault
from deepmmsearch.eval.run import BenchmarkInfo, Described
from deepmmsearch.eval.workflows import WORKFLOWS, Setup, Switches
from deepmmsearch.judge import Judge
from deepmmsearch.outputs import content, digest_of
from deepmmsearch.policies.agent_card import read_card
from deepmmsearch.prompts import IN_OUR_WORDS, in_our_words, load_prompt, prompt_names
from deepmmsearch.settings import decisive
from deepmmsearch.types import Policy, Prompt, Question

ORACLE = "oracle"


@dataclass(frozen=True)
class Task:
    """A benchmark ready to be played. `tools`: what every policy searches it with, a grounder of its own aside.
    `contents`: what it is told apart by, beside its settings."""

    info: BenchmarkInfo
    questions: Iterable[Question]
    tools: Toolbox | None
    contents: Mapping[str, Any]


class Evaluation:
    """Everything a recipe names, built when it is asked for: a policy is loaded once, and only if it plays."""

    def __init__(self, recipe: EvalRecipe) -> None:
        self.recipe = recipe
        self._policies: dict[str, Policy] = {}

    def policy(self, name: str) -> Policy:
        if name not in self._policies:
            self._policies[name] = build_policy(self.recipe.policies[name])
        return self._policies[name]

    def release(self, keep: Iterable[str]) -> None:
        """Forgets policies that are not played any more: several models need not fit into memory at once."""
        wanted = set(keep)
        self._policies = {name: policy for name, policy in self._policies.items() if name in wanted}

    def judges(self) -> dict[str, Judge]:
        return {name: build_judge(settings) for name, settings in self.recipe.judges.items()}

    def name_of(self, workflow: WorkflowOptions) -> str:
        """Which of the recipe's policies plays a workflow."""
        named = workflow.policy if isinstance(workflow, PlayedOptions) else ORACLE
        return named or next(iter(self.recipe.policies))

    def task(self, settings: BenchmarkSettings) -> Task:
        label = settings.title
        if isinstance(settings, AtlasBenchmarkSettings):
            count = settings.sample or QUESTIONS
            home = self.recipe.worlds or self.recipe.output.parent / "worlds"
            kept = Worlds(home, [settings.seed], count, settings.split, variant=settings.variant)
            info = BenchmarkInfo(label, f"Atlas, seed {settings.seed}", count, out_of_domain=settings.out_of_domain)
            world = kept.worlds[0]
            index = content(kept.index(world), Index.open(kept.index(world)).digest())
            asked: Worlds | list[Question] = kept if settings.limit is None else list(islice(kept, settings.limit))
            info = replace(info, questions=len(asked))
            return Task(info, asked, kept.toolbox(world), {"questions": questions_content(asked), "index": index})
        from deepmmsearch.data.published import find_benchmark, open_questions

        found = open_questions(
            settings.name,
            path=settings.path,
            images=settings.images,
            split=settings.split,
            sample=settings.sample,
            seed=settings.seed,
            limit=settings.limit,
        )
        known = find_benchmark(settings.name)
        if known is not None and known.encrypted:
            self.refuse_cassettes(label)
        info = BenchmarkInfo(
            label,
            known.title if known else settings.name,
            general=bool(known and known.general),
            out_of_domain=settings.out_of_domain,
        )
        return Task(info, found, None, {"questions": questions_content(found)})

    def refuse_cassettes(self, benchmark: str) -> None:
        """Raises UserError before questions that are published encrypted are played: a cassette holds what tools and
        judges were asked, in the clear."""
        recorders = {"tools": self.recipe.tools, **{f"judges.{n}": j for n, j in self.recipe.judges.items()}}
        for name, settings in recorders.items():
            if isinstance(getattr(settings, "recorder", None), CacheSettings):
                raise UserError(
                    f"{benchmark} is published encrypted, and a cassette would hold its questions in the clear. Set "
                    f"{name}.recorder.mode=live, or leave {benchmark} out."
                )

    def made_with(self, workflows: Iterable[str], benchmarks: Iterable[BenchmarkSettings]) -> dict[str, dict[str, Any]]:
        """Everything that can change a figure, by policy, workflow, benchmark and judge; the contents of benchmarks,
        which take longer, are their tasks'."""
        recipe = self.recipe
        parts: dict[str, dict[str, Any]] = {f"benchmarks.{b.title}": decisive(b) for b in benchmarks}
        for name in workflows:
            settings = recipe.workflows[name]
            played = self.name_of(settings)
            if played in recipe.policies:
                parts[f"policies.{played}"] = policy_content(recipe.policies[played])
            if recipe.tools is not None and not isinstance(settings, DirectSettings | OracleSettings):
                parts["tools"] = contents_of(recipe.tools)
            prompts = [prompt_content(prompt) for prompt in self.prompts(settings, played)]
            told = content(", ".join(p["name"] for p in prompts), digest_of(*(p["digest"] for p in prompts)))
            parts[f"workflows.{name}"] = {**decisive(settings), "policy": played, "prompt": told}
        for name, judge in recipe.judges.items():
            texts = judge_texts(judge)
            parts[f"judges.{name}"] = {**decisive(judge), "text": digest_of(*texts) if texts else None}
        return parts

    def prompts(self, settings: WorkflowOptions, played: str) -> tuple[Prompt, ...]:
        """What a workflow is played with, told without loading its policy."""
        if not isinstance(settings, PlayedOptions):
            return (load_prompt("atlas"),)
        policy = self.recipe.policies[played]
        trained = read_card(policy.model or BUNDLED).prompt if isinstance(policy, LocalPolicySettings) else None
        if isinstance(settings, RagSettings):
            return rag_prompts(trained, settings.prompt)
        return (prompt_for(trained, not isinstance(settings, DirectSettings), settings.prompt),)

    def described(self, name: str) -> Described:
        settings = self.recipe.workflows[name]
        calls = {"direct": 0, "rag": 2}.get(settings.kind)
        return Described(
            name,
            settings.kind,
            self.name_of(settings),
            self._prompt_name(settings),
            settings.limits.calls if calls is None and isinstance(settings, SwitchOptions) else calls or 0,
            settings.ablates,
            settings.change or change(settings),
            getattr(settings, "fault", None),
            settings.replicates,
        )

    def _prompt_name(self, settings: WorkflowOptions) -> str:
        """Of the set that it is played with, where the recipe names one or the text is not the model's own."""
        named = getattr(settings, "prompt", None) or ""
        told = self.prompts(settings, self.name_of(settings))[-1]
        if in_our_words(told):
            return f"{told.name}{IN_OUR_WORDS}"
        return told.name if named in DIALECTS.names() and told.name.startswith(named) else named

    def workflow(self, name: str, task: Task) -> Workflow:
        """Raises UserError where its tools are missing, UnknownName for an unknown prompt."""
        settings = self.recipe.workflows[name]
        setup = self._oracle(settings, task) if isinstance(settings, OracleSettings) else self._setup(settings, task)
        own = settings.own if isinstance(settings, OtherWorkflowSettings) else {}
        return WORKFLOWS.find(settings.kind, code=True)(setup, **own)

    def _setup(
        self, settings: DirectSettings | RagSettings | AgentSettings | OtherWorkflowSettings, task: Task
    ) -> Setup:
        label = self.name_of(settings)
        policy = self.policy(label)
        if isinstance(settings, DirectSettings):
            prompt = choose_prompt(policy, Toolbox(), settings.prompt)
            # it has nothing to call: what is not an answer is no answer
            return Setup(policy, prompt, lambda _: Toolbox(), replace(settings.limits.limits(), calls=0), label)
        tools = self._tools(task, policy)
        if settings.thumbnails is not None:
            tools = replace(tools, thumbnails=settings.thumbnails)
        tools_for = _prepared(tools, settings, task)
        if isinstance(settings, RagSettings):
            query, answer = rag_prompts(trained_prompt(policy), settings.prompt)
            return Setup(policy, answer, tools_for, label=label, query_prompt=query)
        prompt = choose_prompt(policy, tools, settings.prompt)
        return Setup(policy, prompt, tools_for, settings.limits.limits(), label)

    def _oracle(self, settings: OracleSettings, task: Task) -> Setup:
        from deepmmsearch.atlas.oracle import OraclePolicy
        from deepmmsearch.atlas.play import with_gold_boxes

        if task.tools is None:
            raise UserError(f"The oracle plays the atlas only, not {task.info.name}. Leave it out there.")
        golden = with_gold_boxes(task.tools)
        switched = _prepared(task.tools, settings, task)

        def tools_for(question: Question) -> Toolbox:
            made = switched(question)
            return replace(made, grounder=golden(question).grounder) if settings.crop else made

        return Setup(OraclePolicy(), load_prompt("atlas"), tools_for, settings.limits.limits(), ORACLE)

    def _tools(self, task: Task, policy: Policy) -> Toolbox:
        if task.tools is not None:
            return replace(task.tools, grounder=find_grounder(policy))
        if self.recipe.tools is not None:
            return build_toolbox(self.recipe.tools, policy)
        raise UserError(
            f"{task.info.name} needs tools to be searched with. Add a `tools:` section to the recipe, or play it "
            "with workflows of kind direct alone."
        )


def _prepared(tools: Toolbox, settings: SearchOptions, task: Task) -> ToolsFor:
    """The toolbox of each episode, with what is taken away and broken."""
    switches = _switches(settings)
    others = _some(task.questions) if settings.fault == "irrelevant" else []

    def tools_for(question: Question) -> Toolbox:
        made = switches.apply(tools)
        return with_fault(made, settings.fault, question, others) if settings.fault else made

    return tools_for


def _some(questions: Iterable[Question], most: int = 16) -> list[Question]:
    return [question for question, _ in zip(questions, range(most), strict=False)]


def rag_prompts(trained: str | None, name: str | None) -> tuple[Prompt, Prompt]:
    """What the query is written with, and what is answered with: `name`-query and `name`. A policy that speaks only its
    own language (it was `trained` with a set that has a direct form) is asked in that."""
    if name is not None:
        return load_prompt(f"{name}-query"), load_prompt(name)
    if trained and f"{trained}-direct" in prompt_names():
        return load_prompt(trained), load_prompt(f"{trained}-direct")
    return load_prompt("rag-query"), load_prompt("rag")


def _switches(settings: WorkflowOptions) -> Switches:
    if not isinstance(settings, SwitchOptions):
        return Switches()
    return Switches(settings.crop, settings.image_search, settings.text_searches, tuple(settings.without))


def change(settings: WorkflowOptions) -> str | None:
    """What an ablation takes away, in words."""
    switches, parts = _switches(settings), []
    if not switches.crop:
        parts.append("no crop")
    if not switches.image_search:
        parts.append("no image search")
    if switches.text_searches is not None:
        parts.append("single text search" if switches.text_searches == 1 else f"{switches.text_searches} text searches")
    parts += (f"no {name}" for name in switches.without)
    if isinstance(settings, SearchOptions) and settings.fault:
        parts.append(f"{settings.fault} results")
    return ", ".join(parts) or None


def limited(benchmarks: Iterable[BenchmarkSettings], only: Iterable[str]) -> list[BenchmarkSettings]:
    """Those named in `only` (all where it is empty). Raises UnknownName."""
    by_label: Mapping[str, BenchmarkSettings] = {b.title: b for b in benchmarks}
    for name in only:
        if name not in by_label:
            raise UnknownName("benchmark in the recipe", name, by_label)
    return [b for label, b in by_label.items() if not list(only) or label in list(only)]
