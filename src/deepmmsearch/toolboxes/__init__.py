"""Toolboxes from settings: what an agent may use, put together."""

from deepmmsearch.toolboxes.assembly import build_toolbox, find_grounder, make_provider
from deepmmsearch.toolboxes.settings import ProviderSettings, ToolSettings

__all__ = ["ProviderSettings", "ToolSettings", "build_toolbox", "find_grounder", "make_provider"]
