"""Which keys tools need, by the names of their environment variables: what a process that builds them is handed."""

from __future__ import annotations

from collections.abc import Iterator

from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.tools.providers.catalog import PROVIDERS

HUB = "HF_TOKEN"
"""For a model on the hub that asks who fetches it."""
_NO_PROVIDER = (None, "web", "local", "none")


def tool_keys(settings: ToolSettings) -> Iterator[str]:
    """Raises UnknownName, UserError for a provider that is not there."""
    if settings.kind == "none":
        return
    named = [(p.name, p.key_variable) for p in (*settings.text, *settings.image)]
    if settings.reader.kind not in _NO_PROVIDER:
        named.append((str(settings.reader.kind), settings.reader.key_variable))
    for name, variable in named:
        if variable := variable or getattr(PROVIDERS.find(name), "key_variable", None):
            yield variable
    for given in (settings.summarizer, settings.grounding):
        if given.kind == "chat":
            yield given.key_variable
    if settings.grounding.kind == "dino" or settings.summarizer.encoder or settings.matcher.model:
        yield HUB
