"""Policies put together: who plays, and with which prompt and grounder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.dialect import find_dialect
from deepmmsearch.agent.protocols import Grounder
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.endpoints import only_model, seeing_model
from deepmmsearch.compose.toolbox import find_grounder
from deepmmsearch.dialects.functions import FunctionDialect
from deepmmsearch.digests import contents_of
from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.language.detection import language_of
from deepmmsearch.outputs import content
from deepmmsearch.prompts import load_prompt, prompt_languages, prompt_names
from deepmmsearch.settings import Aside, OneOf, SeeingEndpointSettings, Settings
from deepmmsearch.tools.grounding import Speaker
from deepmmsearch.types import Policy, Prompt, Question

if TYPE_CHECKING:
    from deepmmsearch.policies.local import LocalPolicy, TokenReader


class LocalPolicySettings(Settings):
    """A model in this process. `model`: a checkpoint folder or a name on the Hub, None is the bundled model; `adapter`:
    a LoRA on it."""

    kind: Literal["local"] = "local"
    model: str | None = None
    adapter: str | None = None
    device: Aside[str] = "auto"
    dtype: str = "auto"
    max_new_tokens: int | None = Field(default=None, gt=0)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 0

    def in_full(self) -> Self:
        return self.model_copy(update={"model": self.model or str(BUNDLED)})


class ChatPolicySettings(SeeingEndpointSettings):
    """A model behind an OpenAI-compatible endpoint. `lossless` sends it pictures as PNG, else as JPEG. `fold`: about
    how many tokens of an episode it is sent; beyond that, older observations are folded to the lines that tell of hits,
    and their pictures are named instead of shown."""

    kind: Literal["chat"] = "chat"
    lossless: bool = False
    fold: int | None = Field(default=None, ge=1024)
    seed: int = 0


class HumanPolicySettings(Settings):
    """A person at the keyboard."""

    kind: Literal["human"] = "human"


class OraclePolicySettings(Settings):
    """The atlas's perfect player, which knows the plan of each question and cannot see."""

    kind: Literal["oracle"] = "oracle"


Model = LocalPolicySettings | ChatPolicySettings
ModelSettings = Annotated[Model, OneOf(default="local")]
PolicySettings = Annotated[Model | HumanPolicySettings, OneOf(default="local")]
PlayerPolicySettings = Annotated[Model | OraclePolicySettings, OneOf(default="local")]
"""Who plays: a model, or the atlas's oracle."""


def build_policy(settings: PolicySettings, on_text: Callable[[str], None] | None = None) -> Policy:
    """`on_text` is called with what a chat endpoint writes, while it is written.

    Raises UserError for what cannot be loaded.
    """
    if isinstance(settings, LocalPolicySettings):
        return local_policy(settings.model or BUNDLED, **settings.model_dump(exclude={"kind", "model"}))
    if isinstance(settings, ChatPolicySettings):
        return seeing_model(
            settings,
            lossless=settings.lossless,
            fold=settings.fold,
            # greedy needs no seed, and not every server knows one
            seed=settings.seed if settings.temperature else None,
            on_text=on_text,
        )
    from deepmmsearch.policies.human import HumanPolicy

    return HumanPolicy()


def policy_content(settings: Model | HumanPolicySettings | OraclePolicySettings) -> dict[str, Any]:
    """What can change how it plays. An endpoint's only model is told by the name that the endpoint gives now."""
    found = contents_of(settings)
    if isinstance(settings, ChatPolicySettings) and settings.model is None:
        # where it is down, what was played can still be judged and shown
        found["model"] = content("the endpoint's only model", only_model(settings) or "")
    return found


def choose_prompt(policy: Policy, tools: Toolbox, name: str | None = None, language: str | None = None) -> Prompt:
    """The set `name`, else what the policy's card names, else the paper's; its form without tools where there are none.
    It tells of tools beside the searches at its end, where the set has no state text of its own for them. Raises
    UnknownName."""
    without = tools.text_search is tools.image_search is None and not tools.extra
    prompt = prompt_for(trained_prompt(policy), not without, name, language)
    dialect = find_dialect(prompt.dialect)
    if isinstance(dialect, FunctionDialect):
        return replace(prompt, functions=_functions(dialect, policy, tools))
    told = [said for tool in tools.extra if tool.state not in prompt.after and (said := dialect.about(tool))]
    return replace(prompt, system="\n\n".join([prompt.system, *told])) if told else prompt


def _functions(dialect: FunctionDialect, policy: Policy, tools: Toolbox) -> tuple[Mapping[str, Any], ...]:
    """What can be carried out. Raises UserError where the policy cannot be offered any."""
    if isinstance(policy, Speaker) and getattr(policy, "base_url", None) is None:
        raise UserError(
            f"The prompt set {dialect.name} is for models behind an endpoint, which knows how they call functions. "
            "Serve the model (vLLM, llama.cpp, Ollama) and give --base-url, or choose another prompt set."
        )
    there = {"text_search": tools.text_search, "image_search": tools.image_search}
    return tuple(dialect.function(tool) for tool in tools.offered if there.get(tool.name, tool) is not None)


def prompt_to_ask(policy: Policy, tools: Toolbox, name: str | None = None) -> Prompt:
    """As `choose_prompt`, for people who wait for an answer: a model that was not trained for a set is shown a worked
    example, and is told of what can be carried out alone."""
    return choose_prompt(policy, tools, _set_to_ask(policy, tools, name))


def _set_to_ask(policy: Policy, tools: Toolbox, name: str | None) -> str | None:
    model = isinstance(policy, Speaker) and trained_prompt(policy) is None
    if name is None and model and tools.text_search is not None:
        return "untrained" if tools.image_search is not None else "untrained-text"
    return name


@dataclass(frozen=True)
class Translation:
    """A prompt in the language of the question, where its set has it: what `prompt_to_ask` gives, and the same in
    others. What was added to it stays as it is."""

    own: Prompt
    others: Mapping[str, Prompt]

    def __call__(self, prompt: Prompt, question: Question) -> Prompt:
        other = self.others.get(language_of(question.text))
        if other is None:
            return prompt
        system = prompt.system.replace(self.own.system, other.system)
        return replace(prompt, system=system, user=prompt.user.replace(self.own.user, other.user), after=other.after)


def translation(policy: Policy, tools: Toolbox, name: str | None = None) -> Translation:
    """Of what `prompt_to_ask` gives for the same."""
    name = _set_to_ask(policy, tools, name)
    own = choose_prompt(policy, tools, name)
    # one that was chosen for the policy is named by its label
    spoken = prompt_languages(name or own.name)
    return Translation(own, {language: choose_prompt(policy, tools, name, language) for language in spoken})


def trained_prompt(policy: Policy) -> str | None:
    """What its card names."""
    named: str | None = getattr(getattr(policy, "card", None), "prompt", None)
    return named


def prompt_for(trained: str | None, searching: bool, name: str | None = None, language: str | None = None) -> Prompt:
    """As `choose_prompt`, of a policy that was `trained` with a set and need not be loaded yet."""
    trained = trained or "deepmmsearch-r1"
    if name is None and not searching:
        name = f"{trained}-direct" if f"{trained}-direct" in prompt_names() else "direct"
    return load_prompt(name or trained, language=language)


def local_policy(
    source: str | Path = BUNDLED,
    *,
    adapter: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> LocalPolicy:
    """The model of a checkpoint folder or a name on the Hub, in this process."""
    _refuse_no_bundle(source)
    try:
        from deepmmsearch.policies.local import LocalPolicy
    except ModuleNotFoundError as error:
        raise MissingExtra("Running a model here", "local") from error
    return LocalPolicy.load(
        source,
        adapter=adapter,
        device=device,
        dtype=dtype,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )


def token_reader(source: str | Path = BUNDLED) -> TokenReader:
    """What shows a trajectory as the tokens of a model."""
    _refuse_no_bundle(source)
    try:
        from deepmmsearch.policies.local import TokenReader
    except ModuleNotFoundError as error:
        raise MissingExtra("Showing tokens", "local") from error
    return TokenReader(source)


def _refuse_no_bundle(source: str | Path) -> None:
    if source == BUNDLED and not (BUNDLED / "config.json").is_file():
        raise UserError(f"There is no bundled model in {BUNDLED}. Install deepmmsearch again, or name a model.")


def policy_grounder(policy: LocalPolicy) -> Grounder:
    """Grounding by the policy's own model, in the dialect its card names."""
    grounder = find_grounder(policy)
    assert grounder is not None
    return grounder
