"""Policies put together: who plays, and with which prompt and grounder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.protocols import Grounder
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.toolbox import find_grounder
from deepmmsearch.errors import MissingExtra, UnknownName, UserError
from deepmmsearch.prompts import load_prompt, prompt_names
from deepmmsearch.types import Policy, Prompt

if TYPE_CHECKING:
    from deepmmsearch.policies.local import LocalPolicy, TokenReader

POLICIES = ("local", "chat", "human")


class PolicySettings(BaseModel):
    """Who plays. `model`: a checkpoint folder, a name on the Hub, or what the endpoint calls it; None is the bundled
    model, or the endpoint's only one. The endpoint's key is in the environment variable `key_variable`; `lossless`
    sends it pictures as PNG, else as JPEG."""

    model_config = ConfigDict(extra="forbid")

    kind: str = "local"
    model: str | None = None
    adapter: str | None = None
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    lossless: bool = False
    max_new_tokens: int | None = Field(default=None, gt=0)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 0
    timeout: float = Field(default=120.0, gt=0)
    device: str = "auto"
    dtype: str = "auto"


def build_policy(settings: PolicySettings, on_text: Callable[[str], None] | None = None) -> Policy:
    """`on_text` is called with what a chat endpoint writes, while it is written.

    Raises UnknownName for an unknown kind, UserError for what cannot be loaded.
    """
    match settings.kind:
        case "local":
            return local_policy(
                settings.model or BUNDLED,
                adapter=settings.adapter,
                device=settings.device,
                dtype=settings.dtype,
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                seed=settings.seed,
            )
        case "chat":
            from deepmmsearch.policies.chat import ChatPolicy

            return ChatPolicy(
                settings.model,
                settings.base_url,
                key_variable=settings.key_variable,
                lossless=settings.lossless,
                max_new_tokens=settings.max_new_tokens or 1024,
                temperature=settings.temperature,
                # greedy needs no seed, and not every server knows one
                seed=settings.seed if settings.temperature else None,
                timeout=settings.timeout,
                on_text=on_text,
            )
        case "human":
            from deepmmsearch.policies.human import HumanPolicy

            return HumanPolicy()
    raise UnknownName("policy", settings.kind, POLICIES)


def choose_prompt(policy: Policy, tools: Toolbox, name: str | None = None) -> Prompt:
    """The set `name`, else what the policy's card names, else the paper's; its form without tools where there are none.
    Raises UnknownName."""
    if name is not None:
        return load_prompt(name)
    trained = getattr(getattr(policy, "card", None), "prompt", None) or "deepmmsearch-r1"
    if tools.text_search is not None or tools.image_search is not None:
        return load_prompt(trained)
    return load_prompt(f"{trained}-direct" if f"{trained}-direct" in prompt_names() else "direct")


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
