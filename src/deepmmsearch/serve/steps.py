"""Turns and answers as words, for doors that have nothing but text: what was thought, looked up, found, and said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deepmmsearch.agent.dialect import parse_reason
from deepmmsearch.agent.table import shown
from deepmmsearch.escaping import one_line, plain
from deepmmsearch.show.citations import Source, read_sources
from deepmmsearch.show.inline import mark
from deepmmsearch.show.terminal import why_none
from deepmmsearch.types import Malformed, Trajectory, Turn

MOST_HITS = 5
MOST_READ = 5


class CitedSpan(NamedTuple):
    """Where `[number]` stands: from `start` to `end`, exclusive."""

    number: int
    start: int
    end: int


@dataclass(frozen=True)
class CitedAnswer:
    """The answer with `[n]` behind what source n says, for each of `sources` once or more; `spans` are where these
    stand in `text`. `read`: what was read besides."""

    text: str
    sources: tuple[Source, ...] = ()
    spans: tuple[CitedSpan, ...] = ()
    read: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a program is answered with. `last`: the episode, None where nothing was played; `unsaved`: why it could not
    be kept."""

    answer: CitedAnswer
    last: Trajectory | None = None
    unsaved: str | None = None

    @property
    def steps(self) -> list[str]:
        """What was done, a text for each turn, and what could not be kept."""
        last = self.last
        steps = [told(turn, last.prompt.dialect).strip() for turn in last.turns] if last is not None else []
        return [step for step in (*steps, self.unsaved) if step]

    @property
    def cut(self) -> bool:
        """Did the tokens not suffice?"""
        return self.last is not None and self.last.stop in ("length", "context")

    @property
    def tokens(self) -> tuple[int, int]:
        """Read and sampled, of all turns."""
        return (0, 0) if self.last is None else (self.last.prompt_tokens or 0, self.last.sampled_tokens)


def cited(trajectory: Trajectory, stop: tuple[str, ...] = ()) -> CitedAnswer:
    """What is said in the end; without an answer, why there is none. `stop`: the answer ends before any of these."""
    if trajectory.answer is None:
        return CitedAnswer(f"No answer: {why_none(trajectory)}", read=_apart((), trajectory))
    answer = plain(trajectory.answer.strip())
    ends = [at for word in stop if word and (at := answer.find(word)) >= 0]
    marked = mark(trajectory, answer[: min(ends)] if ends else answer)
    text, at, spans = "", 0, []
    for each in marked.marks:
        text += f"{marked.text[at : each.place]} "
        spans.append(CitedSpan(each.number, len(text), len(text) + len(f"[{each.number}]")))
        text, at = f"{text}[{each.number}]", each.place
    return CitedAnswer(text + marked.text[at:], marked.sources, tuple(spans), _apart(marked.sources, trajectory))


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
    return "".join(one_line(line) + "\n" for line in lines)
