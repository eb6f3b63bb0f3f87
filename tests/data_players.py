"""Players, judges and labellers of data builds that need no model: what each question's metadata tell, they do.

In a module of its own, because worker processes import it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from data_files import grid
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.data.pipeline import Makers, build
from deepmmsearch.data.recipe import BuildSettings
from deepmmsearch.data.tasks import JudgeFactory
from deepmmsearch.data.taxonomy import KnownLabels
from deepmmsearch.judge import RuleJudge, Verdict
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import FakeTools
from deepmmsearch.types import Completion, Hit, Question, Trajectory

SEARCH = "<reason>I look it up.</reason><text_search>something</text_search>"
WHOLE = "<reason>I look.</reason><img_search><img></img_search>"
CROP = "<reason>I look closer.</reason><img_search>the thing</img_search>"


def says(answer: str) -> str:
    return f"<reason>I know.</reason><answer>{answer}</answer>"


@dataclass(frozen=True)
class ToldPolicy:
    """Writes the turns of `metadata[key]`; a turn "raise" raises. With several rollouts `metadata[key]` holds one list
    for each. Every call is a line of `log`."""

    log: Path
    key: str = "script"
    seconds: float = 0.0

    async def act(self, trajectory: Trajectory) -> Completion:
        import asyncio

        question = trajectory.question
        with self.log.open("a") as file:
            file.write(f"{question.id} {len(trajectory.turns)} {os.getpid()}\n")
        await asyncio.sleep(self.seconds)
        script = question.metadata[self.key]
        if "rollout" in question.metadata:
            script = script[question.metadata["rollout"]]
        turn = script[len(trajectory.turns)]
        if turn == "raise" and not (self.log.parent / "mended").exists():
            raise ConnectionError("the teacher is down")
        return Completion(says("late") if turn == "raise" else turn)


@dataclass(frozen=True)
class ToldPlayers:
    log: Path
    key: str = "script"
    seconds: float = 0.0

    def __call__(self, shard: str, /) -> AgentWorkflow:
        tools = FakeTools(texts={"something": [Hit("Ada", "https://a.example", "It is Ada.")]}).toolbox()
        policy = ToldPolicy(self.log, self.key, self.seconds)
        return AgentWorkflow(policy, load_prompt("deepmmsearch-r1"), lambda question: tools, label="told")


def exact_judge() -> RuleJudge:
    return RuleJudge("exact")


@dataclass(frozen=True)
class MoodyJudge:
    """Is down for questions whose metadata say so, until it is mended; what it is asked is a line of a log."""

    folder: Path

    async def judge(self, question: Question, answer: str | None) -> Verdict:
        with (self.folder / "judged").open("a") as file:
            file.write(f"{question.id}\n")
        down = question.metadata.get("judge", "")
        if (down == "down" or (down and "rollout" in question.metadata)) and not (self.folder / "mended").exists():
            raise ConnectionError("no judge")
        return await exact_judge().judge(question, answer)


def moody_judge(folder: Path) -> JudgeFactory:
    return partial(MoodyJudge, folder)


def fail_at_first(folder: Path, what: str, question: Question) -> None:
    """Raises as often as the question's metadata say in `down`; counts in files, for there may be several processes."""
    key = "rollout" if what == "act" and "rollout" in question.metadata else what
    times = folder / "asked" / f"{key}-{question.id}"
    times.parent.mkdir(exist_ok=True)
    with times.open("a") as file:
        file.write("x")
    if times.stat().st_size <= question.metadata["down"].get(key, 0):
        raise ConnectionError("no answer")


@dataclass(frozen=True)
class FlakyPolicy(ToldPolicy):
    async def act(self, trajectory: Trajectory) -> Completion:
        completion = await super().act(trajectory)
        if not trajectory.turns:
            fail_at_first(self.log.parent, "act", trajectory.question)
        return completion


@dataclass(frozen=True)
class FlakyPlayers(ToldPlayers):
    def __call__(self, shard: str, /) -> AgentWorkflow:
        return replace(super().__call__(shard), policy=FlakyPolicy(self.log, self.key))


@dataclass(frozen=True)
class FlakyJudge:
    folder: Path

    async def judge(self, question: Question, answer: str | None) -> Verdict:
        fail_at_first(self.folder, "judge", question)
        return await exact_judge().judge(question, answer)


@dataclass(frozen=True)
class FlakyLabels:
    folder: Path

    async def label(self, question: Question) -> str | None:
        fail_at_first(self.folder, "label", question)
        return await known_labels().label(question)


def flaky_makers(folder: Path, rollouts: bool = False) -> Makers:
    """As `makers`, by endpoints that fail at first."""
    log = folder / "log"
    return replace(
        makers(log),
        players=FlakyPlayers(log),
        judges=partial(FlakyJudge, folder),
        labelers=partial(FlakyLabels, folder),
        rollout_players=FlakyPlayers(log, "rollouts") if rollouts else None,
    )


def known_labels() -> KnownLabels:
    return KnownLabels("kind", {"animal": "Nature"})


def makers(
    log: Path,
    seconds: float = 0.0,
    rollouts: bool = False,
    judges: JudgeFactory = exact_judge,
    **settings: Mapping[str, Any],
) -> Makers:
    known: dict[str, Mapping[str, Any]] = {"teacher": {"name": "told"}, "judge": {"rule": "exact"}, "labels": {}}
    known |= settings
    return Makers(
        ToldPlayers(log, seconds=seconds),
        judges,
        known_labels,
        known,
        known,
        ToldPlayers(log, "rollouts") if rollouts else None,
    )


def write_seeds(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A file of questions with their pictures: row i shows grid(i) unless it names another number in `picture`."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "questions.jsonl").open("w") as lines:
        for number, row in enumerate(rows):
            shown = row.pop("picture", number)
            grid(shown).save(folder / f"images/{shown}.png")
            lines.write(json.dumps({"id": f"q{number:03d}", "image": f"{shown}.png", **row}) + "\n")
    return folder / "questions.jsonl"


def good(number: int, search: bool = True, kind: str = "Arts") -> dict[str, Any]:
    script = [SEARCH, says("Ada")] if search else [says("Ada")]
    return {"question": f"Who made number {number}?", "answers": ["Ada"], "kind": kind, "script": script}


def main(arguments: list[str]) -> None:
    """SETTINGS LOG SECONDS: a build in a process of its own, to be killed."""
    settings = BuildSettings.model_validate_json(arguments[0])
    began = time.monotonic()
    built = build(settings, makers(Path(arguments[1]), float(arguments[2])))
    print(built.dataset, f"{time.monotonic() - began:.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
