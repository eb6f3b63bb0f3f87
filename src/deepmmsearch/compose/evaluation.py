"""An evaluation put together from one recipe: policies, tools, benchmarks, judges and workflows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import Agent, ToolsFor
from deepmmsearch.atlas.names import Split
from deepmmsearch.atlas.worlds import Worlds
from deepmmsearch.compose.policies import PolicySettings, build_policy, choose_prompt
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox, find_grounder
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.eval.faults import FAULTS, with_fault
from deepmmsearch.eval.run import BenchmarkInfo, Described
from deepmmsearch.eval.workflows import Rag, Switches, Workflow
from deepmmsearch.judge import JUDGES, Judge, RuleJudge
from deepmmsearch.prompts import load_prompt, prompt_names
from deepmmsearch.types import Limits, Policy, Prompt, Question

if TYPE_CHECKING:
    from deepmmsearch.agent.protocols import LanguageModel
    from deepmmsearch.policies.chat import ChatPolicy

KINDS = ("direct", "rag", "agent", "oracle")
ATLAS = "atlas"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BenchmarkSettings(_Settings):
    """A benchmark by its name (`deepmmsearch data list`), a file or folder of one's own, or `atlas`: an invented world
    of `seed` with `sample` questions. `label`: its name in tables. `out_of_domain`: unlike what the policy was trained
    on."""

    name: str
    label: str | None = None
    path: Path | None = None
    images: Path | None = None
    split: str | None = None
    sample: int | None = Field(default=None, ge=0)
    seed: int = 0
    out_of_domain: bool = False


class LimitSettings(_Settings):
    """See `types.Limits`."""

    calls: int = Field(default=10, ge=0)
    image_searches: int = Field(default=1, ge=0)
    tokens: int = Field(default=8192, gt=0)


class WorkflowSettings(_Settings):
    """One way to answer. `policy`: which of the recipe's policies; None is the only one. `prompt`: a prompt set instead
    of the policy's own. `crop`, `image_search`, `text_searches`: switches of an ablation; `fault`: how its tools are
    broken; `ablates`: the workflow it is compared with. `change`: what differs, where the switches do not say it, such
    as the training data of another policy."""

    kind: str = "agent"
    policy: str | None = None
    prompt: str | None = None
    limits: LimitSettings = LimitSettings()
    thumbnails: bool | None = None
    crop: bool = True
    image_search: bool = True
    text_searches: int | None = Field(default=None, ge=0)
    fault: str | None = None
    ablates: str | None = None
    change: str | None = None


class JudgeSettings(_Settings):
    """`kind`: rule or llm. `rule`: one of the rule judge's. `prompt`: the rules a model is given, evaluation or reward;
    it is asked at `base_url`; what it said is kept in `cassette`, `mode` is the recorder's (cache, replay, live)."""

    kind: str = "rule"
    rule: str = "reward"
    prompt: str = "evaluation"
    model: str | None = None
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    cassette: Path | None = None
    mode: str = "cache"


class EvalRecipe(_Settings):
    """`output`: the folder of the run. `judges`: the first one's scores are in the tables. `tools`: for all benchmarks
    but atlas, which brings its own. `pictures`: episodes of each benchmark and workflow whose pictures are kept.
    `timeout`: seconds for one question. `stop_after_errors`: so many failed questions or verdicts in a row end the run
    (null: never). `worlds`: where atlases are kept; None is beside the output."""

    output: Path
    policies: dict[str, PolicySettings] = Field(default_factory=lambda: {"bundled": PolicySettings()})
    tools: ToolSettings | None = None
    benchmarks: list[BenchmarkSettings] = Field(min_length=1)
    workflows: dict[str, WorkflowSettings] = Field(min_length=1)
    judges: dict[str, JudgeSettings] = Field(default_factory=lambda: {"reward": JudgeSettings()}, min_length=1)
    concurrency: int = Field(default=16, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    stop_after_errors: int | None = Field(default=8, ge=1)
    pictures: int = Field(default=24, ge=0)
    worlds: Path | None = None

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name, workflow in self.workflows.items():
            if "/" in name:
                raise ValueError(f"the workflow {name!r} has a / in its name")
            if workflow.kind not in KINDS:
                raise ValueError(f"{name}: kind is {workflow.kind!r}, expected one of {', '.join(KINDS)}")
            if workflow.fault is not None and workflow.fault not in FAULTS:
                raise ValueError(f"{name}: fault is {workflow.fault!r}, expected one of {', '.join(FAULTS)}")
            if workflow.policy is not None and workflow.policy not in self.policies:
                raise ValueError(f"{name}: there is no policy {workflow.policy!r}, only {', '.join(self.policies)}")
            if workflow.policy is None and workflow.kind != "oracle" and len(self.policies) > 1:
                raise ValueError(f"{name}: say which policy plays: {', '.join(self.policies)}")
            if workflow.ablates is not None and workflow.ablates not in self.workflows:
                raise ValueError(f"{name}: there is no workflow {workflow.ablates!r} to compare with")
        labels = [b.label or b.name for b in self.benchmarks]
        if len(set(labels)) < len(labels):
            raise ValueError(f"two benchmarks have the same name ({', '.join(labels)}): give one a label")
        for name, judge in self.judges.items():
            if judge.kind not in ("rule", "llm"):
                raise ValueError(f"judge {name}: expected kind rule or llm")
            if judge.kind == "rule":
                JUDGES.find(judge.rule, code=True)
        return self


@dataclass(frozen=True)
class Task:
    """A benchmark ready to be played. `tools`: what every policy searches it with, a grounder of its own aside."""

    info: BenchmarkInfo
    questions: Iterable[Question]
    tools: Toolbox | None


class Evaluation:
    """Everything a recipe names, built when it is asked for: a policy is loaded once, and only if it plays."""

    def __init__(self, recipe: EvalRecipe) -> None:
        self.recipe = recipe
        self._policies: dict[str, Policy] = {}

    def policy(self, name: str | None) -> Policy:
        chosen = name or next(iter(self.recipe.policies))
        if chosen not in self._policies:
            self._policies[chosen] = build_policy(self.recipe.policies[chosen])
        return self._policies[chosen]

    def release(self, keep: Iterable[str | None]) -> None:
        """Forgets policies that are not played any more: several models need not fit into memory at once."""
        wanted = {name or next(iter(self.recipe.policies)) for name in keep}
        self._policies = {name: policy for name, policy in self._policies.items() if name in wanted}

    def judges(self) -> dict[str, Judge]:
        return {name: build_judge(settings) for name, settings in self.recipe.judges.items()}

    def task(self, settings: BenchmarkSettings) -> Task:
        label = settings.label or settings.name
        if settings.name == ATLAS:
            count = settings.sample or 500
            home = self.recipe.worlds or self.recipe.output.parent / "worlds"
            split: Split = "train" if settings.split == "train" else "eval"
            kept = Worlds(home, [settings.seed], count, split)
            info = BenchmarkInfo(label, f"Atlas, seed {settings.seed}", count, out_of_domain=settings.out_of_domain)
            return Task(info, kept, kept.toolbox(kept.worlds[0]))
        from deepmmsearch.data.catalog import find_benchmark, open_questions

        found = open_questions(
            settings.name,
            path=settings.path,
            images=settings.images,
            split=settings.split,
            sample=settings.sample,
            seed=settings.seed,
        )
        known = find_benchmark(settings.name)
        info = BenchmarkInfo(
            label,
            known.title if known else settings.name,
            general=bool(known and known.general),
            out_of_domain=settings.out_of_domain,
        )
        return Task(info, found, None)

    def described(self, name: str) -> Described:
        settings = self.recipe.workflows[name]
        prompt = settings.prompt or ""
        return Described(
            name,
            settings.kind,
            "oracle" if settings.kind == "oracle" else settings.policy or next(iter(self.recipe.policies)),
            prompt,
            {"direct": 0, "rag": 2}.get(settings.kind, settings.limits.calls),
            settings.ablates,
            settings.change or change(settings),
            settings.fault,
        )

    def workflow(self, name: str, task: Task) -> Workflow:
        """Raises UserError where its tools are missing, UnknownName for an unknown prompt."""
        settings = self.recipe.workflows[name]
        limits = Limits(**settings.limits.model_dump())
        if settings.kind == "oracle":
            return self._oracle(settings, task, limits)
        policy = self.policy(settings.policy)
        label = settings.policy or next(iter(self.recipe.policies))
        if settings.kind == "direct":
            prompt = choose_prompt(policy, Toolbox(), settings.prompt)
            return Agent(policy, prompt, lambda _: Toolbox(), limits, label)
        tools = self._tools(task, policy, settings)
        tools_for = _prepared(tools, settings, task)
        if settings.kind == "rag":
            query, answer = rag_prompts(policy, settings.prompt)
            return Rag(policy, query, answer, tools_for, limits, label)
        return Agent(policy, choose_prompt(policy, tools, settings.prompt), tools_for, limits, label)

    def _oracle(self, settings: WorkflowSettings, task: Task, limits: Limits) -> Workflow:
        from deepmmsearch.atlas.oracle import OraclePolicy
        from deepmmsearch.atlas.play import with_gold_boxes

        if task.tools is None:
            raise UserError(f"The oracle plays the atlas only, not {task.info.name}. Leave it out there.")
        golden = with_gold_boxes(task.tools)
        switched = _prepared(task.tools, settings, task)

        def tools_for(question: Question) -> Toolbox:
            made = switched(question)
            return replace(made, grounder=golden(question).grounder) if settings.crop else made

        return Agent(OraclePolicy(), load_prompt("atlas"), tools_for, limits, "oracle")

    def _tools(self, task: Task, policy: Policy, settings: WorkflowSettings) -> Toolbox:
        if task.tools is not None:
            tools = replace(task.tools, grounder=find_grounder(policy))
        elif self.recipe.tools is not None:
            tools = build_toolbox(self.recipe.tools, policy)
        else:
            raise UserError(
                f"{task.info.name} needs tools to be searched with. Add a `tools:` section to the recipe, or play it "
                "with workflows of kind direct alone."
            )
        return tools if settings.thumbnails is None else replace(tools, thumbnails=settings.thumbnails)


def _prepared(tools: Toolbox, settings: WorkflowSettings, task: Task) -> ToolsFor:
    """The toolbox of each episode, with what is taken away and broken."""
    switches = Switches(settings.crop, settings.image_search, settings.text_searches)
    others = _some(task.questions) if settings.fault == "irrelevant" else []

    def tools_for(question: Question) -> Toolbox:
        made = switches.apply(tools)
        return with_fault(made, settings.fault, question, others) if settings.fault else made

    return tools_for


def _some(questions: Iterable[Question], most: int = 16) -> list[Question]:
    return [question for question, _ in zip(questions, range(most), strict=False)]


def rag_prompts(policy: Policy, name: str | None) -> tuple[Prompt, Prompt]:
    """What the query is written with, and what is answered with: `name`-query and `name`. A policy that speaks only its
    own language (its card names a set that has a direct form) is asked in that."""
    if name is not None:
        return load_prompt(f"{name}-query"), load_prompt(name)
    trained = getattr(getattr(policy, "card", None), "prompt", None)
    if trained and f"{trained}-direct" in prompt_names():
        return load_prompt(trained), load_prompt(f"{trained}-direct")
    return load_prompt("rag-query"), load_prompt("rag")


def change(settings: WorkflowSettings) -> str | None:
    """What an ablation takes away, in words."""
    parts = []
    if not settings.crop:
        parts.append("no crop")
    if not settings.image_search:
        parts.append("no image search")
    if settings.text_searches is not None:
        parts.append("single text search" if settings.text_searches == 1 else f"{settings.text_searches} text searches")
    if settings.fault:
        parts.append(f"{settings.fault} results")
    return ", ".join(parts) or None


def build_judge(settings: JudgeSettings) -> Judge:
    if settings.kind == "rule":
        return RuleJudge(settings.rule)
    from deepmmsearch.judge.llm import LlmJudge
    from deepmmsearch.policies.chat import ChatPolicy

    policy = ChatPolicy(settings.model, settings.base_url, key_variable=settings.key_variable, max_new_tokens=512)
    if settings.cassette is None:
        return LlmJudge(policy, settings.prompt)
    return LlmJudge(recorded_judge(policy, settings.cassette, settings.mode), settings.prompt)


def recorded_judge(policy: ChatPolicy, cassette: Path, mode: str) -> LanguageModel:
    """The model within a recorder: what it was asked before is not asked and paid for again. Raises UnknownName for an
    unknown mode."""
    from deepmmsearch.tools.cassette import Cassette
    from deepmmsearch.tools.recorded import RecordedModel
    from deepmmsearch.tools.recorder import MODES, Recorder

    chosen = next((m for m in MODES if m == mode), None)
    if chosen is None:
        raise UnknownName("mode of the recorder", mode, MODES)
    recorder = Recorder(Cassette(cassette), chosen)
    return RecordedModel(policy, recorder, "judge", {"model": policy.model, "base_url": policy.base_url})


def limited(benchmarks: Iterable[BenchmarkSettings], only: Iterable[str]) -> list[BenchmarkSettings]:
    """Those named in `only` (all where it is empty). Raises UnknownName."""
    by_label: Mapping[str, BenchmarkSettings] = {b.label or b.name: b for b in benchmarks}
    for name in only:
        if name not in by_label:
            raise UnknownName("benchmark in the recipe", name, by_label)
    return [b for label, b in by_label.items() if not list(only) or label in list(only)]


__all__ = ["BenchmarkSettings", "EvalRecipe", "Evaluation", "JudgeSettings", "Task", "limited"]
