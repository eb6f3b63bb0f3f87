"""DeepMMSearch: a multimodal agent that decides what to look up, with which tool, and when to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepmmsearch.compose.asking import Agent, Reply

__version__ = "0.1.0"
__all__ = ["Agent", "Reply"]


def __getattr__(name: str) -> Any:
    # imported when they are asked for: the command line and other programs start without them
    if name in __all__:
        from deepmmsearch.compose import asking

        return getattr(asking, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
