"""Which keys a recipe needs, by the names of their environment variables, and where each goes.

A recipe may be somebody else's, and what it names is sent. So a file may name a service's own variable, and no other
one of the environment unless the user allows it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deepmmsearch.compose.tool_parts import ProviderReaderSettings
from deepmmsearch.compose.tool_settings import McpServerSettings, ProviderSettings
from deepmmsearch.errors import UserError
from deepmmsearch.policies.connection import KEY_VARIABLE, OFFICIAL
from deepmmsearch.settings import EndpointSettings, Settings, sections
from deepmmsearch.tools.providers.catalog import PROVIDERS, addresses

HUB = "HF_TOKEN"
"""For a model or a benchmark on the hub that asks who fetches it."""
ON_THE_HUB = ("model", "encoder", "benchmark", "bem")
"""Settings that name one, where they are not a folder or file here."""
ALLOWED = "DEEPMMSEARCH_VARIABLES"
"""Names, divided by commas, that a recipe may send besides the services' own."""
COMMANDS = "DEEPMMSEARCH_COMMANDS"
"""Command lines, divided by commas, that a recipe may have started."""

# the variables of services with OpenAI-compatible endpoints, each with the domains it belongs to
_OWN = {
    "ANTHROPIC_API_KEY": ("anthropic.com",),
    "AZURE_OPENAI_API_KEY": ("openai.azure.com", "services.ai.azure.com"),
    "CEREBRAS_API_KEY": ("cerebras.ai",),
    "DASHSCOPE_API_KEY": ("aliyuncs.com",),
    "DEEPINFRA_API_KEY": ("deepinfra.com",),
    "DEEPSEEK_API_KEY": ("deepseek.com",),
    "FIREWORKS_API_KEY": ("fireworks.ai",),
    "GEMINI_API_KEY": ("googleapis.com",),
    "GROQ_API_KEY": ("groq.com",),
    "HF_TOKEN": ("huggingface.co",),
    "MISTRAL_API_KEY": ("mistral.ai",),
    "MOONSHOT_API_KEY": ("moonshot.ai", "moonshot.cn"),
    "NVIDIA_API_KEY": ("nvidia.com",),
    "OPENROUTER_API_KEY": ("openrouter.ai",),
    "SILICONFLOW_API_KEY": ("siliconflow.com", "siliconflow.cn"),
    "TOGETHER_API_KEY": ("together.ai", "together.xyz"),
    "XAI_API_KEY": ("x.ai",),
}


@dataclass(frozen=True)
class KeyUse:
    """The key in `variable` goes to `place`, a host. `own`: it is the service's own variable."""

    variable: str
    place: str
    own: bool


def keys_of(settings: Settings) -> Iterator[str]:
    """Raises UnknownName, UserError for a provider that is not there."""
    for section in sections(settings):
        yield from (use.variable for use in _uses(section))
        if not isinstance(section, EndpointSettings | ProviderSettings | ProviderReaderSettings):
            named = (getattr(section, name, None) for name in ON_THE_HUB)
            if any(isinstance(name, str) and not Path(name).exists() for name in named):
                yield HUB


def key_uses(settings: Any) -> list[KeyUse]:
    """Where each key of a recipe goes; of providers that are not there nothing is told."""
    found: list[KeyUse] = []
    for section in sections(settings):
        try:
            found += _uses(section)
        except UserError:
            continue
    return list(dict.fromkeys(found))


def refuse_commands(settings: Any, source: str, allowed: Collection[str] = ()) -> None:
    """Raises UserError where the recipe `source` has a program started that is not one of `allowed`, nor of COMMANDS in
    the environment: each a command line as a shell takes it."""
    named = {tuple(shlex.split(line)) for line in (*allowed, *os.environ.get(COMMANDS, "").split(","))}
    for section in sections(settings):
        if isinstance(section, McpServerSettings) and section.command and section.command not in named:
            line = shlex.join(section.command)
            raise UserError(
                f"{source} has a program started on this machine: {line}. If that is what you want, run: deepmmsearch "
                f"config set commands {shlex.quote(line)}"
            )


def refuse_others(settings: Any, source: str, allowed: Collection[str] = ()) -> None:
    """Raises UserError where the recipe `source` names a variable that is not the service's own, nor one of `allowed`
    or of ALLOWED in the environment."""
    named = {*allowed, *(name.strip() for name in os.environ.get(ALLOWED, "").split(","))}
    for use in key_uses(settings):
        if not use.own and use.variable not in named:
            raise UserError(
                f"{source} has the environment variable {use.variable} sent to {use.place}, whose own it is not. If "
                f"that is what you want, run: deepmmsearch config set variables {use.variable}"
            )


def _uses(section: Settings) -> Iterator[KeyUse]:
    """Raises UnknownName, UserError for a provider that is not there."""
    if isinstance(section, EndpointSettings):
        place, variable = _host(section.base_url or OFFICIAL), section.key_variable
        owners = _OWN.get(variable, ())
        encrypted = (section.base_url or OFFICIAL).lower().startswith("https://")
        known = encrypted and any(place == owner or place.endswith(f".{owner}") for owner in owners)
        yield KeyUse(variable, place, known or variable == KEY_VARIABLE)
    elif isinstance(section, McpServerSettings):
        place = _host(section.url) if section.url else section.command[0]
        yield from (KeyUse(name, place, False) for name in (*section.variables, section.key_variable) if name)
    elif isinstance(section, ProviderSettings | ProviderReaderSettings):
        name = section.name if isinstance(section, ProviderSettings) else section.kind
        provider = PROVIDERS.find(name)
        own = getattr(provider, "key_variable", None)
        if (sent := section.key_variable or own) is not None:
            places = [_host(address) for address in addresses(provider, section.options)] or [name]
            yield from (KeyUse(sent, place, sent == own) for place in dict.fromkeys(places))


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""
