"""The golden table: what each paper's definition gives, worked out by hand."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from conftest import Offer
from deepmmsearch.agent.regions import overlap
from deepmmsearch.judge import RuleJudge
from deepmmsearch.prompts import load_prompt
from deepmmsearch.rewards import REWARDS, RewardSettings, Score, build_reward, crop_quality, well_formed
from deepmmsearch.types import (
    Action,
    Answer,
    Box,
    Completion,
    Grounding,
    ImageSearch,
    Malformed,
    Observation,
    Question,
    TextSearch,
    Trajectory,
    Turn,
)

DEEP = RewardSettings()
MM = RewardSettings.model_validate("mmsearch-r1")
EACH = RewardSettings.model_validate({"kind": "mmsearch-r1", "per_search": True})
COST = RewardSettings.model_validate({"call_cost": 0.05})

RIGHT, WRONG = Answer("The Veld."), Answer("Ostra")
TEXT, WHOLE, CROP, BAD = TextSearch("veld"), ImageSearch(), ImageSearch("the flag on the ship"), Malformed("no action")


def played(*actions: Action, gold: tuple[float, ...] | None = None, box: Box | None = None) -> Trajectory:
    turns = []
    for action in actions:
        grounding = Grounding("x", box) if isinstance(action, ImageSearch) and action.region else None
        seen = None if isinstance(action, Answer) else Observation("found", grounding=grounding)
        turns.append(Turn(Completion("…"), action, seen))
    metadata = {"gold_box": list(gold)} if gold else {}
    question = Question("q", "Whose flag?", answers=("Veld",), metadata=metadata)
    stop = "answer" if actions and isinstance(actions[-1], Answer) else "turns"
    return Trajectory(question, load_prompt("deepmmsearch-r1"), turns=tuple(turns), stop=stop)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "actions", "value"),
    [
        (DEEP, (RIGHT,), 1.0),
        (DEEP, (TEXT, RIGHT), 1.0),
        (DEEP, (CROP, TEXT, TEXT, RIGHT), 1.0),
        (DEEP, (WRONG,), 0.1),
        (DEEP, (BAD, RIGHT), 0.9),
        (DEEP, (BAD, WRONG), 0.0),
        (DEEP, (TEXT, TEXT), 0.0),  # no answer: neither right nor well formed
        (DEEP, (), 0.0),
        (MM, (RIGHT,), 1.0),
        (MM, (TEXT, RIGHT), 0.91),
        (MM, (WHOLE, TEXT, TEXT, RIGHT), 0.91),  # the penalty falls once
        (MM, (TEXT, WRONG), 0.1),
        (MM, (BAD, TEXT, RIGHT), 0.81),
        (EACH, (TEXT, TEXT, RIGHT), 0.9 * 0.81 + 0.1),
        (EACH, (WHOLE, TEXT, TEXT, RIGHT), 0.9 * 0.729 + 0.1),
        (COST, (TEXT, TEXT, RIGHT), 0.9 * 0.9 + 0.1),
        (COST, (TEXT, TEXT, WRONG), 0.1),  # a wrong answer has nothing to lose
        (RewardSettings.model_validate({"format_weight": 0.0}), (BAD, RIGHT), 1.0),
        (RewardSettings.model_validate({"kind": "mmsearch-r1", "search_penalty": 0.5}), (TEXT, RIGHT), 0.55),
    ],
)
async def test_golden_table(settings: RewardSettings, actions: tuple[Action, ...], value: float) -> None:
    score = await build_reward(settings, RuleJudge("exact"))(played(*actions))
    assert score.value == pytest.approx(value, abs=1e-12)


async def test_parts_are_kept_apart() -> None:
    score = await build_reward(MM, RuleJudge("exact"))(played(BAD, TEXT, RIGHT))
    assert score.parts == {"correct": 1.0, "format": 0.0, "penalty": 0.9}


@given(st.lists(st.sampled_from([TEXT, WHOLE, CROP]), max_size=12))
def test_format_holds_for_any_number_of_turns(searches: list[Action]) -> None:
    assert well_formed(played(*searches, RIGHT))
    assert not well_formed(played(*searches))
    assert not well_formed(played(*searches, BAD, RIGHT))


async def test_crop_quality_is_the_overlap_with_the_gold_box() -> None:
    settings = RewardSettings.model_validate({"crop_weight": 0.2})
    half = played(CROP, RIGHT, gold=(0, 0, 10, 10), box=Box(0, 0, 10, 5))
    assert crop_quality(half) == pytest.approx(0.5)
    score = await build_reward(settings, RuleJudge("exact"))(half)
    assert (score.value, score.parts["crop"]) == (pytest.approx(1.1), pytest.approx(0.5))
    assert crop_quality(played(CROP, RIGHT, gold=(0, 0, 10, 10))) == 0.0
    assert crop_quality(played(CROP, RIGHT, box=Box(0, 0, 1, 1, score=0.7))) == pytest.approx(0.7)
    assert crop_quality(played(WHOLE, RIGHT, gold=(0, 0, 10, 10))) is None


def test_overlap_of_boxes_apart_and_without_area_is_zero() -> None:
    assert overlap(Box(0, 0, 1, 1), Box(2, 2, 3, 3)) == 0.0
    assert overlap(Box(0, 0, 0, 0), Box(0, 0, 0, 0)) == 0.0
    assert overlap(Box(0, 0, 4, 4), Box(0, 0, 4, 4)) == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"search_penalty": 0.8}, "Unknown setting of the reward deepmmsearch-r1 'search_penalty'"),
        ({"kind": "mmsearch-r1", "per_serach": True}, "Did you mean 'per_search'"),
        ({"format_weight": 2}, "format_weight: Input should be less than or equal to 1, found 2"),
        ({"judge": "exact"}, "Unknown setting of the reward deepmmsearch-r1 'judge'"),
        ("mmsearch-r2", "Unknown reward 'mmsearch-r2'. Did you mean 'mmsearch-r1'"),
        ("math:pi", "The reward 'math:pi' is not a function"),
    ],
)
def test_what_a_reward_does_not_take_is_refused(given: object, message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        RewardSettings.model_validate(given)


async def test_a_reward_of_ones_own_with_its_settings(offer: Offer) -> None:
    folder = offer(REWARDS.group, brief="their_rewards:brief")
    (folder / "their_rewards.py").write_text(
        "from deepmmsearch.rewards import Score\n\n"
        "async def brief(trajectory, judge, words: int, weight: float = 0.5):\n"
        "    verdict = await judge.judge(trajectory.question, trajectory.answer)\n"
        "    short = float(len(trajectory.answer.split()) <= words)\n"
        "    return Score(verdict.score + weight * short, {'correct': verdict.score, 'short': short})\n"
    )
    for kind in ("brief", "their_rewards:brief"):
        settings = RewardSettings.model_validate({"kind": kind, "words": "2"})
        assert settings.model_dump() == {"kind": kind, "words": 2, "weight": 0.5}
        again = RewardSettings.model_validate(settings.model_dump())
        score = await build_reward(again, RuleJudge("exact"))(played(RIGHT))
        assert score == Score(1.5, {"correct": 1.0, "short": 1.0})
    with pytest.raises(ValidationError, match=r"The reward brief needs the setting words\."):
        RewardSettings.model_validate("brief")
