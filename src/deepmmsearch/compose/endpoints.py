"""Models behind OpenAI-compatible endpoints, from their settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepmmsearch.settings import EndpointSettings

if TYPE_CHECKING:
    from deepmmsearch.policies.chat import ChatPolicy


def chat_model(settings: EndpointSettings, **more: Any) -> ChatPolicy:
    """Raises MissingExtra without the extra chat, UserError for an address that is not one or a missing key."""
    from deepmmsearch.policies.chat import ChatPolicy

    return ChatPolicy(
        settings.model,
        settings.base_url,
        key_variable=settings.key_variable,
        max_new_tokens=settings.max_new_tokens,
        timeout=settings.timeout,
        **more,
    )
