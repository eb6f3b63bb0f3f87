"""Text search (DeepMMSearch-R1, section 3.1): search, read the top pages, summarise for the question."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepmmsearch.agent.lines import join, summary_lines, text_lines
from deepmmsearch.agent.metering import using
from deepmmsearch.agent.passages import read_passages
from deepmmsearch.agent.protocols import TextSearchTool
from deepmmsearch.agent.table import TEXT_SEARCH, Shown
from deepmmsearch.agent.toolbox import Toolbox, merged, refused
from deepmmsearch.types import Hit, Limits, Observation, TextSearch, Trajectory


@dataclass(frozen=True)
class SearchText:
    """Searches text with a query; with each line of it, where a dialect's call holds several."""

    name: str = TEXT_SEARCH
    tag: str = "text_search"
    state: str = "text"
    about: str = ""

    @property
    def parameters(self) -> Mapping[str, Any]:
        query = {"type": "string", "description": "makes sense without the image: names the thing, no this or it"}
        return {"type": "object", "properties": {"query": query}, "required": ["query"]}

    def accept(self, arguments: Mapping[str, Any]) -> TextSearch:
        query = arguments.get("query")
        if not isinstance(query, str) or not query.strip() or len(arguments) > 1:
            raise ValueError("takes one argument, query, a text.")
        return self.read(query)

    def arguments_of(self, action: TextSearch) -> Mapping[str, Any]:
        return {"query": action.query}

    def read(self, content: str) -> TextSearch:
        return TextSearch(" ".join(content.split()))

    def write(self, action: TextSearch) -> str:
        return action.query

    def figure(self, action: TextSearch) -> str:
        return "text"

    def shown(self, action: TextSearch) -> Shown:
        fields = {"action": self.name, "query": action.query}
        return Shown(f"searches text: {action.query}", "text search", action.query, fields)

    async def run(self, action: TextSearch, trajectory: Trajectory, tools: Toolbox, limits: Limits) -> Observation:
        if tools.text_search is None:
            return refused("Text search is not available, search the image or answer.", unavailable=True)
        hits = await _hits(tools.text_search, action.query.split("\n"), tools.text_hits)
        found = await read_passages(hits, tools.reader, tools.pages or len(hits), tools.min_passage)
        hits, passages = [p.hit for p in found], [p.text for p in found]
        if tools.condenser is not None:
            passages = [f"{hit.title}. {passage}" for hit, passage in zip(hits, passages, strict=True)]
        summary = await tools.summarize(trajectory.question.text, action.query, passages, "text")
        ranks = range(1, len(hits) + 1)
        lines = summary_lines(summary.sentences, ranks) if summary.condensed else text_lines(summary.texts)
        text, sentences = join([*summary.remarks, *lines], tools.max_text)
        return Observation(text, hits=tuple(hits), sentences=sentences, summary_error=summary.error)


async def _hits(tool: TextSearchTool, queries: Sequence[str], most: int) -> list[Hit]:
    """At most so many for each query, the best of each first; a page that several found stands once."""

    async def found(query: str) -> list[Hit]:
        with using("text_search", tool):
            return (await tool.search(query, most))[:most]

    each = await asyncio.gather(*map(found, queries))
    return each[0] if len(each) == 1 else merged(each)
