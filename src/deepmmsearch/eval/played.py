"""One question as one workflow answered it: what is measured of an episode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deepmmsearch.eval.faults import followed
from deepmmsearch.eval.run import Judged
from deepmmsearch.eval.workflows import retrievals
from deepmmsearch.judge import gave_up
from deepmmsearch.rewards import crop_quality
from deepmmsearch.sealing import is_sealed
from deepmmsearch.types import Malformed, Trajectory


@dataclass(frozen=True)
class Played:
    """One question as one workflow answered it. `scores` by judge; `unjudged`: why a judge gave no verdict.
    `malformed`: turns that held no action; `unavailable`: those that asked for a tool that is not there. `searches` by
    text, image, crop and other tools; `failed`: those that came back with an error. `seconds` with everything that was
    waited for; `sampled` and `read` are tokens, None where the endpoint hides them; `cost` in US dollars.
    `crop_quality`: mean IoU with the gold box where one is known, else the grounder's score; None without a crop.
    `circular`: the question of which this one is a rotation; it is right where all of them are. `left_out`: the judges
    in whose figures it does not count."""

    benchmark: str
    workflow: str
    question: str
    scores: Mapping[str, float]
    unjudged: str | None
    error: str | None
    gave_up: bool
    followed: bool
    malformed: int
    searches: Mapping[str, int]
    failed: int
    seconds: float
    sampled: int | None
    read: int | None
    cost: float
    crop_quality: float | None
    gold_box: bool
    search_required: bool | None
    kind: str
    category: str
    circular: str = ""
    left_out: frozenset[str] = frozenset()
    unavailable: int = 0

    @property
    def searched(self) -> int:
        return sum(self.searches.values())

    @property
    def several_texts(self) -> bool:
        return self.used("text", 2)

    def used(self, tool: str, times: int = 1) -> bool:
        """At least so many times?"""
        return self.searches.get(tool, 0) >= times


Keep = Callable[[Played], bool]
Value = Callable[[Played], float]


def everything(row: Played) -> bool:
    return True


def _told(trajectory: Trajectory) -> str | None:
    """Why the episode failed; of a question that is published encrypted no more than of which kind it was."""
    error = trajectory.error
    return error.partition(": ")[0] if error is not None and is_sealed(trajectory.question) else error


def measure(trajectory: Trajectory, verdicts: Mapping[str, Judged], benchmark: str = "", workflow: str = "") -> Played:
    metadata = trajectory.question.metadata
    found = retrievals(trajectory)
    sampled = [completion.sampled for completion in trajectory.completions]
    required = metadata.get("search_required")
    return Played(
        benchmark,
        workflow,
        trajectory.question.id,
        {judge: verdict.score for judge, verdict in verdicts.items()},
        next((v.error for v in verdicts.values() if v.error), None),
        _told(trajectory),
        trajectory.error is None and gave_up(trajectory.answer, trajectory.question.answers),
        followed(trajectory.answer),
        sum(isinstance(t.action, Malformed) for t in trajectory.turns),
        Counter(tool for tool, _ in found),
        sum(observation is None or observation.error is not None for _, observation in found),
        trajectory.seconds,
        trajectory.sampled_tokens if any(n is not None for n in sampled) else None,
        trajectory.prompt_tokens,
        trajectory.cost,
        crop_quality(trajectory),
        bool(metadata.get("gold_box")),
        required if isinstance(required, bool) else None,
        str(metadata.get("kind", "")),
        str(metadata.get("category", "")),
        str(metadata.get("circular", "")),
        frozenset(judge for judge, verdict in verdicts.items() if not verdict.counts),
        sum(t.observation is not None and t.observation.unavailable for t in trajectory.turns),
    )
