"""What Open WebUI (0.12) shows beyond OpenAI's form: status lines with hits, sources with our sentence, the crop.

Its events pass in the stream under a model name of their own (`SUFFIX`), because other programs do not know them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from deepmmsearch import images
from deepmmsearch.agent.table import figure
from deepmmsearch.compose.serving import follows_any_prompt
from deepmmsearch.errors import UserError
from deepmmsearch.serve.steps import CitedAnswer
from deepmmsearch.tools.grounding import Speaker
from deepmmsearch.types import Policy, TextSearch, Trajectory, Turn

SUFFIX = "-openwebui"
MOST_HITS = 10
CROP_SIDE = 512
_TITLE_WORDS = 6


def turn_events(turn: Turn) -> Iterator[dict[str, Any]]:
    """A line for a search, with its hits to click on; one with the reason for what failed."""
    seen = turn.observation
    if seen is None:
        return
    urls = [hit.url for hit in seen.hits[:MOST_HITS] if hit.url.startswith(("https://", "http://"))]
    if seen.error:
        yield _status({"description": seen.error, "done": True})
    elif seen.hits:
        query = turn.action.query if isinstance(turn.action, TextSearch) else figure(turn.action)
        said = "Found {{count}} sites" if urls else f"Found {len(seen.hits)} hits"
        yield _status({"action": "web_search", "description": said, "query": query, "urls": urls, "done": True})


def end_events(answer: CitedAnswer) -> Iterator[dict[str, Any]]:
    """The sources, in the order in which the text counts them."""
    for source in answer.sources:
        about = {"source": source.url or source.title, "name": source.title}
        origin = {"id": source.url or source.title, "name": source.title, "url": source.url}
        yield {
            "type": "source",
            "data": {"source": origin, "document": [source.sentence or source.title], "metadata": [about]},
        }


def crop_of(last: Trajectory) -> str | None:
    """The crop that was searched with, as a data URI."""
    crops = [turn.observation.crop for turn in last.turns if turn.observation and turn.observation.crop]
    if not crops:
        return None
    small = crops[-1].copy()
    small.thumbnail((CROP_SIDE, CROP_SIDE))
    return images.data_url(small)


async def task_words(text: str, policy: Policy) -> str:
    """Words about a conversation (title, tags, follow-up questions): by the policy's model where it can be asked
    anything, else plain ones. Nothing is searched."""
    if isinstance(policy, Speaker) and follows_any_prompt(policy):
        try:
            return (await policy.complete([{"role": "user", "content": text}])).text
        except UserError:
            pass
    if "follow_ups" in text:
        return json.dumps({"follow_ups": []})
    if '"tags"' in text:
        return json.dumps({"tags": []})
    if "queries" in text:
        return json.dumps({"queries": []})
    return json.dumps({"title": _title(text)}, ensure_ascii=False)


def _title(text: str) -> str:
    """The first words of what the user said, as the task quotes it."""
    said = text.rpartition("USER:")[2] or text
    return " ".join(said.split("ASSISTANT:")[0].split()[:_TITLE_WORDS]) or "A question"


def _status(data: dict[str, Any]) -> dict[str, Any]:
    return {"type": "status", "data": data}
