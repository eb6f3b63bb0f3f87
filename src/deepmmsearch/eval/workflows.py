"""The ways to answer that are compared: direct, RAG with two retrievals, agents. All play the one loop.

A workflow is a policy with its tools, prompts and limits, made by a function of the entry-point group
`deepmmsearch.workflows`; the function's arguments beside the setup are its settings. Ablations are agents with
something taken away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from deepmmsearch.agent import PAPER_LIMITS, Toolbox, episode
from deepmmsearch.agent.dialect import parse_action
from deepmmsearch.agent.protocols import TextSearchTool
from deepmmsearch.agent.runner import AgentWorkflow, Timed, ToolsFor, Workflow
from deepmmsearch.agent.table import figure
from deepmmsearch.errors import ToolError
from deepmmsearch.registry import Registry
from deepmmsearch.types import (
    Hit,
    ImageSearch,
    Limits,
    Observation,
    Policy,
    Prompt,
    Question,
    TextSearch,
    Trajectory,
    is_search,
)

ONE_TURN = Limits(calls=0)


@dataclass(frozen=True)
class Setup:
    """What a workflow is made of. `tools_for`: the toolbox of each question, after ablations and faults.
    `query_prompt`: what a query is written with, where `prompt` is for answers alone. `label` names the policy in its
    trajectories."""

    policy: Policy
    prompt: Prompt
    tools_for: ToolsFor
    limits: Limits = PAPER_LIMITS
    label: str = ""
    query_prompt: Prompt | None = None


WORKFLOWS = Registry[Callable[..., Workflow]](
    "deepmmsearch.workflows", "workflow", callable, "a function of a setup; docs/extending.md shows one"
)
GIVEN = ("setup",)


def agent(setup: Setup) -> Workflow:
    """The model decides turn by turn; without tools it answers directly."""
    return AgentWorkflow(setup.policy, setup.prompt, setup.tools_for, setup.limits, setup.label)


def rag(setup: Setup) -> Workflow:
    """Two retrievals, then an answer."""
    query_prompt = setup.query_prompt or setup.prompt
    return Rag(setup.policy, query_prompt, setup.prompt, setup.tools_for, label=setup.label)


@dataclass(frozen=True)
class Rag:
    """Exactly two retrievals (DeepMMSearch-R1, section 4): the whole image, one text query that the model writes, then
    its answer with both results before it.

    `query_prompt` is what the query is written with; where the model writes none (an answer, a malformed turn, another
    image search) the question itself is the query. Both observations are the trajectory's context, what the model wrote
    for the second one its `query`; what was searched for stands in the question's metadata under `rag_query`.
    """

    policy: Policy
    query_prompt: Prompt
    prompt: Prompt
    tools_for: ToolsFor
    limits: Limits = PAPER_LIMITS
    label: str = ""

    @property
    def blank(self) -> Trajectory:
        return Trajectory(Question("", ""), self.prompt, policy=self.label)

    async def play(self, question: Question) -> AsyncIterator[Trajectory]:
        tools = self.tools_for(question)
        start = replace(self.blank, question=question)
        seen = await tools.execute(ImageSearch(), replace(start, prompt=self.query_prompt), self.limits)
        start = replace(start, context=(seen,))
        yield start
        asking = replace(start, prompt=self.query_prompt)
        written = await Timed(self.policy).act(asking)
        start = replace(start, query=written)
        yield start
        action = parse_action(written.text, self.query_prompt.dialect, ended=written.finish == "stop")
        query = action.query if isinstance(action, TextSearch) else question.text
        read = await tools.execute(TextSearch(query), asking, self.limits)
        told = replace(question, metadata={**question.metadata, "rag_query": query})
        start = replace(start, question=told, context=(seen, read))
        yield start
        async for trajectory in episode(start, Timed(self.policy), Toolbox(), ONE_TURN):
            yield trajectory

    def spent(self, question: Question) -> bool:
        return self.tools_for(question).ledger.run.spent


@dataclass
class FewTextSearches:
    """A text search for one episode that refuses after `most` searches: single-shot against multi-turn."""

    tool: TextSearchTool
    most: int
    made: int = 0

    async def search(self, query: str, k: int) -> list[Hit]:
        if self.made >= self.most:
            times = "once" if self.most == 1 else f"{self.most} times"
            raise ToolError(f"Text can be searched {times} only, answer.")
        self.made += 1
        return await self.tool.search(query, k)


@dataclass(frozen=True)
class Switches:
    """What an ablation takes away (DeepMMSearch-R1, Figure 3): crops, all image searches, all text searches but the
    first so many; and by their names the tools beside them."""

    crop: bool = True
    image_search: bool = True
    text_searches: int | None = None
    without: tuple[str, ...] = ()

    def apply(self, tools: Toolbox) -> Toolbox:
        """For one episode: text searches are counted."""
        if not self.crop:
            tools = replace(tools, grounder=None)
        if not self.image_search:
            tools = replace(tools, image_search=None)
        if self.without:
            tools = replace(tools, extra=tuple(tool for tool in tools.extra if tool.name not in self.without))
        if self.text_searches is not None and tools.text_search is not None:
            tools = replace(tools, text_search=FewTextSearches(tools.text_search, self.text_searches))
        return tools


def retrievals(trajectory: Trajectory) -> tuple[tuple[str, Observation | None], ...]:
    """Every search of the episode: text, image, crop or another tool, and what came back. After retrievals in advance
    there are no tools, so what the policy then asks for is no search."""
    if trajectory.context:
        return tuple(("text" if place else "image", seen) for place, seen in enumerate(trajectory.context))
    return tuple((figure(t.action), t.observation) for t in trajectory.turns if is_search(t.action))
