"""Which keys a recipe needs, by the names of their environment variables: what a process that builds it is handed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deepmmsearch.compose.tool_settings import ProviderReaderSettings, ProviderSettings
from deepmmsearch.settings import EndpointSettings, Settings, sections
from deepmmsearch.tools.providers.catalog import PROVIDERS

HUB = "HF_TOKEN"
"""For a model or a benchmark on the hub that asks who fetches it."""
ON_THE_HUB = ("model", "encoder", "benchmark")
"""Settings that name one, where they are not a folder or file here."""


def keys_of(settings: Settings) -> Iterator[str]:
    """Raises UnknownName, UserError for a provider that is not there."""
    for section in sections(settings):
        if isinstance(section, EndpointSettings):
            yield section.key_variable
        elif isinstance(section, ProviderSettings | ProviderReaderSettings):
            name = section.name if isinstance(section, ProviderSettings) else section.kind
            if variable := section.key_variable or getattr(PROVIDERS.find(name), "key_variable", None):
                yield variable
        else:
            named = (getattr(section, name, None) for name in ON_THE_HUB)
            if any(isinstance(name, str) and not Path(name).exists() for name in named):
                yield HUB
