"""Trajectories as a page: what was seen, searched and read, turn by turn, beside the answers of other players."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deepmmsearch.agent.dialect import parse_reason, thoughts_of
from deepmmsearch.agent.table import picture_of, shown
from deepmmsearch.judge import is_correct
from deepmmsearch.show.page import Thumbnail, render_page, thumbnail
from deepmmsearch.show.tabulate import Table
from deepmmsearch.types import Box, Malformed, Observation, Trajectory, Turn

OPENED = 3  # so many episodes are unfolded
_STOPPED = {
    "turns": "All calls were used.",
    "length": "The turn or the episode grew too long.",
    "context": "The model's window was full.",
    "filter": "The endpoint's content filter withheld the turn.",
    "refusal": "The model refused.",
    "cut": "The turn was broken off.",
}


def render_episodes(
    title: str,
    lead: str,
    tables: Sequence[Table],
    trajectories: Sequence[Trajectory],
    others: Mapping[str, Iterable[Trajectory]] | None = None,
) -> str:
    """The page; the first few episodes are unfolded. `others`: the trajectories of other players, whose answers stand
    beside."""
    answers = {name: {t.question.id: t.answer for t in played} for name, played in (others or {}).items()}
    cards = [_card(t, answers, number < OPENED) for number, t in enumerate(trajectories)]
    return render_page("episodes.html", title, lead, tables=tables, cards=cards)


@dataclass(frozen=True)
class Other:
    """What another player answered."""

    name: str
    answer: str | None
    right: bool | None


@dataclass(frozen=True)
class AskedPicture:
    """A picture of the question, its size, and what was cut from it, in pixels of that size."""

    thumbnail: Thumbnail
    size: tuple[int, int]
    boxes: Sequence[Box]


@dataclass(frozen=True)
class ShownTurn:
    """A turn, or what was looked up before the first. `written`: the turn as it stands, where it held no action."""

    name: str
    detail: str
    reason: str = ""
    written: str = ""
    observation: Observation | None = None
    thoughts: str = ""


@dataclass(frozen=True)
class Card:
    """One episode, folded unless `opened`. `right`: None where nobody can tell; `verdict`: a judge's words. `label`
    stands in its head; `tags` are classes for filters and must be the program's own."""

    trajectory: Trajectory
    right: bool | None
    label: str
    opened: bool = False
    verdict: str = ""
    tags: Sequence[str] = ()
    others: Sequence[Other] = ()

    @property
    def pictures(self) -> list[AskedPicture]:
        asked = enumerate(self.trajectory.question.images, 1)
        return [AskedPicture(thumbnail(image, "scene"), image.size, self._boxes(number)) for number, image in asked]

    def _boxes(self, number: int) -> list[Box]:
        return [
            t.observation.grounding.box
            for t in self.trajectory.turns
            if t.observation and t.observation.grounding and t.observation.grounding.box
            if picture_of(t.action) == number
        ]

    @property
    def searches(self) -> int:
        return len(self.trajectory.context) or len(self.trajectory.searches)

    @property
    def turns(self) -> list[ShownTurn]:
        asked = ("the whole image", str(self.trajectory.question.metadata.get("rag_query", "")))
        found = zip(asked, self.trajectory.context, strict=False)
        before = [ShownTurn("looked up beforehand", query, observation=seen) for query, seen in found]
        return before + [_shown_turn(turn, self.trajectory.prompt.dialect) for turn in self.trajectory.turns]

    @property
    def stopped(self) -> str:
        """Why there is no answer; "" where there is one."""
        if self.trajectory.stop == "answer":
            return ""
        return self.trajectory.error or _STOPPED.get(self.trajectory.stop or "", "It did not end.")


def _card(trajectory: Trajectory, answers: Mapping[str, Mapping[str, str | None]], opened: bool) -> Card:
    question = trajectory.question

    def right(answer: str | None) -> bool | None:
        return is_correct(answer, question.answers) if question.answers else None

    others = [
        Other(name, given[question.id], right(given[question.id]))
        for name, given in answers.items()
        if question.id in given
    ]
    label = str(question.metadata.get("kind", "")).replace("_", " ")
    return Card(trajectory, right(trajectory.answer), label, opened, others=others)


def _shown_turn(turn: Turn, dialect: str) -> ShownTurn:
    action, written = shown(turn.action), turn.completion.text
    said = written if isinstance(turn.action, Malformed) else ""
    reason, thoughts = parse_reason(written, dialect) or "", thoughts_of(turn.completion)
    return ShownTurn(action.name, action.detail, reason, said, turn.observation, thoughts)
