"""Models behind OpenAI-compatible endpoints, from their settings."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmmsearch.bundled import BUNDLED
from deepmmsearch.digests import kept_by_hub
from deepmmsearch.errors import UserError
from deepmmsearch.policies.agent_card import AgentCard, processor_bounds, read_card
from deepmmsearch.settings import EndpointSettings, SeeingEndpointSettings

if TYPE_CHECKING:
    from deepmmsearch.policies.chat import ChatPolicy

# what a server that was started with the bundled model's folder, or told to call it so, calls it
_BUNDLED = re.compile(r"(.*/)?(deepmmsearch/(bundled|atlas)/model|deepmmsearch-atlas|atlas)/?")


def chat_model(settings: EndpointSettings, **more: Any) -> ChatPolicy:
    """Raises MissingExtra without the extra chat, UserError for an address that is not one or a missing key."""
    from deepmmsearch.policies.chat import ChatPolicy

    given: dict[str, Any] = {
        "key_variable": settings.key_variable,
        "max_new_tokens": settings.max_new_tokens,
        "timeout": settings.timeout,
        "temperature": settings.temperature,
        "effort": settings.reasoning_effort,
        "extra": settings.extra_body,
        "proxy": settings.proxy,
        "redirects": settings.redirects,
        **({} if settings.stop is None else {"stop": settings.stop}),
    }
    return ChatPolicy(settings.model, settings.base_url, **{**given, **more})


def seeing_model(settings: SeeingEndpointSettings, **more: Any) -> ChatPolicy:
    """A model that looks at pictures, which it is sent as it sees them: within the settings' bounds, else its card's or
    image processor's where they can be read here, else Qwen2.5-VL's own. Raises as `chat_model` does."""
    from deepmmsearch.policies.chat import MAX_PIXELS, MIN_PIXELS

    name = settings.model or only_model(settings)
    card = endpoint_card(name, trusted=settings.model is not None)
    own: dict[str, Any] = {
        "card": card,
        "min_pixels": settings.min_pixels or card.min_pixels or MIN_PIXELS,
        "max_pixels": settings.max_pixels or card.max_pixels or MAX_PIXELS,
    }
    if card.max_new_tokens is not None and "max_new_tokens" not in settings.model_fields_set:
        own["max_new_tokens"] = card.max_new_tokens
    return chat_model(settings.model_copy(update={"model": name}), **own, **more)


def only_model(settings: EndpointSettings) -> str | None:
    """What the endpoint calls its only model; None where it is down or serves several, which is told when it is
    asked."""
    model = chat_model(settings, retries=0)
    try:
        # a notebook has an event loop of its own
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, check_endpoint(model)).result()
    except UserError:
        return None
    return model.model


async def check_endpoint(model: ChatPolicy) -> None:
    """`model.check`, in an event loop that ends afterwards."""
    try:
        await model.check()
    finally:
        await model.close()


def endpoint_card(name: str | None, trusted: bool = True) -> AgentCard:
    """What is known here of a model by the name that an endpoint gives it: the bundled one, or, where the name is
    `trusted`, a checkpoint folder or one that the Hub's client keeps on this machine."""
    if name is None:
        return AgentCard()
    if _BUNDLED.fullmatch(name.replace("\\", "/")):
        return read_card(BUNDLED)
    folder = _folder_of(name) if trusted else None
    if folder is None:
        return AgentCard()
    card, (least, most) = read_card(folder), processor_bounds(folder)
    return replace(card, min_pixels=card.min_pixels or least, max_pixels=card.max_pixels or most)


def _folder_of(name: str) -> Path | None:
    if Path(name).is_dir():
        return Path(name)
    found = kept_by_hub(name, "preprocessor_config.json")
    return None if found is None else found.parent
