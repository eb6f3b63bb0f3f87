"""What an evaluation's recipe may say: policies, tools, benchmarks, workflows and judges."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from deepmmsearch.agent.table import PAPER_TOOLS, TOOLS
from deepmmsearch.arguments import check_settings
from deepmmsearch.atlas.world import Kinds, Tongue, Variant
from deepmmsearch.compose.judges import JudgeSettings, RuleJudgeSettings
from deepmmsearch.compose.policies import LocalPolicySettings, PolicySettings
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.data.tables import SUFFIXES
from deepmmsearch.errors import UserError
from deepmmsearch.eval.faults import FAULTS
from deepmmsearch.eval.workflows import GIVEN, WORKFLOWS
from deepmmsearch.settings import Aside, LimitSettings, OneOf, Recipe, Settings

QUESTIONS = 500
"""How many are asked about a world, where nothing is said."""


class _Benchmark(Settings):
    """`label`: its name in tables; for a file of your own the file's. `sample`: how many questions, drawn with `seed`;
    `limit`: of those at most so many, the first. `out_of_domain`: unlike what the policy was trained on."""

    name: str
    label: Aside[str | None] = None
    sample: int | None = Field(default=None, ge=0)
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0
    out_of_domain: Aside[bool] = False

    @field_validator("label")
    @classmethod
    def _is_one_word_of_an_id(cls, label: str | None) -> str | None:
        if label is not None and ("/" in label or not label.strip()):
            raise ValueError(f"the label {label!r} is empty or has a / in it, which stands between parts of an id")
        return label

    @property
    def title(self) -> str:
        """What it is called in ids and tables."""
        path = Path(self.name)
        return self.label or (path.stem if path.suffix.lower() in SUFFIXES else path.name or path.resolve().name)


class AtlasBenchmarkSettings(_Benchmark):
    """Questions about the invented world of `seed`. `language`: of its pages (null: English); `asked_in`: of the
    questions (null: the pages'); `kinds`: the papers' questions (null), or such as need more tools."""

    name: Literal["atlas"] = "atlas"
    split: Literal["eval", "train"] = "eval"
    language: Tongue | None = None
    asked_in: Tongue | None = None
    kinds: Kinds | None = None

    @property
    def variant(self) -> Variant:
        return Variant(self.language or "english", self.asked_in, self.kinds or "papers")


class NamedBenchmarkSettings(_Benchmark):
    """A benchmark by its name (`deepmmsearch data list`), or a file or folder of your own. `path`: local files of a
    benchmark; `images`: the folder of its pictures."""

    path: Aside[Path | None] = None
    images: Aside[Path | None] = None
    split: str | None = None


BenchmarkSettings = Annotated[AtlasBenchmarkSettings | NamedBenchmarkSettings, OneOf("name", other="another benchmark")]


class WorkflowOptions(Settings):
    """`ablates`: the workflow it is compared with. `change`: what differs, where the switches do not say it, such as
    the training data of another policy. `replicates`: the workflow whose policy differs in the seed of its training
    alone; figures of that one are then over all such seeds."""

    ablates: Aside[str | None] = None
    change: Aside[str | None] = None
    replicates: Aside[str | None] = None


class PlayedOptions(WorkflowOptions):
    """`policy`: which of the recipe's policies; None is the only one. `prompt`: a prompt set instead of its own."""

    policy: str | None = None
    prompt: str | None = None


class SearchOptions(WorkflowOptions):
    """`fault`: how its tools are broken."""

    fault: str | None = None

    @field_validator("fault")
    @classmethod
    def _is_known(cls, fault: str | None) -> str | None:
        if fault is not None and fault not in FAULTS:
            raise ValueError(f"expected one of {', '.join(FAULTS)}")
        return fault


class SwitchOptions(SearchOptions):
    """`crop`, `image_search`, `text_searches`: switches of an ablation. `without`: tools beside the searches that are
    taken away."""

    limits: LimitSettings = LimitSettings()
    crop: bool = True
    image_search: bool = True
    text_searches: int | None = Field(default=None, ge=0)
    without: list[str] = Field(default_factory=list)

    @field_validator("without")
    @classmethod
    def _are_tools(cls, without: list[str]) -> list[str]:
        extra = [name for name in TOOLS.names() if name not in PAPER_TOOLS]
        if unknown := [name for name in without if name not in extra]:
            raise ValueError(f"there is no tool {unknown[0]!r} beside the searches, only {', '.join(extra)}")
        return without


class DirectSettings(PlayedOptions):
    """Answers from the picture and from memory, in one turn; of `limits` only the tokens apply."""

    kind: Literal["direct"] = "direct"
    limits: LimitSettings = LimitSettings()


class RagSettings(PlayedOptions, SearchOptions):
    """Two retrievals, then an answer. `thumbnails`: None is what the tools say."""

    kind: Literal["rag"] = "rag"
    thumbnails: bool | None = None


class AgentSettings(PlayedOptions, SwitchOptions):
    """The model decides turn by turn."""

    kind: Literal["agent"] = "agent"
    thumbnails: bool | None = None


class OracleSettings(SwitchOptions):
    """The atlas's perfect player."""

    kind: Literal["oracle"] = "oracle"


class OtherWorkflowSettings(PlayedOptions, SwitchOptions):
    """A workflow of another package, by its name or `module:function`; what is not named here is its own setting."""

    model_config = ConfigDict(extra="allow")

    kind: str
    thumbnails: bool | None = None

    @property
    def own(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _takes_them(self) -> Self:
        try:
            function = WORKFLOWS.find(self.kind, code=True)
            check_settings(f"workflow {self.kind}", function, self.own, GIVEN, type(self).model_fields)
        except UserError as error:
            raise ValueError(str(error)) from None
        return self


WorkflowSettings = Annotated[
    DirectSettings | RagSettings | AgentSettings | OracleSettings | OtherWorkflowSettings,
    OneOf(default="agent", other="another workflow"),
]
"""One way to answer."""


class EvalRecipe(Recipe):
    """`output`: the folder of the run. `judges`: the first one's scores are in the tables. `tools`: for all benchmarks
    but atlas, which brings its own. `pictures`: episodes of each benchmark and workflow whose pictures are kept.
    `timeout`: seconds for one question. `stop_after_errors`: so many failed questions or verdicts in a row end the run
    (null: never). `worlds`: where atlases are kept; None is beside the output."""

    output: Aside[Path]
    policies: dict[str, PolicySettings] = Field(default={"bundled": LocalPolicySettings()})
    tools: ToolSettings | None = None
    benchmarks: list[BenchmarkSettings] = Field(min_length=1)
    workflows: dict[str, WorkflowSettings] = Field(min_length=1)
    judges: dict[str, JudgeSettings] = Field(default={"reward": RuleJudgeSettings()}, min_length=1)
    concurrency: Aside[int] = Field(default=16, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    stop_after_errors: Aside[int | None] = Field(default=8, ge=1)
    pictures: Aside[int] = Field(default=24, ge=0)
    worlds: Aside[Path | None] = None

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name, workflow in self.workflows.items():
            if "/" in name:
                raise ValueError(f"the workflow {name!r} has a / in its name")
            if isinstance(workflow, PlayedOptions) and workflow.policy is None and len(self.policies) > 1:
                raise ValueError(f"{name}: say which policy plays: {', '.join(self.policies)}")
            if isinstance(workflow, PlayedOptions) and workflow.policy not in (None, *self.policies):
                raise ValueError(f"{name}: there is no policy {workflow.policy!r}, only {', '.join(self.policies)}")
            if workflow.ablates is not None and workflow.ablates not in self.workflows:
                raise ValueError(f"{name}: there is no workflow {workflow.ablates!r} to compare with")
            if (whole := workflow.replicates) is not None:
                if whole not in self.workflows:
                    raise ValueError(f"{name}: there is no workflow {whole!r} that it could replicate")
                if whole == name or self.workflows[whole].replicates is not None:
                    raise ValueError(f"{name}: {whole} replicates another workflow. Name the first of them")
        played = {
            w.policy or next(iter(self.policies)) for w in self.workflows.values() if isinstance(w, PlayedOptions)
        }
        idle = [name for name in self.policies if name not in played]
        if idle and "policies" in self.model_fields_set:
            raise ValueError(f"policies.{idle[0]} is played by no workflow. Remove it, or name it in a workflow")
        labels = [b.title for b in self.benchmarks]
        if len(set(labels)) < len(labels):
            raise ValueError(f"two benchmarks have the same name ({', '.join(labels)}): give one a label")
        others = [b for b in self.benchmarks if not isinstance(b, AtlasBenchmarkSettings)]
        searches = (RagSettings, AgentSettings, OtherWorkflowSettings)
        searching = [w for w in self.workflows.values() if isinstance(w, searches)]
        if self.tools is not None and not searching:
            raise ValueError("tools belongs to workflows of kind rag and agent, and there is none. Remove it")
        if self.tools is not None and not others:
            raise ValueError("tools belongs to other benchmarks: an atlas is searched with its own index. Remove it")
        if self.worlds is not None and len(others) == len(self.benchmarks):
            raise ValueError("worlds belongs to the benchmark atlas, and none is named. Remove it")
        return self
