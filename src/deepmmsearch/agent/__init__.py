"""The agent: the loop, and the toolbox that carries out what a policy asks for."""

from deepmmsearch.agent.loop import Tools, episode, play
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.types import PAPER_LIMITS

__all__ = ["PAPER_LIMITS", "Toolbox", "Tools", "episode", "play"]
