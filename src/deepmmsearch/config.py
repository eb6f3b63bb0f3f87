"""Recipes and settings: one YAML file holds a whole experiment; a typing error in it is an error, not a default.

This is also where policies are put together (tools: `toolboxes`): the places that know implementations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepmmsearch.agent import Toolbox
from deepmmsearch.errors import MissingExtra, UnknownName, UserError
from deepmmsearch.prompts import load_prompt, prompt_names
from deepmmsearch.toolboxes import ProviderSettings as ProviderSettings
from deepmmsearch.toolboxes import ToolSettings as ToolSettings
from deepmmsearch.toolboxes import build_toolbox as build_toolbox
from deepmmsearch.toolboxes import find_grounder as find_grounder
from deepmmsearch.types import Policy, Prompt

if TYPE_CHECKING:
    from deepmmsearch.policies.local import LocalPolicy, TokenReader
    from deepmmsearch.tools.base import Grounder

BUNDLED = Path(__file__).parent / "atlas" / "model"

M = TypeVar("M", bound=BaseModel)


def load_recipe(path: Path, model: type[M], overrides: Sequence[str] = ()) -> M:
    """The recipe in a YAML file with overrides such as `trl.learning_rate=1e-3` applied.

    Raises UserError for a file that is missing or no YAML, an override without "=", or a value of the wrong kind;
    UnknownName for a setting that does not exist.
    """
    if not path.is_file():
        raise UserError(f"There is no recipe {path}. Give a YAML file such as recipes/atlas/sft.yaml.")
    try:
        row = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(row, dict):
        raise UserError(f"{path} holds no settings. Expected lines such as `output: runs/mine`.")
    for override in overrides:
        _override(row, override)
    try:
        return model.model_validate(row)
    except ValidationError as error:
        raise _explain(error, path, model) from None


def _override(row: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise UserError(f"{override!r} is no override. Write name=value, such as output=runs/mine.")
    *folders, last = name.split(".")
    for folder in folders:
        row[folder] = {} if row.get(folder) is None else row[folder]
        row = row[folder]
        if not isinstance(row, dict):
            raise UserError(f"{name} cannot be set: {folder} holds a value, not settings.")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"The value in {override!r} is not YAML. Quote it, or close its brackets.") from None
    if isinstance(parsed, str):
        # YAML 1.1 reads 1e-3 as text, people read it as a number
        with suppress(ValueError):
            parsed = float(parsed)
    row[last] = parsed


def _explain(error: ValidationError, path: Path, model: type[BaseModel]) -> UserError:
    first = error.errors()[0]
    *parents, name = (str(part) for part in first["loc"]) if first["loc"] else ("",)
    if first["type"] == "extra_forbidden":
        owner: type[BaseModel] = model
        for parent in parents:
            annotation: Any = owner.model_fields[parent].annotation if parent in owner.model_fields else None
            candidates = [annotation, *getattr(annotation, "__args__", ())]
            owner = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), owner)
        return UnknownName(
            f"setting in {path}", ".".join((*parents, name)), [".".join((*parents, n)) for n in owner.model_fields]
        )
    place = ".".join((*parents, name))
    said = first["msg"].removeprefix("Value error, ")
    # what contradicts itself is a whole section, and too long to be shown
    found = "" if isinstance(first.get("input"), dict) else f", found {first.get('input')!r}"
    return UserError(f"{path}: {place + ': ' if place else ''}{said}{found}.")


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
