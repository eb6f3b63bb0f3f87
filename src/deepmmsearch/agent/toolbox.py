"""The toolbox: what carries out the actions of an episode with the tools there are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Literal

from deepmmsearch.agent.lines import Line, cut, one_line, unnumbered
from deepmmsearch.agent.metering import Ledger, using
from deepmmsearch.agent.protocols import (
    Grounder,
    ImageSearchTool,
    Interpreter,
    Matcher,
    ObservationSummarizer,
    PageReader,
    PictureReader,
    Summarizer,
    TextSearchTool,
)
from deepmmsearch.agent.table import Tool, paper_tools, tool_name, tool_of
from deepmmsearch.errors import ToolError, ToolMissing
from deepmmsearch.redaction import without_login
from deepmmsearch.types import (
    PAPER_LIMITS,
    Action,
    Cited,
    Hit,
    Limits,
    Malformed,
    Observation,
    Trajectory,
)

QUOTED = "The summariser failed, so these are quotations."


@dataclass(frozen=True)
class Toolbox:
    """The five tools, any of which may be missing, `extra` ones that the policy may use beside the two searches, and
    how they are put together.

    `text_hits`, `image_hits`: how many are asked for (paper, section 3: 5). `image_lines`: how many image hits the
    policy reads. `box_threshold`: below this score of the grounder the whole image is searched. `crop_padding`: share
    of the box's sides. `min_box_side`: boxes thinner than this many pixels show nothing. `min_passage`: hits whose
    text is shorter (in characters) are read with the reader, where there is one. `pages`: how many hits an observation
    tells of; those after them stand in where pages cannot be read (None: all hits, read or not). `max_line`,
    `max_text`: longest line and longest observation in characters. `thumbnails`: image hits are shown as pictures with
    titles (MMSearch-R1) instead of a summary (DeepMMSearch-R1). `matcher` tells which image hits show what was searched
    for, where the search itself does not. `condenser` makes one summary of all hits instead of a line for each; where
    it or the summariser fails, `stand_in` speaks. `ocr` reads what is written in pictures,
    `interpreter` runs programs. `timeout`: seconds for one
    action (None: no bound). `ledger`: prices and budgets, the same for all episodes of a run.
    """

    text_search: TextSearchTool | None = None
    image_search: ImageSearchTool | None = None
    grounder: Grounder | None = None
    reader: PageReader | None = None
    summarizer: Summarizer | None = None
    text_hits: int = 5
    image_hits: int = 5
    image_lines: int = 3
    box_threshold: float = 0.3
    crop_padding: float = 0.05
    min_box_side: float = 4.0
    min_passage: int = 400
    pages: int | None = None
    max_line: int = 1200
    max_text: int = 6000
    thumbnails: bool = False
    matcher: Matcher | None = None
    condenser: ObservationSummarizer | None = None
    stand_in: Summarizer | None = None
    ocr: PictureReader | None = None
    interpreter: Interpreter | None = None
    extra: tuple[Tool, ...] = ()
    timeout: float | None = None
    ledger: Ledger = field(default_factory=Ledger, compare=False)

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The papers' two and the extra ones, whether or not they can be carried out."""
        return (*paper_tools(), *self.extra)

    async def execute(self, action: Action, trajectory: Trajectory, limits: Limits = PAPER_LIMITS) -> Observation:
        """What comes back for `action`, the next one after the turns of `trajectory`, with the calls it took. Only
        cancellation escapes."""
        meter = self.ledger.meter(trajectory)
        with meter.open():
            observation = await self._in_time(action, trajectory, limits)
        if limits.told:
            left = limits.calls - len(trajectory.turns) - 1
            told = f"Calls left: {left}." if left > 0 else "No call is left, only an answer."
            observation = replace(observation, text=f"{observation.text}\n{told}")
        hits = tuple(replace(h, url=without_login(h.url)) if "@" in h.url else h for h in observation.hits)
        return replace(observation, hits=hits, calls=meter.calls)

    async def _in_time(self, action: Action, trajectory: Trajectory, limits: Limits) -> Observation:
        try:
            async with asyncio.timeout(self.timeout):
                return await self._carry_out(action, trajectory, limits)
        except TimeoutError:
            return refused(f"The tool did not answer within {self.timeout:g} s. Try another query or answer.")

    async def _carry_out(self, action: Action, trajectory: Trajectory, limits: Limits) -> Observation:
        if isinstance(action, Malformed):
            return refused(action.problem)
        if len(trajectory.turns) + 1 >= limits.turns:
            return refused(f"All {limits.calls} calls are used, only an answer is left.")
        tool = tool_of(action, self.offered)
        if tool is None:
            name = tool_name(action)
            if not name:
                return refused("An answer has no observation.")
            return refused(f"{name} is not available.", unavailable=True)
        try:
            return await tool.run(action, trajectory, self, limits)
        except ToolError as error:
            return refused(one_line(str(error)) or "The tool failed.", unavailable=isinstance(error, ToolMissing))
        # The one border where an unknown exception of a provider becomes data: an episode outlives its tools.
        except Exception as error:
            return refused(f"The tool failed ({type(error).__name__}). Try another query or answer.")

    async def summarize(
        self, question: str, query: str, passages: Sequence[str], about: Literal["text", "image"]
    ) -> Summary:
        """What of the passages serves the question, by whoever of the summarisers speaks. Raises ToolError."""
        if not passages:
            return Summary()
        try:
            if self.condenser is not None:
                with using("summarizer", self.condenser):
                    sentences = await self.condenser.condense(question, query, passages, about)
                return Summary(sentences=tuple(sentences), condensed=True)
            return Summary(await self._texts(self.summarizer, question, query, passages))
        except ToolError as error:
            if self.stand_in is None:
                raise
            texts = await self._texts(self.stand_in, question, query, passages)
            return Summary(texts, error=one_line(str(error)))

    async def _texts(
        self, summarizer: Summarizer | None, question: str, query: str, passages: Sequence[str]
    ) -> list[str]:
        """One line per passage, "" where there is nothing to say."""
        texts = list(passages)
        if summarizer is not None:
            with using("summarizer", summarizer):
                texts = await summarizer.summarize(question, query, passages)
            if len(texts) != len(passages):
                raise ToolError(f"The summariser gave {len(texts)} texts for {len(passages)} passages.")
        longest = self.max_line if summarizer is not None else min(self.max_line, self.min_passage)
        return [cut(one_line(text), longest) for text in texts]


@dataclass(frozen=True)
class Summary:
    """One text per passage, or the sentences of one summary of all of them; `error`: why a stand-in wrote it."""

    texts: Sequence[str] = ()
    sentences: tuple[Cited, ...] = ()
    condensed: bool = False
    error: str | None = None

    @property
    def remarks(self) -> list[Line]:
        return [Line(QUOTED)] if self.error else []


def merged(found: Sequence[Sequence[Hit]]) -> list[Hit]:
    """The hits of several searches, the best of each first; a page that several found stands once."""
    ranked = [hit for row in zip_longest(*found) for hit in row if hit is not None]
    first: dict[object, Hit] = {}
    for hit in ranked:
        first.setdefault(hit.url or (hit.title, hit.snippet), hit)
    return list(first.values())


def refused(sentence: str, *, unavailable: bool = False) -> Observation:
    """An error that the policy reads."""
    return Observation(f"Error: {unnumbered(sentence)}", error=sentence, unavailable=unavailable)
