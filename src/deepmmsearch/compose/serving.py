"""A server's recipe, and the models that it offers, each with its tools."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from deepmmsearch.agent.dialect import find_dialect
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.compose.policies import LocalPolicySettings, ModelSettings, build_policy, prompt_to_ask, translation
from deepmmsearch.compose.tool_settings import NoToolSettings, ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.errors import UserError
from deepmmsearch.settings import LimitSettings, Recipe, Settings
from deepmmsearch.types import Limits, Policy, Question

Choice = Literal["model", "tools", "calls", "length"]
SEARCH_TOOLS = {"text_search": "text search", "image_search": "image search", "crop": "parts of a picture"}
"""What users may do without, and what it is called in a prompt."""
_FIELDS = {"text_search": "text_search", "image_search": "image_search", "crop": "grounder"}
LONG = (
    "Answer at length: a paragraph or more that says what was found, how it is known, and what is not certain. "
    "Begin with the answer itself."
)


class ServedModelSettings(Settings):
    """One that can be asked: who plays, with which tools. `prompt`: None is the one the policy was made for; `limits`:
    None are those of its dialect; `about`: a line for the page. `examples`: questions with pictures, in a folder as
    `deepmmsearch atlas make` writes it, that the page offers to a first visit."""

    policy: ModelSettings = LocalPolicySettings()
    tools: ToolSettings = NoToolSettings()
    prompt: str | None = None
    limits: LimitSettings | None = None
    about: str = ""
    examples: Path | None = None


class UploadSettings(Settings):
    """What a question may bring along: `pictures` of at most so many `bytes` and `pixels` each, `characters` of
    text; and of an earlier conversation the last `exchanges`."""

    pictures: int = Field(default=8, ge=0)
    bytes: int = Field(default=20_000_000, gt=0)
    pixels: int = Field(default=40_000_000, gt=0)
    characters: int = Field(default=20_000, gt=0)
    exchanges: int = Field(default=20, ge=0)


class CallerLimits(Settings):
    """What one key may use; None is no limit. `money`: US dollars of tools in a day (UTC); `days`: how long history is
    kept."""

    concurrent: int | None = Field(default=4, gt=0)
    per_minute: int | None = Field(default=60, gt=0)
    money: float | None = Field(default=None, ge=0)
    days: int | None = Field(default=None, gt=0)


class PageSettings(Settings):
    """The page: `may_choose` says what its users may change (the tools also over /v1), `share` whether they may make a
    link to an answer that everybody who reaches the server can open, `language` what it speaks where the browser asks
    for none of its own."""

    enabled: bool = True
    may_choose: tuple[Choice, ...] = ("model", "tools", "calls", "length")
    share: bool = False
    language: Literal["en", "de", "zh"] = "en"


class ServeRecipe(Recipe):
    """A server. `models`: by the names they are asked for, the first is the default. `store`: where questions and
    answers are kept. `concurrency`: episodes in play; `waiting`: questions that may wait for a place; `timeout`:
    seconds for one question. `keys`: a file of `deepmmsearch keys`, needed on any address but this machine's own,
    unless `insecure` lets everybody in. `each`: the limits of a key that has none of its own. `allow_hosts`: names,
    besides its address, under which the server may be asked; `origins`: of other sites whose pages may ask it.
    `picture_folders`: below which MCP hosts may name pictures by their path. `log`: a line of JSON on standard error
    for each question, without its words or with them.
    """

    models: dict[str, ServedModelSettings] = Field(min_length=1)
    store: Path = Path("serve")
    host: str = "127.0.0.1"
    port: int = Field(default=8400, ge=0, le=65_535)
    concurrency: int = Field(default=8, gt=0)
    waiting: int = Field(default=64, ge=0)
    timeout: float = Field(default=300.0, gt=0)
    keys: Path | None = None
    insecure: bool = False
    allow_hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    uploads: UploadSettings = UploadSettings()
    picture_folders: tuple[Path, ...] = ()
    each: CallerLimits = CallerLimits()
    page: PageSettings = PageSettings()
    log: Literal["off", "figures", "questions"] = "figures"

    @field_validator("models")
    @classmethod
    def _named(cls, models: dict[str, ServedModelSettings]) -> dict[str, ServedModelSettings]:
        for name in models:
            if not name or len(name) > 64 or not all(c.isalnum() or c in "-_." for c in name):
                raise ValueError(f"a model is called {name!r}; use letters, digits, '-', '_' and '.'")
        return models


@dataclass(frozen=True)
class ServedModel:
    """A model as it is asked. `streams`: its policy tells each piece of a turn as it is written."""

    name: str
    workflow: AgentWorkflow
    streams: bool
    about: str = ""
    examples: Path | None = None

    @property
    def free(self) -> bool:
        """Does it follow what it is asked? One that was trained with a prompt of its own knows that one alone."""
        return follows_any_prompt(self.workflow.policy)

    @property
    def search_tools(self) -> tuple[str, ...]:
        """Those of SEARCH_TOOLS that it has."""
        tools = self.workflow.tools_for(Question("", ""))
        return tuple(name for name, field in _FIELDS.items() if getattr(tools, field) is not None)

    def limited(self, calls: int | None) -> AgentWorkflow:
        """The workflow with at most `calls` tool calls, never more than it has by itself."""
        if calls is None:
            return self.workflow
        allowed = self.workflow.limits
        return replace(self.workflow, limits=replace(allowed, calls=max(0, min(calls, allowed.calls))))


def with_tools(model: ServedModel, workflow: AgentWorkflow, chosen: Collection[str]) -> AgentWorkflow:
    """The workflow with only the chosen ones of the model's search tools; one that follows any prompt is told. Raises
    UserError for a tool that is none."""
    if unknown := [name for name in chosen if name not in SEARCH_TOOLS]:
        raise UserError(f"There is no search tool {unknown[0][:40]!r}. Choose of: {', '.join(SEARCH_TOOLS)}.")
    missing = [name for name in model.search_tools if name not in chosen]
    if not missing:
        return workflow
    without: dict[str, Any] = {_FIELDS[name]: None for name in missing}
    tools_for, prompt = workflow.tools_for, workflow.prompt
    if model.free:
        told = f"Do without: {', '.join(SEARCH_TOOLS[name] for name in missing)}."
        prompt = replace(prompt, user=f"{prompt.user}\n\n{told}")
    return replace(workflow, prompt=prompt, tools_for=lambda question: replace(tools_for(question), **without))


def at_length(workflow: AgentWorkflow) -> AgentWorkflow:
    """The workflow, asked for a long answer."""
    prompt = workflow.prompt
    return replace(workflow, prompt=replace(prompt, user=f"{prompt.user}\n\n{LONG}"))


def follows_any_prompt(policy: Policy) -> bool:
    """Not so the bundled model and others whose card names the prompt they were trained with."""
    return not getattr(getattr(policy, "card", None), "prompt", None)


def build_served(name: str, settings: ServedModelSettings, on_text: Callable[[str], None] | None = None) -> ServedModel:
    """Raises UserError for what cannot be loaded, MissingExtra."""
    policy: Policy = build_policy(settings.policy, on_text)
    tools = build_toolbox(settings.tools, policy)
    prompt = prompt_to_ask(policy, tools, settings.prompt)
    limits: Limits = settings.limits.limits() if settings.limits is not None else find_dialect(prompt.dialect).limits
    label, spoken = getattr(policy, "name", name), translation(policy, tools, settings.prompt)
    workflow = AgentWorkflow(policy, prompt, lambda _: tools, limits, label, lenient=True, translate=spoken)
    streams = on_text is not None and settings.policy.kind == "chat"
    return ServedModel(name, workflow, streams, settings.about, settings.examples)
