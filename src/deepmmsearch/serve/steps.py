"""Turns and answers as words, for doors that have nothing but text: what was thought, looked up, found, and said."""

from __future__ import annotations

from dataclasses import dataclass

from deepmmsearch.agent.dialect import parse_reason
from deepmmsearch.agent.table import shown
from deepmmsearch.show.citations import Source, find_sources, read_sources
from deepmmsearch.show.terminal import why_none
from deepmmsearch.types import Malformed, Trajectory, Turn

MOST_HITS = 5
MOST_READ = 5


@dataclass(frozen=True)
class CitedAnswer:
    """The answer with `[n]` behind it, one for each of `sources`; `spans` are where these stand in `text`. `read`: what
    was read besides."""

    text: str
    sources: tuple[Source, ...]
    spans: tuple[tuple[int, int], ...]
    read: tuple[Source, ...]


def cited(trajectory: Trajectory, stop: tuple[str, ...] = ()) -> CitedAnswer:
    """What is said in the end; without an answer, why there is none. `stop`: the answer ends before any of these."""
    if trajectory.answer is None:
        return CitedAnswer(f"No answer: {why_none(trajectory)}", (), (), _apart((), trajectory))
    text = trajectory.answer.strip()
    ends = [at for word in stop if word and (at := text.find(word)) >= 0]
    text = text[: min(ends)] if ends else text
    sources = tuple(find_sources(trajectory))
    spans = []
    for number, _ in enumerate(sources, 1):
        mark = f" [{number}]"
        spans.append((len(text) + 1, len(text) + len(mark)))
        text += mark
    return CitedAnswer(text, sources, tuple(spans), _apart(sources, trajectory))


def _apart(sources: tuple[Source, ...], trajectory: Trajectory) -> tuple[Source, ...]:
    known = {source.url or source.title for source in sources}
    return tuple(s for s in read_sources(trajectory) if (s.url or s.title) not in known)[:MOST_READ]


def told(turn: Turn, dialect: str) -> str:
    """A turn in a few lines, for who watches: it ends with a line end."""
    lines = [reason] if (reason := parse_reason(turn.completion.text, dialect)) else []
    if not isinstance(turn.action, Malformed):
        lines.append(shown(turn.action).line)
    if (seen := turn.observation) is not None:
        if seen.error:
            lines.append(seen.error)
        lines += [f"- {hit.title or 'untitled'} {hit.url}".rstrip() for hit in seen.hits[:MOST_HITS]]
    return "".join(" ".join(line.split()) + "\n" for line in lines)
