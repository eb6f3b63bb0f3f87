"""The questions of worlds, played: with the gold boxes, or each with the tools of its own world."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from PIL.Image import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.protocols import Grounder
from deepmmsearch.agent.runner import AgentWorkflow, ToolsFor, run_all
from deepmmsearch.atlas.worlds import Worlds
from deepmmsearch.judge import is_correct
from deepmmsearch.types import Box, Limits, Policy, Prompt, Question, Trajectory


@dataclass(frozen=True)
class GoldGrounder:
    """Grounder that knows one question's gold box, or one for each of several regions: for the oracle, which cannot
    see."""

    box: Box | None
    named: Mapping[str, Box] = field(default_factory=dict)

    async def locate(self, image: Image, phrase: str) -> list[Box]:
        box = self.named.get(phrase, self.box)
        return [box] if box else []


def with_gold_boxes(tools: Toolbox) -> ToolsFor:
    """The same tools for every question, each with its own gold box as grounding."""

    def tools_for(question: Question) -> Toolbox:
        box = question.metadata.get("gold_box")
        named = {words: Box(*sides) for words, sides in question.metadata.get("gold_boxes", {}).items()}
        return replace(tools, grounder=GoldGrounder(Box(*box) if box else None, named))

    return tools_for


def play_worlds(
    worlds: Worlds, policy: Policy, grounder: Grounder, prompt: Prompt, limits: Limits, concurrency: int = 32
) -> list[Trajectory]:
    """The questions of several worlds, each with the tools of its own."""
    tools = {name: replace(worlds.toolbox(name), grounder=grounder) for name in worlds.worlds}

    def tools_for(question: Question) -> Toolbox:
        return tools[str(question.metadata["world"])]

    async def play() -> list[Trajectory]:
        return [t async for t in run_all(worlds, AgentWorkflow(policy, prompt, tools_for, limits), concurrency)]

    return asyncio.run(play())


def correct(trajectory: Trajectory) -> bool:
    return is_correct(trajectory.answer, trajectory.question.answers)
