"""Many questions through the one loop: bounded, complete, and one failure stays one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from PIL import Image

import virtual_time
from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import RAMP, AgentWorkflow, run_all, without_pictures
from deepmmsearch.atlas.play import GoldGrounder, correct, with_gold_boxes
from deepmmsearch.eval.figures import measure_exactly
from deepmmsearch.eval.kinds import by_kind, kind_table
from deepmmsearch.prompts import load_prompt
from deepmmsearch.types import Answer, Box, Completion, Question, Trajectory, Turn

PROMPT = load_prompt("atlas")


class Counting:
    """Answers with the question's id; fails where told to; remembers how many it was asked at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def act(self, trajectory: Trajectory) -> Completion:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        if trajectory.question.text == "fail":
            raise RuntimeError("out of order")
        return Completion(f"<reason>r</reason><answer>{trajectory.question.id}</answer>")


def questions(count: int, taken: list[int] | None = None, failing: int = -1) -> Iterator[Question]:
    for i in range(count):
        if taken is not None:
            taken.append(i)
        yield Question(str(i), "fail" if i == failing else "?", answers=(str(i),), metadata={"kind": "look"})


def agent(policy: Counting) -> AgentWorkflow:
    return AgentWorkflow(policy, PROMPT, lambda _: Toolbox(), label="c")


async def everything(source: Iterable[Question], policy: Counting, concurrency: int) -> list[Trajectory]:
    return [t async for t in run_all(source, agent(policy), concurrency)]


async def test_all_are_played_and_never_more_than_asked_for_at_once() -> None:
    policy = Counting()
    rows = await everything(questions(23), policy, 4)
    assert sorted(int(t.question.id) for t in rows) == list(range(23))
    assert policy.most == 4 and all(t.stop == "answer" and t.policy == "c" and correct(t) for t in rows)


async def test_questions_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []
    rows = run_all(questions(1000, taken), agent(Counting()), concurrency=3)
    await anext(rows)
    await rows.aclose()
    assert len(taken) < 10


async def test_one_failure_is_data() -> None:
    rows = await everything(questions(5, failing=2), Counting(), 2)
    failed = [t for t in rows if t.stop == "error"]
    assert [t.question.id for t in failed] == ["2"] and "out of order" in (failed[0].error or "")
    assert sum(map(correct, rows)) == 4


async def test_each_question_is_grounded_by_its_own_box() -> None:
    tools_for = with_gold_boxes(Toolbox())
    question = Question("a", "?", metadata={"gold_box": [1, 2, 3, 4]})
    grounder = tools_for(question).grounder
    assert grounder is not None
    assert await grounder.locate(Image.new("RGB", (9, 9)), "x") == [Box(1, 2, 3, 4)]
    assert tools_for(replace(question, metadata={})).grounder == GoldGrounder(None)


def test_scores_by_kind() -> None:
    def played(kind: str, said: str) -> Trajectory:
        question = Question("q", "?", answers=("yes",), metadata={"kind": kind})
        return Trajectory(question, PROMPT, turns=(Turn(Completion(""), Answer(said)),), stop="answer")

    rows = measure_exactly(
        [played("two_text", "yes"), played("look", "The yes!"), played("look", "no"), played("zebra", "no")]
    )
    kinds = by_kind(rows)
    assert {kind: len(rows) for kind, rows in kinds.items()} == {"look": 2, "two_text": 1, "zebra": 1, "all": 4}
    table = kind_table({"one": rows, "two": kinds["two_text"]})
    assert table.columns == ["kind", "one", "two"]
    assert table.rows[0] == ["look", "1/2  50%", "-"] and table.rows[3] == ["all", "2/4  50%", "1/1 100%"]
    assert table.rows[-1] == ["searches a question", "0.00", "0.00"]


def test_without_pictures_keeps_everything_else() -> None:
    question = Question("q", "?", (Image.new("RGB", (4, 4)),), ("yes",))
    bare = without_pictures(Trajectory(question, PROMPT))
    assert bare.question == replace(question, images=())


def test_the_first_episodes_do_not_march_in_step() -> None:
    begun: list[float] = []

    class Slow(Counting):
        async def act(self, trajectory: Trajectory) -> Completion:
            begun.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.1)
            return await super().act(trajectory)

    virtual_time.run(everything(list(questions(16)), Slow(), 8))
    assert begun[7] - begun[0] == pytest.approx(7 * RAMP) == begun[15] - begun[8]
