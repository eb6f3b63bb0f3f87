"""What holds for every policy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from deepmmsearch import images
from deepmmsearch.testing.contract.checks import Check
from deepmmsearch.types import Completion, Observation, Policy, TextSearch, Trajectory, Turn


@dataclass(frozen=True)
class PolicyCase:
    """A policy, and an episode that it can begin. `repeats`: given the same it writes the same."""

    policy: Policy
    start: Trajectory
    repeats: bool = True

    def begun(self, number: int) -> Trajectory:
        return replace(self.start, question=replace(self.start.question, id=f"q{number}"))


def it_writes_a_turn(case: PolicyCase) -> None:
    _is_one(asyncio.run(case.policy.act(case.start)))


def _is_one(written: Completion) -> None:
    assert isinstance(written, Completion) and isinstance(written.text, str)
    assert written.finish in ("stop", "length", "context") and written.seconds >= 0
    if written.logprobs is not None:
        assert written.ids is not None and len(written.logprobs) == len(written.ids)
        assert all(value <= 1e-6 for value in written.logprobs), "logarithms of probabilities"


def it_goes_on_after_an_observation(case: PolicyCase) -> None:
    """With a token for each id that it sampled, or without ids."""
    first = asyncio.run(case.policy.act(case.start))
    turn = Turn(first, TextSearch("capital of Veld"), Observation("[1] The capital of Veld is Oru."))
    _is_one(asyncio.run(case.policy.act(replace(case.start, turns=(turn,)))))


def the_episode_is_left_alone(case: PolicyCase) -> None:
    question = case.start.question
    before = [images.digest(picture) for picture in question.images]
    asyncio.run(case.policy.act(case.start))
    assert [images.digest(picture) for picture in question.images] == before


def episodes_side_by_side_do_not_mix(case: PolicyCase) -> None:
    async def together() -> list[Completion]:
        return list(await asyncio.gather(*(case.policy.act(case.begun(n)) for n in range(6))))

    async def in_a_row() -> list[Completion]:
        return [await case.policy.act(case.begun(n)) for n in range(6)]

    written = asyncio.run(together())
    for one in written:
        _is_one(one)
    if case.repeats:
        again = asyncio.run(in_a_row())
        assert [(one.text, one.ids) for one in written] == [(one.text, one.ids) for one in again]


def one_that_is_given_up_disturbs_no_other(case: PolicyCase) -> None:
    async def together() -> list[Completion | BaseException]:
        tasks = [asyncio.ensure_future(case.policy.act(case.begun(n))) for n in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, _, *others = asyncio.run(together())
    for one in (first, *others):
        assert isinstance(one, Completion), one
        _is_one(one)


POLICY: tuple[Check[PolicyCase], ...] = (
    it_writes_a_turn,
    it_goes_on_after_an_observation,
    the_episode_is_left_alone,
    episodes_side_by_side_do_not_mix,
    one_that_is_given_up_disturbs_no_other,
)
